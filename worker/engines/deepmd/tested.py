"""One model under test: its errors on the systems that it is walked over, as `dp test` computes and weights them."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from deepmd.infer.deep_pot import DeepPot
from deepmd.infer.model_test import ChunkContext, EnerTester, ModelTester, build_tester
from deepmd.utils.data import DeepmdData
from deepmd.utils.weight_avg import merge_weighted_errors

from app.wire.measuring import ErrorRow, ModelErrors, ModelPlots
from worker.engines.deepmd import opening, worst
from worker.engines.deepmd.errors import Batch, FrameErrors, Pair, Points, Sums, add_by_element, by_frame, finite
from worker.failures import TrainingFailure
from worker.rundir import ModelSpec

log = logging.getLogger(__name__)

DETAIL = {
    "energy": (".e.out", ".e_peratom.out"),
    "force": (".f.out",),
    "virial": (".v.out", ".v_peratom.out", ".s.out"),
}
"""Endings of the files that DeePMD-kit writes of a quantity."""

PLOTTED = {
    "energy": ("Energy", "eV/atom"),
    "force": ("Force components", "eV/Å"),
    "virial": ("Virial components", "eV/atom"),
}
"""What each plot is called, and its unit."""

Errors = dict[str, tuple[float, float]]
"""Error and weight by DeePMD-kit's name: `rmse_ea` is that of energies per atom."""


class Tested:
    """One model under test, and all that is known of its errors so far."""

    def __init__(self, model: DeepPot, spec: ModelSpec, *, suffix: str, details: Path | None, most: int) -> None:
        self.model, self.spec = model, spec
        self._suffix = suffix
        self._details = details / f"results{suffix}" if details else None
        self._recorder = _Recorder(model)
        self._tester: ModelTester = build_tester(model, atomic=False)
        if type(self._tester) is not EnerTester:
            message = f"{spec.name} is no model of energies and forces alone: it is not tested here."
            raise TrainingFailure("configuration", message, hint="Use `dp test` for it.")
        self._tester.dp = self._recorder
        self._worst = worst.Worst(most)
        self._systems: list[ErrorRow] = []
        self._merged: list[Errors] = []
        self._elements: dict[str, Sums] = {}
        self._so_far: dict[str, Sums] = {}
        self._points: dict[str, Points] = {}

    def open(self, path: str) -> DeepmdData:
        """Open a system as `dp test` does."""
        data = DeepmdData(path, "set", shuffle_test=False, type_map=self.model.get_type_map(), sort_atoms=False)
        self._tester.add_data_requirements(data)
        return data

    def walk(self, name: str, data: DeepmdData, most: int) -> Iterator[list[FrameErrors]]:
        """Evaluate a system, as many frames at a time as are evaluated together, and yield the errors of each."""
        found: list[Errors] = []
        frames, atoms = 0, 0
        chunks = data.iter_test(chunk_atoms=opening.ATOMS_AT_ONCE, numb_test=most or float("inf"))
        while (chunk := _next(chunks, name)) is not None:
            found.append(self._tester.evaluate_chunk(data, chunk, self._context_of(name, frames)))
            batch = self._recorder.batch(name, frames, data, chunk)
            frames, atoms = frames + batch.frames, batch.atoms
            yield self._keep(batch)
        errors = merge_weighted_errors(found)
        self._merged.append(errors)
        log.info("%s: %d frames of %s", self.spec.name, frames, name)
        self._tester.log_errors(errors)
        self._systems.append(ErrorRow(name=name, frames=frames, atoms=atoms, errors=_values(errors)))

    def _context_of(self, name: str, offset: int) -> ChunkContext:
        is_first = not self._merged and offset == 0
        details = str(self._details) if self._details else None
        return ChunkContext(name, details, append_detail=not is_first, frame_offset=offset)

    def _keep(self, batch: Batch) -> list[FrameErrors]:
        errors = list(by_frame(batch))
        add_by_element(self._elements, batch)
        for name, pair in batch.compared().items():
            self._points.setdefault(name, Points()).add(pair)
        self._worst.add(batch, errors)
        return errors

    def count(self, errors: FrameErrors) -> dict[str, float]:
        """Count a frame, and return its errors and those over all frames so far."""
        row: dict[str, float] = {}
        for letter, error in errors.items():
            sums = self._so_far.setdefault(letter, Sums())
            sums.put(error)
            row[f"frame/rmse_{letter}"] = error.rmse
            row |= {f"test/rmse_{letter}": sums.rmse, f"test/mae_{letter}": sums.mae}
        return row

    def report(self) -> ModelErrors:
        """Return all that was found; the errors on all data weighted as `dp test` does."""
        overall = merge_weighted_errors(self._merged)
        log.info("%s, weighted average of %d systems", self.spec.name, len(self._merged))
        self._tester.log_errors(overall)
        ranked = self._worst.ranked()
        return ModelErrors(
            model=self.spec.name,
            sha256=self.spec.sha256,
            overall=_values(overall),
            elements=_by_element(self._elements),
            systems=self._systems,
            worst=worst.listed(ranked),
            worst_file=f"worst{self._suffix}.extxyz" if ranked else None,
        )

    def plots(self) -> ModelPlots:
        """Return points and histograms of what was compared."""
        plots = [self._points[name].plot(*words) for name, words in PLOTTED.items() if name in self._points]
        return ModelPlots(model=self.spec.name, plots=plots)

    def files(self, root: Path) -> Iterator[Path]:
        """Yield the files beside the report: DeePMD-kit's details of what was compared, the worst frames."""
        if self._details is not None:
            endings = [ending for name in self._points for ending in DETAIL[name]]
            yield from filter(Path.exists, (self._details.with_suffix(ending) for ending in endings))
        if ranked := self._worst.ranked():
            path = root / f"worst{self._suffix}.extxyz"
            worst.write_extxyz(path, ranked)
            yield path


