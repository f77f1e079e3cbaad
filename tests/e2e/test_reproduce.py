"""Jobs on trained models, by a real worker: one run again to the same bits, two compared, two on one set of data."""

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.conftest import ON_SQLITE, Service, tiny_config

pytestmark = [pytest.mark.deepmd, ON_SQLITE]


@pytest.fixture(scope="package")
def other(service: Service, trained: dict[str, Any]) -> dict[str, Any]:
    """The same from another seed."""
    job = service.submit(tiny_config(), seed=trained["seed"] + 1, determinism="strict")
    return service.wait(job["id"], "completed")


def verdict(service: Service, job_id: int) -> str | None:
    """Wait for the verdict that the server puts on a reproduction."""
    deadline = time.monotonic() + 120
    while (found := service.job(job_id)["reproduction"]) is None and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def test_a_job_repeats_bit_for_bit(service: Service, trained: dict[str, Any]) -> None:
    done = service.cli("reproduce", str(trained["id"]), "--follow")
    assert "identical: 40 steps, 2 checkpoints" in done.stdout
    (job,) = service.client.get("/api/v1/jobs", params={"name": "reproduction of first"}).json()["items"]
    assert (job["digest"], job["reproduces"]) == (trained["digest"], trained["id"])
    assert verdict(service, job["id"]) == "identical"
    told = service.client.get(f"/api/v1/jobs/{job['id']}/events").json()
    assert "identical: 40 steps, 2 checkpoints" in [
        event["message"] for event in told if event["kind"] == "reproduction"
    ]
    found = json.loads(service.cli("compare", str(trained["id"]), str(job["id"]), "--json").stdout)
    assert {pair["stage"] for pair in found["beginning"]} == {"init", "statistics"}
    assert found["environment"]["differences"] == []


def test_another_seed_differs_from_the_first_weights_on(
    service: Service, trained: dict[str, Any], other: dict[str, Any]
) -> None:
    done = service.cli("compare", str(trained["id"]), str(other["id"]), "--json", check=False)
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert (found["fingerprint"]["stage"], found["divergence"]["step"], found["steps"]) == ("init", 1, 0)
    assert "/seed" in {difference["pointer"] for difference in found["spec"]}
    assert "lr" not in {difference["key"] for difference in found["first_differences"]}


def test_two_models_are_compared_on_data_though_the_trainer_is_killed(
    service: Service, trained: dict[str, Any], other: dict[str, Any], tmp_path: Path
) -> None:
    models = [f"job:{trained['id']}", f"job:{other['id']}"]
    job = json.loads(service.cli("model-devi", *models, "--data", "dataset:copper", "--detach", "--json").stdout)
    kill_trainer(service, job["id"])
    ended = service.wait(job["id"], "completed")
    assert [attempt["state"] for attempt in ended["attempts"]] == ["interrupted", "completed"]
    frames = list(range(1, ended["progress"]["total_steps"] + 1))
    found = service.metrics(job["id"], "devi/max_f", "devi/e")
    assert found["steps"]["devi/max_f"] == found["steps"]["devi/e"] == frames
    service.cli("download", str(job["id"]), "files", "--output", f"{tmp_path}/")
    lines = (tmp_path / "model_devi.out").read_text().splitlines()
    assert [line for line in lines if line.startswith("# copper@1/")] == [
        f"# {ref.removeprefix('dataset:')}" for ref in job["resolved"]["data"]
    ]
    written = [float(line.split()[4]) for line in lines if not line.startswith("#")]
    assert written == pytest.approx(found["values"]["devi/max_f"], rel=1e-6)
    assert min(written) > 0


def kill_trainer(service: Service, job_id: int) -> None:
    """Kill -9 the process of a job's first attempt as soon as it is there."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for worker in service.worker_processes():
            for process in worker.children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if process.name() == f"cairn {job_id}-1":
                        process.kill()
                        return
        time.sleep(0.01)
    raise AssertionError(f"job {job_id} was never begun")
