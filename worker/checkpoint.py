"""Checkpoints on the worker's disk: whole or not there."""

import hashlib
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from worker import rng
from worker.engines.base import EngineTrainer, ResumableTask
from worker.failures import TrainingFailure
from worker.rundir import Manifest, RunDir, write_json

_CHUNK_BYTES = 1 << 20


def write(
    run: RunDir,
    trainer: EngineTrainer,
    step: int,
    metrics: Mapping[str, float],
    others: Sequence[Mapping[str, Any]] = (),
) -> Manifest:
    """Save the state after `step` as checkpoints/step-N: files synced, hashed and renamed, then the manifest.

    `others` are the states of the other ranks, if there are any.

    Raises TrainingFailure(non-finite) and writes nothing when a weight is not finite.
    """
    bad = trainer.non_finite_weight()
    if bad is not None:
        raise TrainingFailure("non-finite", f"The weight {bad} is not finite after step {step}.", step=step)
    files = _placed(run, step, lambda directory: trainer.save(directory, step, others))
    latest = {key: value if math.isfinite(value) else None for key, value in metrics.items()}
    generators = {**rng.digests(rng.get_state()), **trainer.generators(step)}
    for rank, state in enumerate(others, 1):
        generators |= {f"{name} of rank {rank}": digest for name, digest in rng.digests(state["rng"]).items()}
    manifest = Manifest(
        step=step, files=files, metrics=latest, fingerprint=trainer.fingerprint(), generators=generators
    )
    return _confirmed(run, manifest)


def write_task(run: RunDir, task: ResumableTask) -> Manifest:
    """Save as checkpoints/step-N, in the same way, what a task needs to go on after step `task.returns_to`."""
    step = task.returns_to
    files = _placed(run, step, task.save)
    return _confirmed(run, Manifest(step=step, files=files, fingerprint=task.fingerprint()))


def _placed(run: RunDir, step: int, save: Callable[[Path], Mapping[str, str]]) -> dict[str, dict[str, Any]]:
    """Let files be written, sync, hash and rename them; return what the manifest says of them."""
    temporary, final = run.checkpoints / f".step-{step}.tmp", run.checkpoints / f"step-{step}"
    for leftover in (temporary, final):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        roles = save(temporary)
        files = {name: {"role": role, **_sync_and_hash(temporary / name)} for name, role in roles.items()}
        _sync_directory(temporary)
        temporary.rename(final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync_directory(run.checkpoints)
    return files


def _confirmed(run: RunDir, manifest: Manifest) -> Manifest:
    """Write the manifest: from now on the checkpoint exists."""
    write_json(run.checkpoints / f"step-{manifest.step}" / "manifest.json", manifest)
    return manifest


def fingerprint(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return SHA-256 over every tensor's name, dtype, shape and bytes, in the order of their names.

    A tensor that stands under two names counts under both.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def first_non_finite(tensors: Mapping[str, torch.Tensor]) -> str | None:
    """Return the name of a floating-point tensor that holds NaN or infinity, or None. One wait for the device."""
    names = [name for name, tensor in tensors.items() if tensor.is_floating_point()]
    if not names:
        return None
    flags = torch.stack([torch.isfinite(tensors[name].detach()).all() for name in names]).tolist()
    return next((name for name, is_finite in zip(names, flags, strict=True) if not is_finite), None)


def _sync_and_hash(path: Path) -> dict[str, Any]:
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        os.fsync(file.fileno())
        while chunk := file.read(_CHUNK_BYTES):
            sha256.update(chunk)
            md5.update(chunk)
    return {"sha256": sha256.hexdigest(), "md5": md5.hexdigest(), "size": path.stat().st_size}


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
