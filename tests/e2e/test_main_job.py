"""The main job over each database: real data in, a real DeePMD-kit model trained, its checkpoint accepted by stock `dp`."""

import hashlib
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.e2e.conftest import Service, tiny_config

pytestmark = pytest.mark.deepmd


def test_every_step_is_reported_once_in_full_precision(service: Service, trained: dict[str, Any]) -> None:
    total = trained["progress"]["total_steps"]
    series = service.metrics(trained["id"], "train/loss", "train/rmse_f", "lr")
    assert series["steps"]["train/loss"] == list(range(1, total + 1))
    assert series["steps"]["lr"] == series["steps"]["train/rmse_f"] == series["steps"]["train/loss"]
    assert any(value != float(f"{value:.8e}") for value in series["values"]["train/loss"])


def test_validation_is_measured_at_its_frequency(service: Service, trained: dict[str, Any]) -> None:
    every = tiny_config()["training"]["disp_freq"]
    steps = service.metrics(trained["id"], "val/rmse_f")["steps"]["val/rmse_f"]
    assert steps == sorted({1, *range(every, trained["progress"]["total_steps"] + 1, every)})


@pytest.mark.long  # the test of `cairn demo` and the engine's own do nearly the same
def test_the_checkpoint_is_accepted_by_stock_dp_and_ase(
    service: Service, trained: dict[str, Any], copper: Path, tmp_path: Path
) -> None:
    target = tmp_path / "model.pt"
    service.cli("download", str(trained["id"]), "--output", str(target))
    newest = service.client.get(f"/api/v1/jobs/{trained['id']}/checkpoints").json()
    files = [
        file
        for checkpoint in newest
        for file in checkpoint["files"]
        if checkpoint["step"] == trained["progress"]["total_steps"]
    ]
    assert hashlib.sha256(target.read_bytes()).hexdigest() in {file["sha256"] for file in files}
    frozen = tmp_path / "frozen_model.pth"
    dp = Path(sys.executable).parent / "dp"
    subprocess.run([dp, "--pt", "freeze", "-c", target, "-o", frozen], cwd=tmp_path, check=True, capture_output=True)
    subprocess.run(
        [dp, "--pt", "test", "-m", frozen, "-s", copper / "held-out-800K", "-n", "2"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    code = f"""
from ase.build import bulk
from deepmd.calculator import DP
energies = []
for model in ({str(target)!r}, {str(frozen)!r}):
    atoms = bulk("Cu", "fcc", a=3.61, cubic=True) * (2, 2, 2)
    atoms.calc = DP(model=model)
    energies.append(atoms.get_potential_energy())
print("energies", *energies)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("energies"))
    from_checkpoint, from_frozen = (float(word) for word in line.split()[1:])
    assert np.isfinite(from_checkpoint)
    assert from_checkpoint == pytest.approx(from_frozen, rel=1e-10)


def test_the_bundle_holds_what_the_field_expects(service: Service, trained: dict[str, Any]) -> None:
    answer = service.client.get(f"/api/v1/jobs/{trained['id']}/bundle")
    names = zipfile.ZipFile(io.BytesIO(answer.content)).namelist()
    for wanted in ("input.json", "out.json", "lcurve.out", "environment.json"):
        assert any(name.rsplit("/", 1)[-1] == wanted for name in names), names
    assert any(name.endswith(".pt") for name in names), names


def test_the_second_job_does_not_pay_the_statistics_again_and_gives_the_same_bits(
    service: Service, trained: dict[str, Any]
) -> None:
    second = service.wait(service.submit(tiny_config(), name="second", seed=7, determinism="strict")["id"], "completed")
    kinds = [
        event["data"].get("source")
        for event in service.client.get(f"/api/v1/jobs/{second['id']}/events").json()
        if event["kind"] == "statistics"
    ]
    assert kinds
    assert set(kinds) == {"loaded"}, "computed again"
    assert service.metrics(second["id"], "train/loss") == service.metrics(trained["id"], "train/loss")
    prints = [
        service.client.get(f"/api/v1/jobs/{job['id']}/checkpoints").json()[0]["fingerprint"]
        for job in (trained, second)
    ]
    assert prints[0] == prints[1] is not None


@pytest.mark.long(on="postgresql")  # what it looks at is the same on either database
def test_a_killed_worker_leaves_a_job_that_finishes_with_the_same_weights(
    service: Service, trained: dict[str, Any]
) -> None:
    config = tiny_config()
    config["training"]["numb_steps"] = 200
    config["training"]["save_freq"] = 25
    undisturbed = service.wait(service.submit(config, seed=3)["id"], "completed")
    job = service.submit(config, seed=3)
    service.wait(job["id"], "running", step=60)
    for process in service.worker_processes():
        process.kill()
    ended = service.wait(job["id"], "completed")
    assert ended["attempt"] == 2
    assert ended["attempts"][1]["start_step"] > 0, "started from scratch although there were checkpoints"
    for key in ("train/loss", "train/rmse_f", "lr", "val/rmse_f"):
        assert service.metrics(job["id"], key) == service.metrics(undisturbed["id"], key)
    prints = [
        service.client.get(f"/api/v1/jobs/{each['id']}/checkpoints").json()[0]["fingerprint"]
        for each in (undisturbed, ended)
    ]
    assert prints[0] == prints[1] is not None


def test_cancel_keeps_a_final_checkpoint(service: Service, trained: dict[str, Any]) -> None:
    config = tiny_config()
    config["training"]["numb_steps"] = 100_000
    job = service.submit(config)
    service.wait(job["id"], "running", step=30)
    service.cli("cancel", str(job["id"]))
    ended = service.wait(job["id"], "cancelled")
    checkpoints = service.client.get(f"/api/v1/jobs/{job['id']}/checkpoints").json()
    assert checkpoints[0]["step"] == ended["progress"]["step"] > 0


def test_a_mistake_is_refused_before_a_job_exists(service: Service, dataset: str, tmp_path: Path) -> None:
    config = tiny_config()
    config["model"]["descriptor"]["rcutt"] = 6.0
    config["training"]["training_data"]["systems"] = ["dataset:coper/md-300K"]
    file = tmp_path / "input.json"
    file.write_text(json.dumps(config))
    before = service.client.get("/api/v1/jobs").json()["items"]
    done = service.cli("submit", str(file), check=False)
    assert done.returncode == 1
    assert "rcutt" in done.stderr
    assert "/model/descriptor" in done.stderr
    assert "coper" in done.stderr
    assert service.client.get("/api/v1/jobs").json()["items"] == before
