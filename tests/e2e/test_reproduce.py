"""A job run again by a real worker: the same bits from the first weights to the last, and what another seed changes."""

import json
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Service
from tests.e2e.test_main_job import tiny_config

pytestmark = [
    pytest.mark.deepmd,
    pytest.mark.xdist_group("e2e-reproduce"),
    # What the server makes of two runs is tested on PostgreSQL too, with a simulated worker (tests/app/jobs).
    pytest.mark.parametrize("service", ["sqlite"], indirect=True, scope="module"),
]


@pytest.fixture(scope="module")
def original(service: Service, copper: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A strict training of 40 steps with checkpoints at 20 and 40."""
    archive = tmp_path_factory.mktemp("archive") / "copper.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(copper, arcname=".")
    service.cli("dataset", "add", str(archive), "--name", "copper", "--json")
    job = service.submit(tiny_config(), name="original", determinism="strict")
    return service.wait(job["id"], "completed")


def verdict(service: Service, job_id: int) -> str | None:
    """Wait for the verdict that the server puts on a reproduction."""
    deadline = time.monotonic() + 30
    while (found := service.job(job_id)["reproduction"]) is None and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def test_a_job_repeats_bit_for_bit(service: Service, original: dict[str, Any]) -> None:
    done = service.cli("reproduce", str(original["id"]), "--follow")
    assert "identical: 40 steps, 2 checkpoints" in done.stdout
    (job,) = service.client.get("/api/v1/jobs", params={"name": "reproduction of original"}).json()["items"]
    assert (job["digest"], job["reproduces"]) == (original["digest"], original["id"])
    assert verdict(service, job["id"]) == "identical"
    told = service.client.get(f"/api/v1/jobs/{job['id']}/events").json()
    assert "identical: 40 steps, 2 checkpoints" in [
        event["message"] for event in told if event["kind"] == "reproduction"
    ]
    found = json.loads(service.cli("compare", str(original["id"]), str(job["id"]), "--json").stdout)
    assert {pair["stage"] for pair in found["beginning"]} == {"init", "statistics"}
    assert found["environment"]["differences"] == []


def test_another_seed_differs_from_the_first_weights_on(service: Service, original: dict[str, Any]) -> None:
    other = service.submit(tiny_config(), seed=original["seed"] + 1, determinism="strict")
    service.wait(other["id"], "completed")
    done = service.cli("compare", str(original["id"]), str(other["id"]), "--json", check=False)
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert (found["fingerprint"]["stage"], found["divergence"]["step"], found["steps"]) == ("init", 1, 0)
    assert "/seed" in {difference["pointer"] for difference in found["spec"]}
    assert "lr" not in {difference["key"] for difference in found["first_differences"]}
