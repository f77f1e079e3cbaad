"""Our trainer against stock `dp --pt train`: steps per second, cost of reporting, time to the first step.

`python -m bench.trainer [--steps N] [--size tiny|full] [--validate]`. Both train the same input with DeePMD's display at
every step; stock prints three digits of it, ours keeps every term in full. Ratios within one run are what counts.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from worker.children import Forkserver
from worker.rundir import RunDir, RunSpec, write_json

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"neuron": [4, 8], "axis": 4, "fit": [16, 16], "cells": (2, 2, 2)},
    "full": {"neuron": [25, 50, 100], "axis": 16, "fit": [240, 240, 240], "cells": (3, 3, 3)},
}
SYSTEMS, FRAMES = 3, 20


def main() -> None:
    """Run all three and print one table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--validate", action="store_true", help="Also validate at every step.")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        write_data(root / "data" / "cu@1", SIZES[options.size]["cells"])
        stock = run_stock(root, options)
        ours = run_ours(root, options)
        share = reporting_share(root, options)
    print(f"{'':34}{'ours':>12}{'dp --pt':>12}{'ratio':>9}")
    for name, key in (
        ("steps/s, shown every step", "rate"),
        ("processor time, ms/step", "processor_ms"),
        ("start to first step, s", "first_s"),
    ):
        print(f"{name:34}{ours[key]:12.2f}{stock[key]:12.2f}{ours[key] / stock[key]:9.2f}")
    print(f"{'first step on unknown data, s':34}{ours['cold_s']:12.2f}")
    print(f"{'reporting, share of a step':34}{share:12.2%}")


def write_data(folder: Path, cells: tuple[int, int, int]) -> None:
    """Write some systems of rattled copper, labelled by EMT."""
    from ase.build import bulk
    from ase.calculators.emt import EMT

    rng = np.random.default_rng(0)
    for index in range(SYSTEMS):
        atoms = bulk("Cu", cubic=True) * cells
        values: dict[str, list[Any]] = {"coord": [], "box": [], "energy": [], "force": []}
        for _ in range(FRAMES):
            frame = atoms.copy()
            frame.rattle(0.1, rng=rng)
            frame.calc = EMT()
            values["coord"].append(frame.positions.ravel())
            values["box"].append(np.array(frame.cell).ravel())
            values["energy"].append(frame.get_potential_energy())
            values["force"].append(frame.get_forces().ravel())
        place = folder / f"sys{index}" / "set.000"
        place.mkdir(parents=True)
        for key, rows in values.items():
            np.save(place / f"{key}.npy", np.array(rows))
        (place.parent / "type.raw").write_text("0\n" * len(atoms))
        (place.parent / "type_map.raw").write_text("Cu\n")


def make_config(options: argparse.Namespace, prefix: str) -> dict[str, Any]:
    """Return the input both train."""
    size = SIZES[options.size]
    training = {
        "training_data": {"systems": [f"{prefix}/sys{index}" for index in range(SYSTEMS)], "batch_size": 1},
        "numb_steps": options.steps, "disp_freq": 1, "save_freq": 10 * options.steps, "seed": 1,
    }  # fmt: skip
    if options.validate:
        training["validation_data"] = {"systems": [f"{prefix}/sys0"], "batch_size": 1, "numb_btch": 1}
    return {
        "model": {
            "type_map": ["Cu"],
            "descriptor": {
                "type": "se_e2_a", "rcut": 5.0, "rcut_smth": 0.5, "sel": "auto", "neuron": size["neuron"],
                "axis_neuron": size["axis"], "seed": 1,
            },
            "fitting_net": {"neuron": size["fit"], "seed": 1},
        },
        "learning_rate": {"type": "exp", "start_lr": 0.001, "stop_lr": 1e-5, "decay_steps": 50},
        "loss": {"type": "ener", "start_pref_e": 0.02, "limit_pref_e": 1, "start_pref_f": 1000, "limit_pref_f": 1},
        "training": training,
    }  # fmt: skip


def run_stock(root: Path, options: argparse.Namespace) -> dict[str, float]:
    """Train with `dp --pt train`; the rate is between its first and its last row of lcurve.out."""
    place = root / "stock"
    place.mkdir()
    (place / "input.json").write_text(json.dumps(make_config(options, str(root / "data" / "cu@1"))))
    started = time.monotonic()
    program = Path(sys.executable).with_name("dp")
    with (place / "log").open("wb") as log:
        process = subprocess.Popen([program, "--pt", "train", "input.json"], cwd=place, stdout=log, stderr=log)
        first = _when(lambda: _rows(place / "lcurve.out") >= 1, process)
        before = _processor_s(process.pid)
        last = _when(lambda: _rows(place / "lcurve.out") >= options.steps - 1, process)
        spent = _processor_s(process.pid) - before
        process.wait()
    steps = options.steps - 2
    return {"first_s": first - started, "rate": steps / (last - first), "processor_ms": 1000 * spent / steps}


