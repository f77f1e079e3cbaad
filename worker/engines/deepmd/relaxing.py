"""Jobs of kind relax: the structures are looked at, go downhill, and do so again to show that every bit repeats."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import deepmd
import torch
from deepmd.infer.deep_pot import DeepPot

from app.engines.deepmd import physics
from app.engines.deepmd.relaxing import REPORT, TRAJECTORY
from app.engines.deepmd.structures import Structure
from app.wire.relaxing import CheckedStructure, Finding, RelaxReport, Repeat
from worker.engines.base import Context
from worker.engines.deepmd import again, opening, relaxations
from worker.engines.deepmd.downhill import Run
from worker.engines.deepmd.ends import Ends
from worker.engines.deepmd.relaxations import Work, kept
from worker.engines.deepmd.trajectories import Comparison, Frame, Trajectory
from worker.failures import TrainingFailure
from worker.rundir import RunDir, RunSpec

NAMED = 24
"""Runs at most that have curves of their own."""

Row = dict[str, float]


class Relaxation:
    """Structures relaxed by models. See `worker.engines.base.EngineTask`."""

    phase = "relaxing"

    def __init__(self, spec: RunSpec, context: Context) -> None:
        self.total_steps = 0
        self._spec, self._config, self._context = spec, spec.config, context
        self._run = RunDir(context.root)
        context.phase("model")
        opening.repeatably()
        self._work = Work(self._run, spec, [self._opened(number) for number in range(len(spec.models))])
        context.phase("data")
        self._checked = self._check()
        self._place = self._run.root / "relaxations"
        self._ends = Ends(self._run.root)

    def steps(self) -> Iterator[Row]:
        """Yield the energy and the largest force of every frame of every run; then do all again, and publish."""
        yield from self._first()
        repeats: list[Repeat] = []
        for comparison in self._repeats():
            if isinstance(comparison, Comparison):
                repeats.append(comparison.told())
                self._tell(repeats[-1])
            else:
                yield comparison
        self._publish(repeats)

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
        refused = [(one.name, each) for one in checked for each in one.findings if self._refuses(each)]
        if refused:
            words = [f"{name}: {each.message}" for name, each in refused]
            message = f"{words[0]}." + (f" {len(words) - 1} more such findings are in the detail." if words[1:] else "")
            hint = "Atoms are counted from 0. Mend the structure, or say `on_unphysical: warn`."
            raise TrainingFailure("data", message, hint=hint, detail="\n".join(words))
        return checked

    def _refuses(self, finding: Finding) -> bool:
        return finding.refused and (self._config["on_unphysical"] == "refuse" or finding.code in physics.HOPELESS)

    def _checked_one(self, source: str, structure: Structure) -> CheckedStructure:
        findings = physics.findings(structure)
        if not any(each.code in physics.HOPELESS for each in findings):
            for model in self._work.models:
                for each in physics.of_model(structure, model.get_type_map(), model.get_rcut(), _shortest(model)):
                    if each not in findings:
                        findings.append(each)
                        self._warn(source, each)
        return CheckedStructure(name=source, atoms=len(structure.symbols), formula=structure.formula, findings=findings)

    def _warn(self, source: str, finding: Finding) -> None:
        """Say what only the model could tell; the rest was said when the job was submitted."""
        self._context.event("warning", f"{source}: {finding.message}.", finding.model_dump(exclude_none=True))

    # --- the runs -----------------------------------------------------------------------------------------------------

    def _first(self) -> Iterator[Row]:
        """Do all runs: these count."""
        shutil.rmtree(self._place, ignore_errors=True)
        self._place.mkdir()
        before: tuple[Run, list[Frame]] | None = None
        for run, frames in self._work.done(self._place / "first"):
            if before is not None and before[0] is not run:
                self._ended(*before)
            before = run, frames
            yield self._row(run, frames[-1])
        assert before is not None, "there is at least one run"
        self._ended(*before)

    def _ended(self, run: Run, frames: list[Frame]) -> None:
        self._ends.add(run, self._spec.models[run.model].name, frames)
        row = self._ends.rows[-1]
        words = {"converged": "converged", "not-converged": "not converged", "not-finite": "a number is not finite"}
        message = f"{run.name}: {words[row.outcome]} after {row.steps} steps, {row.energy} eV, fmax {row.fmax} eV/Å."
        self._context.event("relaxed", message, {"run": run.name, "digest": row.digest})

    def _row(self, run: Run, frame: Frame) -> Row:
        runs = len(self._work.runs)
        named = f"/{run.name}" if 1 < runs <= NAMED else ""
        done = {"relax/done": float(len(self._ends.rows))} if runs > 1 else {}
        per_atom = frame.energy / len(run.structure.symbols)
        return {f"relax/energy_per_atom{named}": per_atom, f"relax/fmax{named}": frame.fmax, **done}

    # --- once more ----------------------------------------------------------------------------------------------------

    def _repeats(self) -> Iterator[Row | Comparison]:
        """Do all runs again, as often and in as many ways as asked: a row for each frame, then what came of each time."""
        repeat, threads, form = self._config["repeat"], torch.get_num_threads(), self._config["form"]
        for number in range(2, repeat):
            yield from self._again_here(number)
        if repeat > 1:
            yield from self._again_fresh("in a fresh process", form, threads)
        if "threads" in self._config["compare"]:
            other = 2 if threads == 1 else 1
            words = f"with {other} thread{'s' if other > 1 else ''} in place of {threads}"
            yield from self._again_fresh(words, form, other)
        if "form" in self._config["compare"]:
            other_form = "checkpoint" if form == "frozen" else "frozen"
            words = "from the checkpoint" if form == "frozen" else "from the frozen model (.pth)"
            yield from self._again_fresh(words, other_form, threads)

    def _again_here(self, number: int) -> Iterator[Row | Comparison]:
        place = self._place / "again"
        for _ in self._work.done(place):
            yield {"repeat/time": float(number)}
        yield self._compared(f"in the same process, time {number}", place)

    def _again_fresh(self, how: str, form: str, threads: int) -> Iterator[Row | Comparison]:
        place = self._place / "fresh"
        for _ in again.in_fresh_process(self._run, place, form, threads):
            yield {"repeat/time": float(self._config["repeat"])}
        yield self._compared(how, place)

    def _compared(self, how: str, place: Path) -> Comparison:
        comparison = Comparison(how)
        for number, run in enumerate(self._work.runs):
            first, second = (Trajectory.load(kept(each, number)) for each in (self._place / "first", place))
            comparison.add(run.name, first, second)
        shutil.rmtree(place)
        return comparison

    def _tell(self, repeat: Repeat) -> None:
        message = f"Done again {repeat.how}: all {repeat.frames} frames are the same, bit for bit."
        if not repeat.identical:
            message = (
                f"Done again {repeat.how}: {repeat.parts_in} parts at frame {repeat.parts_at}; at most "
                f"{repeat.positions:.1e} Å, {repeat.energy:.1e} eV and {repeat.forces:.1e} eV/Å lie between the two."
            )
        self._context.event("repeated", message, repeat.model_dump())

    def _publish(self, repeats: Sequence[Repeat]) -> None:
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
            repeats=list(repeats),
            trajectory=TRAJECTORY,
        )
        path = self._run.root / REPORT
        path.write_text(report.model_dump_json(indent=1), encoding="utf-8")
        for each in (*self._ends.files(), path):
            self._context.publish(each)


def _shortest(model: DeepPot) -> float | None:
    """Return the shortest distance of two atoms in the training data; None when the file does not say."""
    state = model.deep_eval.dp.state_dict()
    found = [float(value) for name, value in state.items() if name.endswith("min_nbor_dist") and torch.is_tensor(value)]
    return min((value for value in found if value > 0), default=None)
