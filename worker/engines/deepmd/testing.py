"""Jobs of kind test: `dp test`, frame by frame, with DeePMD-kit's own functions for every error."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import deepmd
from deepmd.utils.data import DeepmdData

from app.engines.deepmd.testing import PLOTS, QUANTITIES, REPORT
from app.wire.measuring import ErrorPlots, ErrorReport
from worker.engines.base import Context
from worker.engines.deepmd import opening
from worker.engines.deepmd.config import system_paths
from worker.engines.deepmd.errors import FrameErrors
from worker.engines.deepmd.tested import Tested
from worker.rundir import RunDir, RunSpec


class ModelTest:
    """The errors of models on data. See `worker.engines.base.EngineTask`."""

    phase = "evaluating"

    def __init__(self, spec: RunSpec, context: Context) -> None:
        self.total_steps = spec.total_steps
        self._config, self._context = spec.config, context
        self._run = RunDir(context.root)
        context.phase("model")
        opening.repeatably()
        details = self._run.root / "details"
        details.mkdir(exist_ok=True)
        several = len(spec.models) > 1
        self._tested = [
            Tested(
                opening.open_model(self._run, model, context, self._config["head"]),
                model,
                suffix=f"-{number}" if several else "",
                details=details if self._config["detail"] else None,
                most=self._config["worst"],
            )
            for number, model in enumerate(spec.models, 1)
        ]
        self._paths = [path for text in self._config["data"] for path in system_paths(text, self._run.data)]

    def steps(self) -> Iterator[dict[str, float]]:
        """Yield each frame's errors, and those over all frames so far; then publish what was found."""
        for path in self._paths:
            name = str(Path(path).relative_to(self._run.data))
            walks = [one.walk(name, data, self._config["numb_test"]) for one, data in self._opened(path)]
            for batches in zip(*walks, strict=True):
                yield from self._metrics(batches)
        self._publish()

    def _opened(self, path: str) -> Iterator[tuple["Tested", DeepmdData]]:
        """Yield every model with the system as it reads it; models that read it alike share it."""
        opened: dict[Any, DeepmdData] = {}
        for one in self._tested:
            key = (tuple(one.model.get_type_map()), one.model.get_dim_fparam(), one.model.get_dim_aparam())
            if key not in opened:
                opened[key] = one.open(path)
            yield one, opened[key]

    def _metrics(self, batches: tuple[list[FrameErrors], ...]) -> Iterator[dict[str, float]]:
        for frames in zip(*batches, strict=True):
            row: dict[str, float] = {}
            for one, errors in zip(self._tested, frames, strict=True):
                task = f"/{one.spec.name}" if len(self._tested) > 1 else ""
                row |= {f"{key}{task}": value for key, value in one.count(errors).items()}
            yield row

    def _publish(self) -> None:
        report = ErrorReport(
            library=f"deepmd-kit {deepmd.__version__}",
            data=self._config["data"],
            quantities=list(QUANTITIES),
            models=[one.report() for one in self._tested],
            plots_file=PLOTS,
        )
        self._write(REPORT, report.model_dump_json(indent=1))
        plots = ErrorPlots(models=[one.plots() for one in self._tested])
        self._write(PLOTS, plots.model_dump_json())
        for one in self._tested:
            for path in one.files(self._run.root):
                self._context.publish(path)

    def _write(self, name: str, text: str) -> None:
        path = self._run.root / name
        path.write_text(text, encoding="utf-8")
        self._context.publish(path)
