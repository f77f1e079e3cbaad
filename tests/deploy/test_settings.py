"""`docs/settings.md` lists every setting there is, as it is, and nothing else."""

import re
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from app.settings import Settings
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "settings.md").read_text()

CLIENT = {"CAIRN_URL", "CAIRN_TOKEN", "CAIRN_DATA_DIR"}
COMPOSE = {"CAIRN_DB_PASSWORD"}


def row(kind: type[BaseSettings], name: str) -> str:
    field = kind.model_fields[name]
    home = str(Path.home())
    default = "" if field.default in (None, []) else f"`{str(field.default).replace(home, '~')}`"
    return f"| `CAIRN_{name.upper()}` | {default} | {field.description} |"


def section(title: str) -> str:
    match = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert match is not None, f"no section {title}"
    return match[1]


@pytest.mark.parametrize(
    ("title", "kind"), [("Control plane", Settings), ("Worker", WorkerSettings)], ids=["control plane", "worker"]
)
def test_every_setting_is_documented_as_it_is(title: str, kind: type[BaseSettings]) -> None:
    expected = [row(kind, name) for name in kind.model_fields]
    found = re.findall(r"^\| `CAIRN_.*$", section(title), re.MULTILINE)
    assert found == expected, "the rows should be:\n" + "\n".join(expected)


def test_nothing_is_documented_that_is_not_there() -> None:
    known = {f"CAIRN_{name.upper()}" for kind in (Settings, WorkerSettings) for name in kind.model_fields}
    assert set(re.findall(r"\bCAIRN_[A-Z0-9_]+", DOCUMENT)) <= known | CLIENT | COMPOSE


def test_the_compose_file_and_the_images_only_set_what_is_there() -> None:
    known = {f"CAIRN_{name.upper()}" for kind in (Settings, WorkerSettings) for name in kind.model_fields}
    for path in (ROOT / "docker-compose.yml", *ROOT.glob("deploy/*.Dockerfile")):
        assert set(re.findall(r"\bCAIRN_[A-Z0-9_]+", path.read_text())) <= known | COMPOSE, path.name
