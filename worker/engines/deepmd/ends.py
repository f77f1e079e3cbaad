"""What the runs of a relaxation leave: every frame and every end as files of ASE, and a row about each run."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ase.io
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.trajectory import TrajectoryWriter

from app.engines.deepmd.relaxing import TRAJECTORY
from app.engines.deepmd.structures import to_atoms
from app.wire.relaxing import Minimum, Outcome, RelaxedRun
from worker.engines.deepmd import minima
from worker.engines.deepmd.downhill import Run
from worker.engines.deepmd.errors import finite
from worker.engines.deepmd.trajectories import Frame, Trajectory

EXACT = "trajectory.traj"
RELAXED = "relaxed.extxyz"


@dataclass
class Ends:
    """The runs that have ended, and their files below `root`."""

    root: Path
    rows: list[RelaxedRun] = field(default_factory=list)
    _found: list[minima.End] = field(default_factory=list)
    _frames: int = 0

    def __post_init__(self) -> None:
        for path in self.files():
            path.unlink(missing_ok=True)

    def files(self) -> list[Path]:
        """Return the files, which are whole once every run has been added."""
        return [self.root / name for name in (RELAXED, EXACT, TRAJECTORY)]

    def add(self, run: Run, model: str, frames: Sequence[Frame], otherwise: Outcome = "not-converged") -> None:
        """Take a run that has ended; `otherwise` is what became of it if it did not converge."""
        images = [_atoms(run, number, frame) for number, frame in enumerate(frames)]
        last, final = frames[-1], images[-1]
        ase.io.write(self.root / TRAJECTORY, images, format="extxyz", append=True)
        ase.io.write(self.root / RELAXED, final, format="extxyz", append=True)
        writer: Any = TrajectoryWriter
        with writer(self.root / EXACT, mode="a") as file:
            for image in images:
                file.write(image)
        outcome: Outcome = "not-finite" if not last.finite else "converged" if last.converged else otherwise
        if outcome == "converged":
            self._found.append(minima.End(run.name, model, run.structure.formula, final, last.energy))
        self.rows.append(
            RelaxedRun(
                name=run.name,
                model=model,
                structure=run.source,
                start=run.start,
                outcome=outcome,
                steps=len(frames) - 1,
                first_frame=self._frames,
                frames=len(frames),
                atoms=len(final),
                formula=run.structure.formula,
                energy=finite(last.energy),
                energy_per_atom=finite(last.energy / len(final)),
                fmax=finite(last.fmax),
                volume=finite(float(final.get_volume())) if run.structure.cell else None,
                digest=Trajectory.of(frames).digest(),
            )
        )
        self._frames += len(frames)

    def minima(self) -> list[Minimum]:
        """Return the minima that converged runs ended in."""
        return minima.ranked(self._found)


def _atoms(run: Run, number: int, frame: Frame) -> Any:
    """Return a frame with what the model said of it, as readers of ASE's files expect."""
    atoms: Any = to_atoms(run.structure)
    atoms.set_positions(frame.positions, apply_constraint=False)
    if run.structure.cell:
        atoms.set_cell(frame.cell)
    atoms.info = {"run": run.name, "step": number}
    single: Any = SinglePointCalculator
    atoms.calc = single(atoms, energy=frame.energy, forces=frame.forces)
    return atoms
