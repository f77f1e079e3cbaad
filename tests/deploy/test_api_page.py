"""`docs/api.md` names every route that people use, and every error status there is."""

import re
from collections.abc import Iterator
from pathlib import Path

from fastapi import FastAPI

import app.main  # noqa: F401  (loads every module that defines an error)
from app.errors import AppError
from app.main import create_app
from app.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()


def errors(kind: type[AppError] = AppError) -> Iterator[type[AppError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from errors(below)


def test_every_kind_of_error_has_a_line() -> None:
    documented = set(re.findall(r"^\| (\d{3}) \| `([a-z-]+)` \|", PAGE, re.MULTILINE))
    assert {(str(kind.status), kind.code) for kind in errors() if kind.__module__.startswith("app.")} <= documented


def routes(service: FastAPI) -> set[str]:
    paths = service.openapi()["paths"]
    return {path.removeprefix("/api/v1") for path in paths if not path.startswith("/api/v1/worker/")}


def test_every_route_has_a_line(tmp_path: Path) -> None:
    documented = {
        re.sub(r"/(ID|CID|OTHER|SHA256-SIZE|NAME(\[@VERSION\])?)(?=/|$)", "/{}", path)
        for path in re.findall(r"`[A-Z]+ (/[^`?]*)", PAGE)
    }
    service = create_app(Settings(data_dir=tmp_path))
    missing = {path for path in routes(service) if re.sub(r"\{[a-z_]+\}", "{}", path) not in documented}
    assert missing == set()
