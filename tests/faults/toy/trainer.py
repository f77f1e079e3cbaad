"""The toy's trainer process: keeps the contract of `worker/rundir.py`, and has accidents when told to.

Its state after step t is a function of (seed, t) that needs every step before it, so a resumed run can be compared bit
by bit with an undisturbed one.
"""

import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from worker.failures import cause_of, is_disk_full
from worker.rundir import Manifest, Result, RunDir, RunSpec, Status, write_atomically, write_json

FLUSH_S = 0.1


def walk(seed: int, value: float, step: int) -> float:
    """Return the state after `step` from the state before it."""
    return math.fmod(value * 1.7 + math.sin(seed * 0.1 + step), 10.0)


def main(rundir: Path) -> int:
    run = RunDir(rundir)
    spec = run.read_spec()
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    write_json(run.environment, {"pid": os.getpid()})
    with run.events.open("a") as file:
        about = {"kind": "toy", "message": "starts", "data": {"at": time.time()}}
        file.write(json.dumps(about) + "\n")
    if not (run.artifacts_in / f"toy-{'ab' * 32}").exists():
        write_atomically(run.artifacts_out / f"toy-{'ab' * 32}", b"statistics")
    print(f"started {time.time():.6f}", flush=True)
    try:
        result = _train(run, spec, stopping)
    except OSError as error:
        if not is_disk_full(error):
            raise
        result = Result(outcome="failed", step=0, cause=cause_of(error, "training"))
    print(f"ended {result.outcome} at {result.step}", flush=True)
    write_json(run.result, result)
    return 0


def _train(run: RunDir, spec: RunSpec, stopping: list[int]) -> Result:
    step, value = 0, 0.0
    if spec.resume_step is not None:
        saved = json.loads(next(run.resume.glob("*.json")).read_bytes())
        step, value = saved["step"], saved["value"]
        assert step == spec.resume_step
    rows: list[tuple[int, float]] = []
    batch, flushed, saved_step = 0, time.monotonic(), step
    while step < spec.total_steps and not stopping and not run.stop.exists():
        step += 1
        value = walk(spec.seed, value, step)
        rows.append((step, value))
        if spec.config["accident_at"] == step and spec.resume_step is None:
            batch = _spool(run, batch, rows)
            write_json(run.status, Status(phase="training", step=step))
            _have_accident(run, spec.config["accident"], step, lambda: bool(stopping) or _is_released(run))
        if time.monotonic() - flushed > FLUSH_S:
            batch, flushed = _spool(run, batch, rows), time.monotonic()
            write_json(run.status, Status(phase="training", step=step), durable=False)
        if step % spec.config["every"] == 0:
            batch = _spool(run, batch, rows)
            saved_step = step if _save_if_room(run, spec, step, value) else saved_step
        time.sleep(spec.config["step_s"])
    if saved_step != step and not run.stop.exists():
        _save(run, spec, step, value)
    _spool(run, batch, rows)
    return Result(outcome="stopped" if step < spec.total_steps else "completed", step=step)


def _spool(run: RunDir, number: int, rows: list[tuple[int, float]]) -> int:
    if not rows:
        return number
    steps, values = zip(*rows, strict=True)
    batch = pa.record_batch({"step": _column(pa.int64(), steps), "train/loss": _column(pa.float64(), values)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    write_atomically(run.metrics / f"{number:06d}.arrow", sink.getvalue().to_pybytes(), durable=False)
    rows.clear()
    return number + 1


def _column(kind: pa.DataType, values: Sequence[float]) -> pa.Array:
    """Do what `pa.array` does without its import of pandas, which takes longer than a whole toy training."""
    numbers = np.array(values, kind.to_pandas_dtype())
    return pa.Array.from_buffers(kind, len(numbers), [None, pa.py_buffer(numbers)])


def _save_if_room(run: RunDir, spec: RunSpec, step: int, value: float) -> bool:
    """As the real loop does it: while the disk is full the training goes on; the last checkpoint has to fit."""
    try:
        _save(run, spec, step, value)
    except OSError as error:
        if not is_disk_full(error) or step == spec.total_steps:
            raise
        shutil.rmtree(run.checkpoints / f"step-{step}", ignore_errors=True)
        return False
    return True


def _save(run: RunDir, spec: RunSpec, step: int, value: float) -> None:
    name = f"{spec.file_stem}-step{step}.json"
    data = json.dumps({"step": step, "value": value}).encode() + b" " * spec.config.get("padding", 0)
    directory = run.checkpoints / f"step-{step}"
    directory.mkdir()
    write_atomically(directory / name, data)
    about = {
        "role": "checkpoint",
        "sha256": hashlib.sha256(data).hexdigest(),
        "md5": hashlib.md5(data).hexdigest(),
        "size": len(data),
    }
    fingerprint = hashlib.sha256(repr(value).encode()).hexdigest()
    manifest = Manifest(step=step, files={name: about}, metrics={"train/loss": value}, fingerprint=fingerprint)
    write_json(directory / "manifest.json", manifest)


def _is_released(run: RunDir) -> bool:
    return run.stop.exists() or (run.root / "go").exists()


def _have_accident(run: RunDir, kind: str, step: int, released: Callable[[], bool]) -> None:
    """Only in a job's first execution, or the second would meet the same."""
    if kind == "crash":
        os.abort()
    elif kind == "raise":
        raise RuntimeError(f"planned accident at step {step}")
    elif kind == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
    elif kind in ("hold", "hold with child"):
        child = subprocess.Popen(["sleep", "600"]) if kind == "hold with child" else None
        while not released():
            time.sleep(0.01)
        if child is not None:
            child.kill()
            child.wait()
