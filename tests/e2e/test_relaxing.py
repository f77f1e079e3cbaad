"""A relaxation over its accidents: paused, then its worker killed, it ends where it would have ended."""

from typing import Any

import pytest

from tests.e2e.conftest import ON_SQLITE, Service

pytestmark = [pytest.mark.deepmd, pytest.mark.long]

STEPS = 900
"""Of each run: ten seconds, in which it is paused and killed."""


def relaxation(model: int) -> dict[str, Any]:
    """Return the config of a relaxation that takes all its steps: no force is ever so small."""
    a = 3.61
    positions = [[0.1, 0, 0], [0, a / 2, a / 2], [a / 2, 0.2, a / 2], [a / 2, a / 2, 0]]
    cell = {"name": "cell", "symbols": ["Cu"] * 4, "positions": positions, "cell": [[a, 0, 0], [0, a, 0], [0, 0, a]]}
    how = {"optimizer": "FIRE", "fmax": 1e-30, "max_steps": STEPS, "starts": 2}
    return {"models": [f"job:{model}"], "inline": [cell], **how}


@ON_SQLITE
def test_paused_and_killed_it_goes_on_from_its_last_frame(service: Service, trained: dict[str, Any]) -> None:
    config = relaxation(trained["id"])
    options = {"kind": "relax", "engine": "deepmd", "seed": 4}
    undisturbed = service.wait(service.submit(config, **options)["id"], "completed")
    job = service.submit(config, **options)["id"]
    service.wait(job, "running", step=STEPS + 20)  # in its second run
    service.client.post(f"/api/v1/jobs/{job}/pause").raise_for_status()
    paused = service.wait(job, "paused")["progress"]["step"]
    assert STEPS + 20 <= paused < 2 * (STEPS + 1)
    so_far = service.client.get(f"/api/v1/jobs/{job}/files/relax.json").json()["runs"]
    assert [(run["outcome"], run["frames"]) for run in so_far] == [
        ("not-converged", STEPS + 1),
        ("stopped", paused - STEPS - 1),
    ]
    service.client.post(f"/api/v1/jobs/{job}/resume").raise_for_status()
    service.wait(job, "running", step=paused + 30)
    for process in service.worker_processes():
        process.kill()
    ended = service.wait(job, "completed")
    assert [attempt["start_step"] for attempt in ended["attempts"]] == [0, paused, paused]
    events = service.client.get(f"/api/v1/jobs/{job}/events").json()
    assert [event["attempt"] for event in events if event["kind"] == "retraced"] == [2, 3]
    for key in ("relax/fmax/cell.1", "relax/fmax/cell.2", "relax/energy_per_atom/cell.2"):
        assert service.metrics(job, key) == service.metrics(undisturbed["id"], key)
    reports = [service.client.get(f"/api/v1/jobs/{one}/files/relax.json").json() for one in (undisturbed["id"], job)]
    assert reports[0]["runs"] == reports[1]["runs"], "digests of every frame among them"
    assert service.client.get(f"/api/v1/jobs/{job}/checkpoints").json() == []
