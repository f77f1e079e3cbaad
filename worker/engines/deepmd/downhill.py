"""One run of a relaxation: a structure, a model, ASE's optimiser, frame by frame."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from ase import units
from ase.calculators.calculator import Calculator
from ase.calculators.singlepoint import SinglePointCalculator
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS, FIRE, LBFGS
from deepmd.calculator import DP
from deepmd.infer.deep_pot import DeepPot

from app.engines.deepmd.structures import Structure, to_atoms
from app.engines.seeds import derive
from worker.engines.deepmd.trajectories import Frame
from worker.failures import TrainingFailure

OPTIMIZERS: Mapping[str, Any] = {"LBFGS": LBFGS, "BFGS": BFGS, "FIRE": FIRE}


ELSEWHERE_A = 1e-4
"""From where on a step leads elsewhere. Sums in another order, as other hardware makes them, differ by far less."""


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


@dataclass(frozen=True)
class Retraced:
    """What taking the steps of kept frames again has shown."""

    exact: bool
    """Whether every step led to the bits of the next frame, and the model said the same of the last."""
    apart: float
    """By how much a step led elsewhere at most, in Å."""


class OpenDP(DP):  # type: ignore[misc]
    """DeePMD-kit's calculator with a model that is open already."""

    def __init__(self, model: DeepPot) -> None:
        Calculator.__init__(self, label="DP")  # type: ignore[no-untyped-call]
        self.dp = model
        self.type_dict = {symbol: index for index, symbol in enumerate(model.get_type_map())}


class Descent:
    """A run on its way."""

    def __init__(self, run: Run, model: DeepPot, config: Mapping[str, Any], seed: int | None) -> None:
        """`seed` displaces the starts beyond the first."""
        self._name, self._config = run.name, config
        self._atoms = begin(run, config["sigma"], seed)
        self._model = self._atoms.calc = OpenDP(model)
        target: Any = self._atoms
        if config["cell"] == "filter":
            pressure = config["pressure"] * units.GPa
            target = FrechetCellFilter(self._atoms, scalar_pressure=pressure)  # type: ignore[no-untyped-call]
        self._optimizer = OPTIMIZERS[config["optimizer"]](target, logfile=None)
        self._last: Frame | None = None

    def frames(self) -> Iterator[Frame]:
        """Yield the structure as the run begins, and after every step; after `retrace` only what comes then.

        Ends early where a number is not finite.
        """
        if self._last is not None and not self._last.finite:
            return
        left = self._config["max_steps"] - self._optimizer.nsteps
        steps = self._optimizer.irun(fmax=self._config["fmax"], steps=left)
        for converged in islice(steps, 0 if self._last is None else 1, None):
            frame = self._frame(bool(converged))
            yield frame
            if not frame.finite:
                return

    def retrace(self, kept: Sequence[Frame]) -> Retraced:
        """Let the optimiser take the steps of frames that are kept, the run's first ones, without asking the model.

        It knows nothing but where it was and what the model said there, so it is as it was then; that each step leads to
        the bits of the next frame, and that the model says of the last one what it said, shows it.

        Raises:
            TrainingFailure: a step leads elsewhere, farther than other hardware would.
        """
        farthest, exact = 0.0, True
        for number, frame in enumerate(kept):
            if number:
                self._optimizer.step()
                self._optimizer.nsteps += 1
            apart = _apart(self._atoms, frame)
            if not apart < ELSEWHERE_A:
                raise _elsewhere(self._name, number, apart)
            farthest, exact = max(farthest, apart), exact and _is_at(self._atoms, frame)
            self._put(frame)
        self._atoms.calc, self._last = self._model, kept[-1]
        return Retraced(exact and self._frame(kept[-1].converged).bits() == kept[-1].bits(), farthest)

    def _put(self, frame: Frame) -> None:
        """Be at a frame, with what the model said there."""
        self._atoms.set_positions(frame.positions, apply_constraint=False)
        self._atoms.set_cell(frame.cell)
        single: Any = SinglePointCalculator
        self._atoms.calc = single(self._atoms, energy=frame.energy, forces=frame.forces, stress=frame.stress)

    def _frame(self, converged: bool) -> Frame:
        atoms, seen = self._atoms, self._optimizer.optimizable
        return Frame(
            positions=atoms.get_positions(),
            cell=np.array(atoms.cell.array),
            energy=float(atoms.get_potential_energy()),
            forces=np.array(atoms.get_forces(apply_constraint=False)),
            stress=np.array(atoms.get_stress()) if self._config["cell"] == "filter" else np.zeros(6),
            fmax=float(seen.gradient_norm(seen.get_gradient())),
            converged=converged,
        )


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


def _apart(atoms: Any, frame: Frame) -> float:
    """Return the largest difference of a coordinate, or of a component of the cell, in Å; NaN or infinity if one is none."""
    if frame.positions.shape != (len(atoms), 3):
        return np.inf
    differences = atoms.get_positions() - frame.positions, atoms.cell.array - frame.cell
    return float(np.abs(np.concatenate(differences)).max())


def _is_at(atoms: Any, frame: Frame) -> bool:
    here = atoms.get_positions().tobytes() + atoms.cell.array.tobytes()
    return bool(here == frame.positions.tobytes() + frame.cell.tobytes())


def _elsewhere(run: str, number: int, apart: float) -> TrainingFailure:
    message = (
        f"What was kept of {run} is not this relaxation: frame {number} lies {apart:.1e} Å from where its step leads."
    )
    return TrainingFailure("data", message, hint="Submit the job anew; this one can go on from nothing else.")
