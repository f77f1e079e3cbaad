"""The demo: each step by itself, and once as a whole."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import demo
from app.cli import data
from app.cli.api import Api, connect
from app.cli.server import Server as Address
from tests.app.cli.conftest import Server
from tests.app.simulated import SimulatedWorker

ROOT = Path(__file__).parents[3]

PRINTED = """
[2026-01-01 10:00:00,000] DEEPMD INFO    # ---------------output of dp test---------------
[2026-01-01 10:00:00,000] DEEPMD INFO    # testing system : /data/copper/held-out-800K
[2026-01-01 10:00:01,000] DEEPMD INFO    # number of test data : 20
[2026-01-01 10:00:01,000] DEEPMD INFO    Energy MAE         : 9.300000e-01 eV
[2026-01-01 10:00:01,000] DEEPMD INFO    Energy RMSE        : 1.013000e+00 eV
[2026-01-01 10:00:01,000] DEEPMD INFO    Energy MAE/Natoms  : 2.906250e-02 eV
[2026-01-01 10:00:01,000] DEEPMD INFO    Energy RMSE/Natoms : 3.165625e-02 eV
[2026-01-01 10:00:01,000] DEEPMD INFO    Force  MAE         : 4.942200e-01 eV/Å
[2026-01-01 10:00:01,000] DEEPMD INFO    Force  RMSE        : 6.371600e-01 eV/Å
[2026-01-01 10:00:01,000] DEEPMD INFO    Virial MAE         : 1.000000e+00 eV
[2026-01-01 10:00:01,000] DEEPMD INFO    # ----------weighted average of errors-----------
[2026-01-01 10:00:01,000] DEEPMD INFO    Energy MAE/Natoms  : 1.000000e-03 eV
[2026-01-01 10:00:01,000] DEEPMD INFO    Energy RMSE/Natoms : 2.000000e-03 eV
[2026-01-01 10:00:01,000] DEEPMD INFO    Force  MAE         : 3.000000e-02 eV/Å
[2026-01-01 10:00:01,000] DEEPMD INFO    Force  RMSE        : 4.000000e-02 eV/Å
"""


def test_what_dp_prints_is_read_by_system_and_per_atom() -> None:
    found = demo.parse_test(PRINTED)
    assert set(found) == {"held-out-800K", "all"}
    assert found["held-out-800K"] == pytest.approx(
        {"energy_mae": 0.0290625, "energy_rmse": 0.03165625, "force_mae": 0.49422, "force_rmse": 0.63716}
    )
    assert found["all"] == pytest.approx(
        {"energy_mae": 1e-3, "energy_rmse": 2e-3, "force_mae": 0.03, "force_rmse": 0.04}
    )


@pytest.fixture(scope="module")
def api(server: Server, systems: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The server with data under the names that the example uses."""
    directory = tmp_path_factory.mktemp("copper")
    for name in ("md-300K", "md-600K", "md-1000K", "strained", "held-out-800K", "held-out-strained"):
        shutil.copytree(systems / "md", directory / name)
    with connect(Address(server.url, server.token(), "test", "test")) as api:
        data.upload(api, directory, {"name": "copper", "engine": "deepmd"})
        yield api


def test_a_second_demo_trains_nothing_twice(api: Api, worker: SimulatedWorker) -> None:
    first = demo.submit(api, 10)
    assert first.progress.total_steps == 10
    assert demo.submit(api, 10).id == first.id, "it waits"
    attempt = worker.claim(first.id)
    assert demo.submit(api, 10).id == first.id, "it runs"
    attempt.checkpoint(10)
    attempt.end("completed", 10)
    assert demo.submit(api, 10).id == first.id, "it is done"
    second = demo.submit(api, None)
    assert second.id != first.id
    assert second.progress.total_steps > 1000, "the example's own number"


@pytest.mark.deepmd
@pytest.mark.timeout(900)
def test_the_demo_from_nothing_to_a_tested_potential(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "app.cli.main", "demo", "--exit", "--steps", "20", "--port", "0"]
    done = subprocess.run(
        [*command, "--data-dir", str(tmp_path / "demo")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Job 1 completed after 20 steps" in done.stdout
    for system in ("held-out-800K", "held-out-strained", "all"):
        assert re.search(rf"{system}\b.*\d+\.\d\d", done.stdout)
    assert "times smaller" in done.stdout
    assert list((tmp_path / "demo" / "models" / "job-1").glob("*-step20.pt"))
    assert (tmp_path / "demo" / "models" / "job-1" / "frozen_model.pth").stat().st_size > 0
