"""Jobs of kind relax: the structures are looked at, go downhill, and do so again to show that every bit repeats."""

import hashlib
import shutil
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import deepmd
import torch
from deepmd.infer.deep_pot import DeepPot

from app.engines.deepmd import physics
from app.engines.deepmd.relaxing import REPORT, TRAJECTORY
from app.engines.deepmd.structures import Structure
from app.wire.relaxing import CheckedStructure, Finding, RelaxReport, Repeat
from app.wire.worker import INEXACT
from worker.engines.base import Context
from worker.engines.deepmd import opening, relaxations, repeats
from worker.engines.deepmd.downhill import Retraced, Run
from worker.engines.deepmd.ends import Ends
from worker.engines.deepmd.record import STATE, Kept, Record, State
from worker.engines.deepmd.relaxations import Work, kept
from worker.engines.deepmd.trajectories import Frame, Trajectory
from worker.failures import TrainingFailure
from worker.rundir import RunDir, RunSpec

MOST_WARNED = 100
"""Findings at most that are events of their own: a thousand structures of one kind have a thousand times the same."""
NAMED = 24
"""Runs at most that have curves of their own."""

Row = dict[str, float]


class Relaxation:
    """Structures relaxed by models. See `worker.engines.base.ResumableTask`."""

    phase = "relaxing"

    def __init__(self, spec: RunSpec, context: Context) -> None:
        self.total_steps = 0
        self._spec, self._config, self._context = spec, spec.config, context
        self._run = RunDir(context.root)
        context.phase("model")
        opening.repeatably()
        self._work = Work(self._run, spec, [self._opened(number) for number in range(len(spec.models))])
        context.phase("data")
        self._warned = 0
        self._checked = self._check()
        self._place = self._run.root / "relaxations"
        shutil.rmtree(self._place, ignore_errors=True)
        for name in ("first", "frames"):
            (self._place / name).mkdir(parents=True)
        self._record = Record(self._place / "frames")
        self._ends = Ends(self._run.root)
        self._repeats: list[Repeat] = []
        self._step = 0
        self._resting: int | None = None
        """Step before the repetition that goes on, in which there is nothing to return to; None in the first time."""
        self._kept = Kept()
        self._going: tuple[Run, list[Frame]] | None = None
        """The run that has not ended, and its frames so far."""

    def steps(self) -> Iterator[Row]:
        """Yield the energy and the largest force of every frame of every run; then do all again, and publish."""
        for row in chain(self._first(), self._again()):
            self._step += 1
            yield row
        self._publish()

    # --- what it goes on from -----------------------------------------------------------------------------------------

    @property
    def returns_to(self) -> int:
        """Return the step just done, or the last one before the repetition that goes on."""
        return self._step if self._resting is None else self._resting

    def save(self, directory: Path) -> dict[str, str]:
        """Write all frames of the first time, and what the repetitions have told."""
        names = self._record.save(directory)
        state = State(
            step=self.returns_to, frames=self._record.frames, ended=len(self._ends.rows), repeats=self._repeats
        )
        state.save(directory / STATE)
        return dict.fromkeys([*names, STATE], "state")

    def restore(self, directory: Path) -> int:
        """Take the frames as they are; the optimiser of the run that had not ended takes its steps again."""
        state = State.load(directory / STATE)
        self._kept = Kept(self._record.load(directory), state.ended)
        if self._record.frames != state.frames:
            message = f"The checkpoint holds {self._record.frames} frames, not {state.frames}."
            raise TrainingFailure("data", message, hint="Submit the job anew.")
        self._step, self._repeats = state.step, state.repeats
        return state.step

    def fingerprint(self) -> str:
        """Return SHA-256 over all frames and what the repetitions have told."""
        told = "".join(repeat.model_dump_json() for repeat in self._repeats)
        return hashlib.sha256((self._record.digest() + told).encode()).hexdigest()

    def leave(self) -> None:
        """Publish the runs that have ended, and the one on its way as far as it came."""
        if self._going is not None:
            run, frames = self._going
            self._ends.add(run, self._spec.models[run.model].name, frames, "stopped")
        if self._ends.rows:
            self._publish()

    def _opened(self, number: int) -> DeepPot:
        model, head = self._spec.models[number], self._config["head"]
        if self._config["form"] == "checkpoint":
            return opening.open_model(self._run, model, self._context, head)
        path, chosen = relaxations.model_file(self._run, model, head, "frozen")
        return opening.opened(path, chosen)

    # --- the structures -----------------------------------------------------------------------------------------------

    def _check(self) -> list[CheckedStructure]:
        """Look at every structure before the first step. Raises TrainingFailure where that is wanted, with all findings."""
        found = relaxations.structures(self._spec, self._run)
        checked = [self._checked_one(source, structure) for source, structure in found]
        if self._warned > MOST_WARNED:
            message = f"{self._warned - MOST_WARNED} more: all findings are in {REPORT} when it is written."
            self._context.event("warning", message, {})
        refused = [(one.name, each) for one in checked for each in one.findings if self._refuses(each)]
        if refused:
            words = [f"{name}: {each.message}" for name, each in refused]
            message = f"{words[0]}." + (f" {len(words) - 1} more: all findings are in the detail." if words[1:] else "")
            hint = "Atoms are counted from 0. Mend the structure, or say `on_unphysical: warn`."
            raise TrainingFailure("data", message, hint=hint, detail="\n".join(words))
        return checked

    def _refuses(self, finding: Finding) -> bool:
        return finding.refused and (self._config["on_unphysical"] == "refuse" or finding.code in physics.HOPELESS)

    def _checked_one(self, source: str, structure: Structure) -> CheckedStructure:
        findings = physics.findings(structure)
        if not any(each.code in physics.HOPELESS for each in findings):
            for model in self._work.models:
                known = (model.get_type_map(), model.get_rcut(), _sel(model), _shortest(model))
                for each in physics.of_model(structure, *known):
                    if each not in findings:
                        findings.append(each)
                        self._warn(source, each)
        return CheckedStructure(name=source, atoms=len(structure.symbols), formula=structure.formula, findings=findings)

    def _warn(self, source: str, finding: Finding) -> None:
        """Say what only the model could tell; the rest was said when the job was submitted."""
        self._warned += 1
        if self._warned <= MOST_WARNED:
            self._context.event("warning", f"{source}: {finding.message}.", finding.model_dump(exclude_none=True))

    # --- the runs -----------------------------------------------------------------------------------------------------

    def _first(self) -> Iterator[Row]:
        """Do all runs: these count. Those that had ended when the checkpoint was written are taken from it."""
        for number, run in enumerate(self._work.runs):
            frames = self._kept.frames.pop(number, [])
            if number < self._kept.ended:
                self._context.heed_stop()
                self._ends.add(run, self._spec.models[run.model].name, frames)
            else:
                yield from self._down(number, run, frames)
                self._ended(run, frames)
            Trajectory.of(frames).save(kept(self._place / "first", number))

    def _down(self, number: int, run: Run, frames: list[Frame]) -> Iterator[Row]:
        """Do a run, after the frames of it that are there; `frames` gets the others."""
        descent = self._work.descent(run)
        if frames:
            self._tell_retraced(run, len(frames), descent.retrace(frames))
        for frame in descent.frames():
            frames.append(frame)
            self._record.add(number, frame)
            self._going = run, frames
            yield self._row(run, frame)
        self._going = None

    def _tell_retraced(self, run: Run, frames: int, found: Retraced) -> None:
        """Say that a run goes on, and whether it is as if nothing had happened."""
        data = {"run": run.name, "frames": frames}
        if found.exact:
            message = f"{run.name} goes on: each of its {frames} frames led to the bits of the next, as before."
            self._context.event("retraced", message, data)
        else:
            message = (
                f"{run.name} goes on from its {frames} frames, but not bit for bit: this machine computes otherwise "
                f"(a step led {found.apart:.1e} Å elsewhere at most)."
            )
            self._context.event(INEXACT, message, data)

    def _ended(self, run: Run, frames: list[Frame]) -> None:
        self._ends.add(run, self._spec.models[run.model].name, frames)
        row = self._ends.rows[-1]
        words = {"converged": "converged", "not-converged": "not converged", "not-finite": "a number is not finite"}
        message = f"{run.name}: {words[row.outcome]} after {row.steps} steps, {row.energy} eV, fmax {row.fmax} eV/Å."
        self._context.event("relaxed", message, {"run": run.name, "digest": row.digest})

    def _row(self, run: Run, frame: Frame) -> Row:
        runs = len(self._work.runs)
        named = f"/{run.name}" if 1 < runs <= NAMED else ""
        number = {"relax/run": float(len(self._ends.rows) + 1)} if runs > 1 else {}
        per_atom = frame.energy / len(run.structure.symbols)
        return {f"relax/energy_per_atom{named}": per_atom, f"relax/fmax{named}": frame.fmax, **number}

    # --- once more ----------------------------------------------------------------------------------------------------

    def _again(self) -> Iterator[Row]:
        """Do all runs again, as often and in as many ways as asked, but for those that had been done."""
        for again in repeats.planned(self._config, torch.get_num_threads())[len(self._repeats) :]:
            self._resting = self._step
            place = self._place / "again"
            for _ in again.frames(self._work, place):
                yield {"repeat/time": float(again.time)}
            self._repeats.append(repeats.compared(self._work, again.how, self._place / "first", place))
            self._context.event("repeated", repeats.in_words(self._repeats[-1]), self._repeats[-1].model_dump())

    def _publish(self) -> None:
        report = RelaxReport(
            library=f"deepmd-kit {deepmd.__version__}",
            optimizer=self._config["optimizer"],
            fmax=self._config["fmax"],
            cell=self._config["cell"],
            form=self._config["form"],
            threads=torch.get_num_threads(),
            structures=self._checked,
            runs=self._ends.rows,
            minima=self._ends.minima(),
            repeats=self._repeats,
            trajectory=TRAJECTORY,
        )
        path = self._run.root / REPORT
        path.write_text(report.model_dump_json(indent=1), encoding="utf-8")
        for each in (*self._ends.files(), path):
            self._context.publish(each)


def _sel(model: DeepPot) -> list[int]:
    """Return how many neighbours a model takes of each type, or of all types together."""
    one = model.deep_eval.dp.model["Default"]
    found = [int(number) for number in one.get_sel()]
    return [sum(found)] if one.mixed_types() else found


def _shortest(model: DeepPot) -> float | None:
    """Return the shortest distance of two atoms in the training data; None when the file does not say."""
    state = model.deep_eval.dp.state_dict()
    found = [float(value) for name, value in state.items() if name.endswith("min_nbor_dist") and torch.is_tensor(value)]
    return min((value for value in found if value > 0), default=None)
