"""Base models from the command line, against a real server and a simulated worker."""

import hashlib
import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, select, update
from sqlalchemy.orm import Session

from app.cli.weights import default_name
from app.tables import Errand, Worker
from app.tables.base import now
from tests.app.cli.conftest import Cairn, Server
from tests.app.simulated import SimulatedErrand, SimulatedWorker, base_facts


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of weights, as far as anybody here looks."""
    path = tmp_path / "Water PBE.pt"
    path.write_bytes(b"weights of " + str(tmp_path).encode())
    return path


class Inspector:
    """Does errands as they come, in a thread."""

    def __init__(self, server: Server, worker: SimulatedWorker) -> None:
        self.worker = worker
        self.facts = base_facts()
        self.refusal: str | None = None
        self._engine = create_engine(server.settings.effective_database_url)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._closed.wait(0.05):
            with Session(self._engine) as session:
                ids = list(session.scalars(select(Errand.id).where(Errand.state == "waiting")))
            for errand_id in ids:
                self._do(self.worker.take_errand(errand_id))

    def _do(self, errand: SimulatedErrand) -> None:
        answer = errand.refuse(self.refusal) if self.refusal else errand.answer(result=self.facts)
        assert answer.status_code == 204

    def close(self) -> None:
        self._closed.set()
        self._thread.join()
        self._engine.dispose()


@pytest.fixture
def inspector(server: Server, worker: SimulatedWorker) -> Iterator[Inspector]:
    """A worker that finds a small model of copper in every file."""
    worker.presence()
    inspector = Inspector(server, worker)
    yield inspector
    inspector.close()


def test_a_file_is_added_and_what_is_in_it_is_shown(cairn: Cairn, file: Path, inspector: Inspector) -> None:
    done = cairn("model", "add", file)
    assert done.code == 0, done.err
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    for word in ("water-pbe@1", "ready", "se_e2_a", "deepmd-kit 3.2.0", "Cu", "6 in 1 tensors", digest):
        assert word in done.out, word
    assert hashlib.md5(file.read_bytes()).hexdigest() in done.out
    assert '"base": "water-pbe@1"' in done.out
    again = cairn("model", "add", file, "--name", "water-pbe", "--json").json
    assert (again["version"], again["state"]) == (1, "ready")


def test_a_refused_file_is_a_failure_with_the_reason(cairn: Cairn, file: Path, inspector: Inspector) -> None:
    inspector.refusal = "it is a picture of a cat"
    done = cairn("model", "add", file, "--name", "cat")
    assert done.code == 1
    assert "cat@1 was refused: it is a picture of a cat" in done.err
    assert "picture" in cairn("model", "show", "cat").out
    as_json = cairn("model", "add", file, "--name", "cat", "--json")
    assert (as_json.code, as_json.json["state"]) == (1, "refused")
    assert '"code": "unusable"' in as_json.err


def test_without_a_worker_nobody_waits(cairn: Cairn, server: Server, file: Path) -> None:
    engine = create_engine(server.settings.effective_database_url)
    with Session(engine) as session:
        session.execute(update(Worker).values(last_seen_at=now() - timedelta(hours=1)))
        session.commit()
    engine.dispose()
    done = cairn("model", "add", file, "--name", "lonely")
    assert done.code == 0
    assert "inspecting" in done.out
    assert "No worker with the engine deepmd is there" in done.err
    assert cairn("model", "show", "lonely", "--json").json["state"] == "inspecting"


def test_models_are_listed_and_shown(cairn: Cairn, file: Path, inspector: Inspector) -> None:
    assert "No base models" in cairn("model", "ls", "--name", "unused").out
    elements = ["O", "H", "C", "N", "S", "P", "Cu", "Au"]
    branch = {"model": {}, "parameters": 3, "type_map": elements}
    inspector.facts = base_facts(
        branches=[branch | {"name": "H2O"}, branch | {"name": "metals"}],
        warnings=[{"code": "old", "message": "it was written by an old library"}],
    )
    assert cairn("model", "add", file, "--name", "multi").code == 0
    listed = cairn("model", "ls", "--name", "multi")
    assert "multi@1" in listed.out
    assert "(8)" in listed.out
    assert [item["name"] for item in cairn("model", "ls", "--name", "multi", "--json").json] == ["multi"]
    shown = cairn("model", "show", "multi@1", "--tensors").out
    for word in ("H2O", "metals", "descriptor.w", "2×3", "float64", "parameter", "old library"):
        assert word in shown, word
    assert "descriptor.w" not in cairn("model", "show", "multi").out


def test_a_checkpoint_is_promoted(cairn: Cairn, inspector: Inspector, config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "input.json").write_text(json.dumps(config))
    job = cairn("submit", tmp_path / "input.json", "--json").json["id"]
    assert cairn("model", "promote", job).code == 1
    attempt = inspector.worker.claim(job)
    assert attempt.checkpoint(200).status_code == 200
    done = cairn("model", "promote", job)
    assert done.code == 0, done.err
    assert f"from job {job}, step 200" in done.out
    named = cairn("model", "promote", job, "--step", 200, "--name", "water", "--json").json
    assert (named["name"], named["step"]) == ("water", 200)
    missing = cairn("model", "promote", job, "--step", 300)
    assert missing.code == 1
    assert "There are steps 200" in missing.err
    assert cairn("model", "promote", job, "--name", "Not a name").code == 2
    downloaded = cairn("model", "download", f"job:{job}@200", "-o", tmp_path / "got.pt", "--json").json
    assert (tmp_path / "got.pt").read_bytes() == b"weights of step 200"
    assert downloaded[0]["sha256"] == named["sha256"]


def test_a_model_is_downloaded_as_it_came(cairn: Cairn, file: Path, inspector: Inspector, tmp_path: Path) -> None:
    cairn("model", "add", file, "--name", "down")
    target = tmp_path / "got"
    target.mkdir()
    done = cairn("model", "download", "down", "--output", target)
    assert done.code == 0, done.err
    assert (target / "Water_PBE.pt").read_bytes() == file.read_bytes()
    assert "verified" in done.out


def test_a_version_is_deleted_only_by_its_full_name(cairn: Cairn, file: Path, inspector: Inspector) -> None:
    cairn("model", "add", file, "--name", "gone")
    unclear = cairn("model", "rm", "gone")
    assert unclear.code == 1
    done = cairn("model", "rm", "gone@1")
    assert (done.code, done.out) == (0, "gone@1 is deleted.\n"), done.err
    assert cairn("model", "show", "gone@1").code == 1


def test_what_does_not_exist_is_named(cairn: Cairn, tmp_path: Path, inspector: Inspector, file: Path) -> None:
    cairn("model", "add", file, "--name", "known")
    for command in (("show", "knwon"), ("download", "knwon")):
        done = cairn("model", *command)
        assert done.code == 1
        assert "Did you mean: known" in done.err
    assert cairn("model", "add", tmp_path / "none.pt").code == 2
    assert cairn("model", "add", tmp_path, "--name", "directory").code == 2
    (tmp_path / "empty.pt").touch()
    empty = cairn("model", "add", tmp_path / "empty.pt")
    assert empty.code == 1
    assert "is empty" in empty.err


@pytest.mark.parametrize("name", ["Water", "with space", "-dash", "x" * 64])
def test_a_name_that_cannot_be_is_refused_before_anything_is_sent(bare: Cairn, file: Path, name: str) -> None:
    done = bare("model", "add", file, f"--name={name}")
    assert done.code == 2
    assert "is no name for a base model" in done.err


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/models/Water PBE.pt", "water-pbe"),
        ("frozen_model.pth", "frozen_model"),
        ("model.ckpt-100.pt", "model.ckpt-100"),
    ],
)
def test_a_name_is_made_of_the_files(path: str, name: str) -> None:
    assert default_name(Path(path)) == name
