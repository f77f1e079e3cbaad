"""Every start mode from one base: promoted, checked, fine-tuned, initialised, resumed, by a real worker."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import ON_SQLITE, Service

pytestmark = [pytest.mark.deepmd, ON_SQLITE]


@pytest.fixture(scope="package")
def base(service: Service, trained: dict[str, Any]) -> str:
    done = service.cli("model", "promote", str(trained["id"]), "--name", "copper", "--json")
    model = json.loads(done.stdout)
    assert model["state"] == "ready", model
    assert (model["architecture"], model["type_map"], model["step"]) == ("se_e2_a", ["Cu"], 40)
    return f"{model['name']}@{model['version']}"


def minimal(dataset: str) -> dict[str, Any]:
    """What changes, and nothing else: no model section at all."""
    return {
        "loss": {"start_pref_e": 0.02, "limit_pref_e": 1, "start_pref_f": 1000, "limit_pref_f": 1},
        "learning_rate": {"type": "exp", "start_lr": 1e-4, "stop_lr": 1e-6},
        "training": {"numb_steps": 6, "save_freq": 3, "training_data": {"systems": [f"{dataset}/md-300K"]}},
    }


def fingerprints(service: Service, job_id: int) -> list[str]:
    """Return the fingerprints of a job's weights before its first step, in the order in which they were taken."""
    events = service.client.get(f"/api/v1/jobs/{job_id}/events").json()
    return [event["data"]["sha256"] for event in events if event["kind"] == "fingerprint"]


def newest(service: Service, job_id: int) -> dict[str, Any]:
    return dict(service.client.get(f"/api/v1/jobs/{job_id}/checkpoints").json()[0])


def test_a_fine_tune_says_only_what_changes(service: Service, dataset: str, base: str, tmp_path: Path) -> None:
    file = tmp_path / "input.json"
    file.write_text(json.dumps(minimal(dataset)))
    checked = json.loads(service.cli("check", str(file), "--base", base, "--mode", "finetune", "--json").stdout)
    assert checked["plan"]["kept"] == checked["plan"]["parameters"] > 0
    refitted = [tensor["name"] for tensor in checked["plan"]["tensors"] if tensor["verb"] == "refit"]
    assert [name.rsplit(".", 1)[-1] for name in refitted] == ["out_bias", "out_std"]
    assert checked["origins"]["/model/descriptor/rcut"]["origin"] == "base"
    job = service.submit(minimal(dataset), start={"mode": "finetune", "base": base})
    assert job["plan"] == checked["plan"]
    ended = service.wait(job["id"], "completed")
    assert ended["base"] == base
    assert service.metrics(job["id"], "train/loss")["steps"]["train/loss"] == list(range(1, 7))


def test_init_begins_with_the_very_weights_of_its_base(
    service: Service, dataset: str, base: str, trained: dict[str, Any]
) -> None:
    job = service.wait(service.submit(minimal(dataset), start={"mode": "init", "base": base})["id"], "completed")
    assert fingerprints(service, job["id"])[-1] == newest(service, trained["id"])["fingerprint"]


def test_resuming_at_a_checkpoint_ends_with_the_bits_of_the_undisturbed_run(
    service: Service, trained: dict[str, Any]
) -> None:
    start = {"mode": "resume", "base": f"job:{trained['id']}@20"}
    job = service.wait(service.submit({}, start=start)["id"], "completed")
    assert service.metrics(job["id"], "train/loss")["steps"]["train/loss"] == list(range(21, 41))
    assert newest(service, job["id"])["fingerprint"] == newest(service, trained["id"])["fingerprint"]


def test_a_finished_training_goes_on_to_more_steps(service: Service, trained: dict[str, Any]) -> None:
    done = service.cli(
        "submit", "--mode", "resume", "--base", f"job:{trained['id']}", "--set", "training.numb_steps=50", "--json"
    )
    job = json.loads(done.stdout)
    assert any("learning rate" in notice["message"] for notice in job["warnings"]), job["warnings"]
    service.wait(job["id"], "completed")
    assert service.metrics(job["id"], "train/loss")["steps"]["train/loss"] == list(range(41, 51))
    differences = service.client.get(f"/api/v1/jobs/{trained['id']}/diff/{job['id']}").json()["values"]
    assert "/training/numb_steps" in {each["pointer"] for each in differences}


def test_a_file_that_is_no_model_is_refused_with_the_reason(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "model.pt"
    file.write_bytes(b"PK\x03\x04 and then nothing")
    done = service.cli("model", "add", str(file), "--name", "broken", check=False)
    assert done.returncode == 1
    assert "broken" in done.stderr
    refused = service.client.get("/api/v1/models/broken@1").json()
    assert refused["state"] == "refused"
    answer = service.client.post("/api/v1/jobs", json={"config": {}, "start": {"mode": "init", "base": "broken@1"}})
    assert answer.status_code == 422
    assert answer.json()["pointer"] == "/start/base"
