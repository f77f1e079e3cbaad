"""One run of a relaxation: a structure, a model, ASE's optimiser, frame by frame."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import units
from ase.calculators.calculator import Calculator
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS, FIRE, LBFGS
from deepmd.calculator import DP
from deepmd.infer.deep_pot import DeepPot

from app.engines.deepmd.structures import Structure, to_atoms
from app.engines.seeds import derive
from worker.engines.deepmd.trajectories import Frame

OPTIMIZERS: Mapping[str, Any] = {"LBFGS": LBFGS, "BFGS": BFGS, "FIRE": FIRE}


@dataclass(frozen=True)
class Run:
    """What one run begins with."""

    name: str
    """In charts and files: `POSCAR`, or `POSCAR.2` of its second start."""
    model: int
    """Which of the job's models."""
    source: str
    """`dataset:NAME@VERSION/STRUCTURE`, or the structure's own name."""
    structure: Structure
    start: int
    """From 1, the structure as it came."""


class OpenDP(DP):  # type: ignore[misc]
    """DeePMD-kit's calculator with a model that is open already."""

    def __init__(self, model: DeepPot) -> None:
        Calculator.__init__(self, label="DP")  # type: ignore[no-untyped-call]
        self.dp = model
        self.type_dict = {symbol: index for index, symbol in enumerate(model.get_type_map())}


def frames(run: Run, model: DeepPot, config: Mapping[str, Any], seed: int | None) -> Iterator[Frame]:
    """Yield the structure as the run begins, and after every step; ends early where a number is not finite.

    `seed` displaces the starts beyond the first.
    """
    atoms = begin(run, config["sigma"], seed)
    atoms.calc = OpenDP(model)
    target: Any = atoms
    if config["cell"] == "filter":
        target = FrechetCellFilter(atoms, scalar_pressure=config["pressure"] * units.GPa)  # type: ignore[no-untyped-call]
    optimizer = OPTIMIZERS[config["optimizer"]](target, logfile=None)
    for converged in optimizer.irun(fmax=config["fmax"], steps=config["max_steps"]):
        frame = _frame(atoms, optimizer.optimizable, bool(converged))
        yield frame
        if not frame.finite:
            return


def begin(run: Run, sigma: float, seed: int | None) -> Any:
    """Return the atoms that a run begins with: those of starts beyond the first are displaced, but for fixed ones."""
    atoms: Any = to_atoms(run.structure)
    if run.start > 1:
        assert seed is not None, "starts beyond the first have a seed"
        drawn = np.random.default_rng(derive(seed, f"{run.source}.{run.start}"))
        moves = drawn.normal(0.0, sigma, (len(atoms), 3))
        moves[run.structure.fixed] = 0.0
        atoms.positions += moves
    return atoms


def _frame(atoms: Any, seen: Any, converged: bool) -> Frame:
    return Frame(
        positions=atoms.get_positions(),
        cell=np.array(atoms.cell.array),
        energy=float(atoms.get_potential_energy()),
        forces=np.array(atoms.get_forces(apply_constraint=False)),
        fmax=float(seen.gradient_norm(seen.get_gradient())),
        converged=converged,
    )
