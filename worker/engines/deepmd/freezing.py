"""Jobs of kind freeze: DeePMD-kit's own freeze, then a proof that the file holds the same weights and gives the same numbers."""

import hashlib
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import deepmd
import numpy as np
import torch
from deepmd.infer.deep_pot import DeepPot
from deepmd.pt.entrypoints.main import freeze

from app.engines.deepmd.model_refs import has_energies
from worker.engines.base import Context
from worker.engines.deepmd import frozen, opening
from worker.failures import TrainingFailure
from worker.rundir import ModelSpec, RunDir, RunSpec

SPACING, SIDE = 2.6, 3
"""Of the frame that both forms are asked about: SIDE³ atoms on a distorted lattice, SPACING Å apart, types in turn."""


@dataclass(frozen=True)
class Difference:
    """By how much the largest number of the frozen model differs from the checkpoint's."""

    energy: float
    """In eV, of a frame of `atoms` atoms."""
    force: float
    """In eV/Å."""
    atoms: int


class Freeze:
    """Frozen files of checkpoints. See `worker.engines.base.EngineTask`."""

    phase = "freezing"

    def __init__(self, spec: RunSpec, context: Context) -> None:
        self.total_steps = spec.total_steps
        self._spec, self._context = spec, context
        self._run = RunDir(context.root)
        opening.repeatably()

    def steps(self) -> Iterator[dict[str, float]]:
        """Freeze and prove one model after the other; publish each with what is known of it."""
        several = len(self._spec.models) > 1
        for number, model in enumerate(self._spec.models, 1):
            target = self._run.root / f"frozen_model{f'-{number}' if several else ''}.pth"
            about = self._frozen(model, target)
            paper = target.with_suffix(".json")
            paper.write_text(json.dumps(about, indent=1), encoding="utf-8")
            self._context.publish(target)
            self._context.publish(paper)
            self._context.event("frozen", _words(about), about)
            found = about["same_frame"] or {}
            numbers = {f"freeze/{key}": float(found[key]) for key in ("energy_difference", "force_difference") if found}
            yield {"freeze/tensors": float(about["tensors"]), **numbers}

    def _frozen(self, model: ModelSpec, target: Path) -> dict[str, Any]:
        """Freeze a model, and return what is to be known of the file."""
        head: str | None = self._spec.config["head"]
        source = opening.named(self._run, model, head)
        freeze(str(source), str(target), head=head)
        if not target.exists():
            message = f"DeePMD-kit {deepmd.__version__} wrote no {target.name} of {model.name}."
            raise TrainingFailure("library", message, hint="Models of this descriptor are not frozen to .pth.")
        held = _read(target)
        tensors = _check_weights(model.name, opening.tensors(source, head), held.tensors)
        difference = _difference(source, head, target) if has_energies(held.model_section) else None
        return {
            "file": target.name,
            "sha256": _digest(target),
            "size": target.stat().st_size,
            "model": model.name,
            "model_sha256": model.sha256,
            "head": head,
            "type_map": held.model_section.get("type_map"),
            "library": f"deepmd-kit {deepmd.__version__}",
            "torch": torch.__version__,
            "tensors": tensors,
            "same_frame": {
                "atoms": difference.atoms,
                "energy_difference": difference.energy,
                "force_difference": difference.force,
            }
            if difference
            else None,
        }


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> frozen.Frozen:
    """Return what a frozen file holds, without running its code."""
    with zipfile.ZipFile(path) as archive:
        return frozen.read(archive, archive.namelist()[0].split("/")[0])


def _check_weights(name: str, ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> int:
    """Return how many tensors there are, if each is in the file bit for bit.

    Raises:
        TrainingFailure: One is not.
    """
    start = "model.Default."
    odd = sorted(
        key
        for key, value in ours.items()
        if (held := theirs.get(key.removeprefix(start))) is None or not _same(value, held)
    )
    if odd:
        message = f"The frozen file of {name} differs from the checkpoint in {len(odd)} tensors, {odd[0]} first."
        raise TrainingFailure("library", message, hint="Report it: freezing must not change weights.")
    return len(ours)


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(*(tensor.reshape(-1).view(torch.uint8) for tensor in (one, other)))


def _difference(source: Path, head: str | None, target: Path) -> Difference:
    """Compare both forms, freshly loaded, on one frame."""
    (e1, f1, atoms), (e2, f2, _) = (
        _numbers(opening.opened(path, chosen)) for path, chosen in ((source, head), (target, None))
    )
    return Difference(float(np.abs(e1 - e2).max()), float(np.abs(f1 - f2).max()), atoms)


def _numbers(model: DeepPot) -> tuple[Any, Any, int]:
    """Return energy and forces of one frame that is made for the model, and how many atoms it has."""
    grid = np.stack(np.meshgrid(*[np.arange(SIDE)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    coord = SPACING * grid + 0.2 * np.sin(7.0 * grid + np.arange(3.0))
    types = np.arange(len(coord)) % model.get_ntypes()
    width, atomic = model.get_dim_fparam(), model.get_dim_aparam()
    energy, force, *_ = model.eval(
        coord.reshape(1, -1),
        (SPACING * SIDE * np.eye(3)).reshape(1, 9),
        types,
        fparam=np.zeros((1, width)) if width else None,
        aparam=np.zeros((1, len(coord) * atomic)) if atomic else None,
    )
    return energy, force, len(coord)


def _words(about: dict[str, Any]) -> str:
    same = f"{about['file']}: all {about['tensors']} tensors are those of {about['model']}, bit for bit"
    found = about["same_frame"]
    if not found:
        return f"{same}."
    if found["energy_difference"] == found["force_difference"] == 0:
        return f"{same}; so are the energy and the forces of a frame of {found['atoms']} atoms."
    numbers = f"{found['energy_difference']:.1e} eV and {found['force_difference']:.1e} eV/Å"
    return f"{same}; energy and forces of a frame of {found['atoms']} atoms differ by at most {numbers}."
