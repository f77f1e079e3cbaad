"""`cairn test` and `cairn freeze`: against a real server, with a worker that computes nothing."""

import json
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from app.wire.measuring import ErrorReport, ErrorRow, ModelErrors, Quantity, WorstFrame
from tests.app.cli.conftest import Cairn, Server
from tests.app.cli.test_deviating import SEEDS, next_queued
from tests.app.simulated import SimulatedAttempt, SimulatedWorker

REPORT = ErrorReport(
    library="deepmd-kit 3.2.0",
    data=["dataset:copper@1/md"],
    quantities=[
        Quantity(key="rmse_f", title="Force RMSE", unit="eV/Å", headline=True),
        Quantity(key="mae_f", title="Force MAE", unit="eV/Å"),
    ],
    models=[
        ModelErrors(
            model="job:1@200",
            sha256="0" * 64,
            overall={"rmse_f": 0.123456789, "mae_f": None},
            systems=[ErrorRow(name="copper@1/md", frames=10, atoms=32, errors={"rmse_f": 0.123456789})],
            elements=[ErrorRow(name="Cu", atoms=320, errors={"rmse_f": 0.25})],
            worst=[WorstFrame(system="copper@1/md", frame=7, atoms=32, by=["force"], largest_force_error=0.9, atom=3)],
            worst_file="worst.extxyz",
        )
    ],
)
PAPER = {
    "file": "frozen_model.pth", "sha256": "ab" * 32, "model": "job:1@200", "tensors": 40,
    "same_frame": {"atoms": 27, "energy_difference": 0.0, "force_difference": 2e-16},
}  # fmt: skip


@pytest.fixture
def model(cairn: Cairn, file: Path, worker: SimulatedWorker, empty_queue: None) -> str:
    """A trained model."""
    job_id = cairn("submit", file, "--seed", next(SEEDS), "--json").json["id"]
    attempt = worker.claim(job_id)
    attempt.checkpoint(200, data=f"weights of {job_id}".encode())
    attempt.end("completed", 1000)
    return f"job:{job_id}"


@pytest.fixture
def beside(server: Server, worker: SimulatedWorker) -> Callable[..., threading.Thread]:
    """Do the next job that is submitted, as a worker would: it leaves these files."""

    def beside(**files: str) -> threading.Thread:
        def work() -> None:
            attempt = worker.claim(next_queued(server))
            for name, content in files.items():
                put(attempt, name.replace("__", "."), content)
            attempt.end("completed", attempt.claim["total_steps"])

        thread = threading.Thread(target=work)
        thread.start()
        return thread

    return beside


def put(attempt: SimulatedAttempt, name: str, content: str) -> None:
    media_type = "application/json" if name.endswith(".json") else "application/octet-stream"
    about = attempt.upload(content.encode()) | {"name": name, "media_type": media_type}
    assert attempt.send("POST", f"{attempt.path}/files", json=about).status_code == 204


def test_errors_are_printed_in_full_and_fetched(
    cairn: Cairn, beside: Callable[..., threading.Thread], model: str, copper: str, tmp_path: Path
) -> None:
    thread = beside(test__json=REPORT.model_dump_json(), worst__extxyz="frames")
    done = cairn("test", model, "--data", copper, "-n", 5, "-o", f"{tmp_path}/")
    thread.join()
    assert done.code == 0, done.err
    for shown in ("1.234568e-01", "not finite", "Cu", "0.25", "frame 7 of copper@1/md", "worst.extxyz"):
        assert shown in done.out, shown
    assert (tmp_path / "worst.extxyz").read_text() == "frames"
    number = done.out.split("Job ")[1].split()[0]
    assert cairn("show", number, "--json").json["resolved"]["numb_test"] == 5
    shown = cairn("show", model.removeprefix("job:"))
    assert f"job {number}, step 200 on {copper}/md" in shown.out, shown.out
    assert re.search(rf"{number} +test +{model}@200 on copper +completed", cairn("ls").out)


def test_a_frozen_model_comes_with_its_proof_and_is_not_frozen_twice(
    cairn: Cairn, beside: Callable[..., threading.Thread], model: str, tmp_path: Path
) -> None:
    thread = beside(frozen_model__pth="frozen", frozen_model__json=json.dumps(PAPER))
    target = tmp_path / "model.pth"
    done = cairn("freeze", model, "-o", target)
    thread.join()
    assert done.code == 0, done.err
    assert "all 40 tensors are the checkpoint's, bit for bit" in done.out
    assert target.read_text() == "frozen"
    again = cairn("freeze", model, "--json")
    assert (again.json["files"], again.json["job"]) == ([PAPER], int(done.out.split("Job ")[1].split()[0]))
    assert f"{model}@200 is" in cairn("freeze", model, "--new", "--detach").out, "named after its model"


def test_what_is_wrong_is_said_with_its_place(cairn: Cairn, model: str, copper: str) -> None:
    for command in (("test", model, "--data", copper, "--head", "a"), ("freeze", model, "--head", "a")):
        refused = cairn(*command)
        assert (refused.code, "/config/head" in refused.err) == (1, True), refused.err
    refused = cairn("freeze", "job:999999")
    assert (refused.code, "/config/models/0" in refused.err) == (1, True)
