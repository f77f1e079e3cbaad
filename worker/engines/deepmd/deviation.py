"""Jobs of kind model-devi: `dp model-devi`, frame by frame, with DeePMD-kit's own functions for every number."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from deepmd.infer.deep_pot import DeepPot
from deepmd.infer.model_devi import calc_model_devi, write_model_devi_out
from deepmd.utils.data import DeepmdData

from worker.engines.base import Context
from worker.engines.deepmd import opening
from worker.engines.deepmd.config import system_paths
from worker.failures import TrainingFailure
from worker.rundir import ModelSpec, RunDir, RunSpec

OUTPUT = "model_devi.out"

COLUMNS = ("max_v", "min_v", "avg_v", "max_f", "min_f", "avg_f", "e")
"""What `calc_model_devi` returns beside the number of the frame, in its order. eV/Å, virials and energies eV per atom."""

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Frames:
    """Some consecutive frames of a system, as DeePMD-kit read them."""

    numbers: list[int]
    """Their numbers in the system, from 0."""
    coord: Array
    box: Array | None
    atype: Array
    fparam: Array | None
    aparam: Array | None


class Deviation:
    """How far models differ on data. See `worker.engines.base.EngineTask`."""

    phase = "evaluating"

    def __init__(self, spec: RunSpec, context: Context) -> None:
        self.total_steps = spec.total_steps
        self._config, self._context = spec.config, context
        self._run = RunDir(context.root)
        context.phase("model")
        opening.repeatably()
        self._models = [opening.open_model(self._run, model, context) for model in spec.models]
        _check_type_maps(self._models, spec.models)
        context.phase("data")
        self._systems = [
            (str(Path(path).relative_to(self._run.data)), self._open(path))
            for text in self._config["data"]
            for path in system_paths(text, self._run.data)
        ]

    def steps(self) -> Iterator[dict[str, float]]:
        """Yield the deviations of every frame of every system, in order; then publish them as DeePMD-kit writes them."""
        output = self._run.root / OUTPUT
        output.unlink(missing_ok=True)
        for name, system in self._systems:
            rows: list[Array] = []
            for frames in self._frames(name, system):
                found = self._evaluate(system, frames)
                rows.append(found)
                for row in found:
                    yield {f"devi/{key}": float(value) for key, value in zip(COLUMNS, row[1:], strict=False)}
            write_model_devi_out(np.vstack(rows), str(output), header=name, atomic=self._config["atomic"])
        self._context.publish(output)

    def _evaluate(self, system: DeepmdData, frames: Frames) -> Array:
        found: Array = calc_model_devi(
            frames.coord,
            frames.box,
            frames.atype,
            self._models,
            mixed_type=system.mixed_type,
            fparam=frames.fparam,
            aparam=frames.aparam,
            atomic=self._config["atomic"],
            relative=self._config["relative"],
        )
        found[:, 0] = np.array(frames.numbers) * self._config["frequency"]
        return found

    def _open(self, path: str) -> DeepmdData:
        """Open a system as `dp model-devi` does."""
        first = self._models[0]
        system = DeepmdData(path, "set", shuffle_test=False, type_map=first.get_type_map(), sort_atoms=False)
        for name, width, atomic in (
            ("fparam", first.get_dim_fparam(), False),
            ("aparam", first.get_dim_aparam(), True),
        ):
            if width > 0:
                system.add(name, width, atomic=atomic, must=True, high_prec=False)
        return system

    def _frames(self, name: str, system: DeepmdData) -> Iterator[Frames]:
        """Yield the chosen frames of a system, as many at a time as are evaluated together."""
        first, left = 0, self._config["limit"] or self.total_steps
        for part in system.dirs:
            try:
                data = system._load_set(part)
            except Exception as error:
                raise TrainingFailure("data", f"{name}, {Path(str(part)).name} cannot be read: {error}") from error
            count, atoms = data["coord"].shape[0], data["type"].shape[-1]
            chosen = [frame for frame in range(count) if (first + frame) % self._config["stride"] == 0][:left]
            size = max(1, opening.ATOMS_AT_ONCE // atoms)
            for start in range(0, len(chosen), size):
                yield _taken(system, data, chosen[start : start + size], first)
            first, left = first + count, left - len(chosen)
            if left == 0:
                return


def _taken(system: DeepmdData, data: dict[str, Any], places: list[int], first: int) -> Frames:
    return Frames(
        numbers=[first + place for place in places],
        coord=data["coord"][places],
        box=data["box"][places] if system.pbc else None,
        atype=data["type"][places] if system.mixed_type else data["type"][0],
        fparam=data["fparam"][places] if "fparam" in data else None,
        aparam=data["aparam"][places] if "aparam" in data else None,
    )


def _check_type_maps(models: Sequence[DeepPot], specs: Sequence[ModelSpec]) -> None:
    maps = [model.get_type_map() for model in models]
    for spec, type_map in zip(specs, maps, strict=True):
        if type_map != maps[0]:
            message = f"{spec.name} has the type map {type_map}, {specs[0].name} has {maps[0]}."
            raise TrainingFailure("configuration", message, hint="Name models that were trained with one type_map.")