class _Recorder:
    """A model that remembers what it said last: DeePMD-kit's tester returns errors, not the predictions."""

    def __init__(self, model: DeepPot) -> None:
        self._model = model
        self._said: tuple[Any, ...] = ()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def eval(self, *arguments: Any, **options: Any) -> tuple[Any, ...]:
        """Evaluate frames as the model does."""
        self._said = self._model.eval(*arguments, **options)
        return self._said

    def batch(self, name: str, first: int, data: DeepmdData, chunk: Mapping[str, Any]) -> Batch:
        """Return the frames that were evaluated last, with what the model said of them."""
        frames, atoms = chunk["type"].shape
        energy, force, virial = self._said[:3]
        shapes = {"energy": (frames,), "force": (frames, atoms, 3), "virial": (frames, 9)}
        said = {"energy": energy, "force": force, "virial": virial}
        pairs = {
            label: Pair(np.reshape(chunk[label], shape), np.reshape(said[label], shape))
            if chunk[f"find_{label}"] and (label != "virial" or data.pbc)
            else None
            for label, shape in shapes.items()
        }
        return Batch(
            system=name,
            first=first,
            # Type -1, the last entry here, stands for atoms that are none: systems of mixed types are filled up with them.
            symbols=np.array([*self._model.get_type_map(), ""])[chunk["type"]],
            coord=np.reshape(chunk["coord"], (frames, atoms, 3)),
            cell=np.reshape(chunk["box"], (frames, 3, 3)) if data.pbc else None,
            **pairs,
        )


def _next(chunks: Iterator[dict[str, Any]], name: str) -> dict[str, Any] | None:
    """Return the next frames, or None after the last; DeePMD-kit reads all of a system with the first."""
    try:
        return next(chunks, None)
    except Exception as error:
        raise TrainingFailure("data", f"{name} cannot be read: {error}") from error


def _values(errors: Errors) -> dict[str, float | None]:
    return {name: finite(float(value)) for name, (value, _) in errors.items()}


def _by_element(sums: Mapping[str, Sums]) -> list[ErrorRow]:
    return [
        ErrorRow(name=name, atoms=one.count // 3, errors={"mae_f": finite(one.mae), "rmse_f": finite(one.rmse)})
        for name, one in sorted(sums.items())
    ]
