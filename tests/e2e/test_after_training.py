"""What becomes of a trained model, by the command line: tested as `dp test` does, frozen, and relaxed with as plain ASE does."""

import hashlib
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import ON_SQLITE, PATIENCE_S, Service, tiny_config

pytestmark = [pytest.mark.deepmd, pytest.mark.long, pytest.mark.timeout(900)]

HELD_OUT = "held-out-800K"
STEPS = 8
BY_HAND = """
import sys, ase.io
from ase.optimize import LBFGS
from deepmd.calculator import DP
atoms = ase.io.read(sys.argv[2])
atoms.calc = DP(model=sys.argv[1])
LBFGS(atoms, logfile=None).run(fmax=1e-6, steps=int(sys.argv[3]))
print("energy", repr(float(atoms.get_potential_energy())))
"""


def stock(*args: object) -> str:
    """Return what a program of the environment printed, on both streams: `dp` logs to the second."""
    order = [Path(sys.executable).parent / str(args[0]), *map(str, args[1:])]
    done = subprocess.run(order, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout


@ON_SQLITE
def test_a_training_is_tested_frozen_and_relaxed_with_as_stock_tools_do(
    service: Service, trained: dict[str, Any], copper: Path, tmp_path: Path
) -> None:
    import ase.io
    from ase.build import bulk

    model = f"job:{trained['id']}@{trained['progress']['total_steps']}"
    tested = service.cli("test", model, "--data", f"dataset:copper/{HELD_OUT}", "--output", f"{tmp_path}/test/")
    checkpoint = tmp_path / "model.pt"
    service.cli("download", str(trained["id"]), "--output", str(checkpoint))
    told = stock("dp", "--pt", "test", "-m", checkpoint, "-s", copper / HELD_OUT, "-n", 20)
    for quantity, unit in (("Energy RMSE/Natoms", "Energy RMSE"), ("Force  RMSE", "Force RMSE")):
        (number, *_) = re.findall(rf"{quantity}\s*: (\S+)", told)
        assert re.search(rf"{unit}\s+{re.escape(number)}", tested.stdout), (number, tested.stdout)
    assert len(ase.io.read(tmp_path / "test" / "worst.extxyz", index=":")) >= 10

    frozen = tmp_path / "frozen_model.pth"
    service.cli("freeze", model, "--output", str(frozen))
    (job, *_) = service.client.get("/api/v1/jobs?kind=freeze").json()["items"]
    files = {one["name"]: one["sha256"] for one in service.job(job["id"])["files"]}
    assert files["frozen_model.pth"] == hashlib.sha256(frozen.read_bytes()).hexdigest()

    atoms = bulk("Cu", cubic=True) * (2, 2, 1)
    atoms.rattle(0.1, seed=3)
    ase.io.write(tmp_path / "POSCAR", atoms, format="vasp")
    options = ["--fmax", "1e-6", "--steps", str(STEPS), "--repeat", "2", "--compare", "form", "--json"]
    answer = service.cli("relax", model, str(tmp_path / "POSCAR"), *options)
    report = json.loads(answer.stdout)
    (run,) = report["runs"]
    assert (run["steps"], run["frames"], run["outcome"]) == (STEPS, STEPS + 1, "not-converged")
    assert report["repeats"][0]["identical"]
    assert report["repeats"][1]["energy"] < 1e-9, "of the frozen form only the last bits may differ"
    by_hand = stock("python", "-c", BY_HAND, frozen, tmp_path / "POSCAR", STEPS)
    assert float(by_hand.split("energy ")[-1]) == pytest.approx(run["energy"], abs=1e-8)


@ON_SQLITE
def test_chosen_checkpoints_are_tested_as_dp_test_does(
    service: Service, dataset: str, copper: Path, tmp_path: Path
) -> None:
    config = tiny_config()
    options = {"test_on": [f"{dataset}/{HELD_OUT}"], "test_every": 20, "seed": 11}
    job_id = service.wait(service.submit(config, **options)["id"], "completed")["id"]
    errors: dict[int, float] = {}
    deadline = time.monotonic() + PATIENCE_S
    while len(errors) < 2:
        assert time.monotonic() < deadline, "not both checkpoints were tested"
        tests = service.client.get(f"/api/v1/jobs/{job_id}/tests").json()
        errors = {one["step"]: one["errors"]["rmse_f"] for one in tests if one["errors"]}
        time.sleep(0.5)
    assert (sorted(errors), len(tests)) == ([20, 40], 2)
    checkpoint = tmp_path / "model.pt"
    service.cli("download", str(job_id), "--step", "20", "--output", str(checkpoint))
    told = stock("dp", "--pt", "test", "-m", checkpoint, "-s", copper / HELD_OUT, "-n", 20)
    (number,) = re.findall(r"weighted average.*?Force  RMSE\s*: (\S+)", told, re.DOTALL)
    assert f"{errors[20]:e}" == number