def _processor_s(pid: int) -> float:
    """Return the processor time of a process and of those it started."""
    process = psutil.Process(pid)
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(time.user + time.system for time in times)


def _rows(path: Path) -> int:
    return path.read_bytes().count(b"\n") - 2 if path.exists() else 0


def _when(is_true: Callable[[], bool], process: subprocess.Popen[bytes]) -> float:
    while not is_true():
        if process.poll() is not None and not is_true():
            raise RuntimeError("dp ended early")
        time.sleep(0.005)
    return time.monotonic()


def run_ours(root: Path, options: argparse.Namespace) -> dict[str, float]:
    """Train twice from a warm forkserver: on unknown data, then with the kept statistics."""
    server = Forkserver(["worker.engines.deepmd.preload"], threads=int(os.environ["OMP_NUM_THREADS"]))
    server.start()
    server.ready.wait()
    cold = _run_trainer(server, _rundir(root, options, "cold"), 1)
    known = _rundir(root, options, "known")
    known.artifacts_in.rmdir()
    known.artifacts_in.symlink_to(root / "cold" / "artifacts" / "out")
    warm = _run_trainer(server, known, options.steps)
    server.close()
    return {"cold_s": cold["first_s"], **warm}


def _rundir(root: Path, options: argparse.Namespace, name: str) -> RunDir:
    run = RunDir(root / name)
    run.create()
    run.data.rmdir()
    run.data.symlink_to(root / "data")
    config = make_config(options, "dataset:cu@1")
    spec = {
        "engine": "deepmd", "job_name": name, "config": config, "submitted": config, "datasets": {"cu@1": "0" * 64},
        "seed": 1, "seeds": {}, "determinism": "seeded", "total_steps": options.steps, "start": {"mode": "scratch"},
        "checkpoints": {}, "file_stem": name, "threads": int(os.environ["OMP_NUM_THREADS"]),
    }  # fmt: skip
    write_json(run.spec, RunSpec.model_validate(spec))
    return run


def _run_trainer(server: Forkserver, run: RunDir, steps: int) -> dict[str, float]:
    started = time.monotonic()
    process = server.spawn("worker.trainer:main", run.root, {}, threading.Event())
    while not list(run.metrics.glob("0*.arrow")):
        if process.wait(0.002):
            raise RuntimeError(run.log.read_text())
    first = time.monotonic()
    if steps == 1:
        run.stop.write_text("now")
    before, spent, last, seen = _processor_s(process.pid), 0.0, first, 1
    while not process.wait(0.005):
        step = json.loads(run.status.read_bytes())["step"]
        if seen < step < steps:  # the last status comes after the final checkpoint
            with suppress(psutil.NoSuchProcess):
                spent, last, seen = _processor_s(process.pid) - before, time.monotonic(), step
    if steps == 1:
        return {"first_s": first - started}
    count = seen - 1
    return {"first_s": first - started, "rate": count / (last - first), "processor_ms": 1000 * spent / count}


def reporting_share(root: Path, options: argparse.Namespace) -> float:
    """Return what numbers, rows and files cost, as a share of a step without them."""
    call = f"measure_reporting({str(root)!r}, {options.steps}, {options.size!r})"
    code = f"from bench.trainer import measure_reporting; print({call})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def measure_reporting(root: str, steps: int, size: str) -> float:
    """Measure what the loop does around a bare step, in the loop itself, in processor time."""
    import worker.engines.deepmd.trainer as engine
    from worker import determinism, loop, spool
    from worker.context import RunContext
    from worker.spool import MetricSpool

    options = argparse.Namespace(steps=steps, size=size, validate=False)
    run = _rundir(Path(root), options, "reporting")
    determinism.apply("seeded", int(os.environ["OMP_NUM_THREADS"]))
    clock = _Clock()
    for place, name in (
        (engine, "_on_host_if_free"), (engine, "_reported"), (engine.DeepmdTrainer, "_named"), (MetricSpool, "add"),
        (MetricSpool, "flush"), (MetricSpool, "is_due"), (loop.StopSwitch, "wanted"),
        (spool, "_write"), (RunContext, "status"),  # in a thread beside the steps
    ):  # fmt: skip
        setattr(place, name, clock.timed(getattr(place, name)))
    trainer = engine.DeepmdTrainer(run.read_spec(), RunContext(run))
    trainer.checkpoint_every = 0
    spool._write(run.root / "warm.arrow", {0: {"key": 0.0}})  # the first use of pyarrow is no cost of a step
    clock.spent_s, started = 0.0, time.process_time()
    loop.run(trainer, RunContext(run), run, loop.StopSwitch(run.stop), loop.Progress(0, steps))
    return clock.spent_s / (time.process_time() - started - clock.spent_s)


class _Clock:
    """Adds up the processor time spent in functions."""

    spent_s = 0.0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            started = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.spent_s += time.thread_time() - started

        return call


if __name__ == "__main__":
    main()
