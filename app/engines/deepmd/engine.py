"""The DeePMD engine: its name, its schema, and resolution of an `input.json`."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from app.engines.base import DatasetFacts, DataUse, EngineResolution
from app.engines.documents import leaves, pointer
from app.engines.seeds import derive
from app.wire.datasets import DatasetRef
from app.wire.jobs import Origin
from app.wire.problems import Problem

Json = Any


class DeepmdEngine:
    """DeePMD-kit models trained with the PyTorch backend."""

    name = "deepmd"
    title = "DeePMD-kit"
    trainer = "worker.engines.deepmd.trainer:DeepmdTrainer"
    library = "deepmd-kit"

    def schema(self) -> dict[str, Json]:
        """Return the JSON schema of an `input.json`."""
        return {}

    def data_uses(self, config: Mapping[str, Json]) -> Iterator[DataUse]:
        """Yield every system named under `training`."""
        training = config.get("training")
        if not isinstance(training, dict):
            return
        for section in ("training_data", "validation_data"):
            data = training.get(section)
            systems = data.get("systems") if isinstance(data, dict) else None
            for index, text in enumerate(systems if isinstance(systems, list) else []):
                if isinstance(text, str):
                    yield DataUse(pointer("training", section, "systems", index), text, DatasetRef.parse(text))

    def resolve(
        self, config: Mapping[str, Json], *, root_seed: int, datasets: Mapping[str, DatasetFacts], start_mode: str
    ) -> EngineResolution:
        """Complete a submitted config."""
        from dargs import Argument
        from deepmd.utils.argcheck import gen_args

        base = Argument("base", dict, gen_args())
        try:
            full = base.normalize_value(dict(config), trim_pattern="_*")
            base.check_value(full, strict=True)
        except Exception as error:  # noqa: BLE001
            problem = Problem(code="invalid-config", message=str(error), pointer="")
            return EngineResolution({}, {}, {}, 0, problems=[problem])
        seeds = {name: derive(root_seed, name) for name in ("data.order", "data.tasks", "statistics")}
        for path, place in (
            ("model.descriptor", full["model"]["descriptor"]),
            ("model.fitting_net", full["model"]["fitting_net"]),
            ("training", full["training"]),
        ):
            seeds[path] = place.setdefault("seed", derive(root_seed, path))
        for section in ("training_data", "validation_data"):
            data = full["training"].get(section)
            if data:
                data["systems"] = [s for text in data["systems"] for s in _expand(text, datasets)]
        given = {at for at, _ in leaves(dict(config))}
        origins = {at: Origin(origin="explicit" if at in given else "default") for at, _ in leaves(full)}
        return EngineResolution(full, origins, seeds, full["training"]["numb_steps"])

    def artifact_keys(self, config: Mapping[str, Json], dataset_digests: Mapping[str, str]) -> Mapping[str, str]:
        """Return the keys of statistics."""
        return {}

    def file_stem(self, job_name: str, config: Mapping[str, Json], seed: int, digest: str) -> str:
        """Return the start of a checkpoint's file name."""
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", job_name).strip("-.")[:60] or "job"
        return f"{stem}-{config['model']['descriptor']['type']}-s{seed}-{digest[:6]}"

    def headline(self) -> Sequence[str]:
        """Return the metric keys worth a column in a list."""
        return ("train/rmse_f", "train/rmse_e", "train/loss", "lr")

    def learning_curve(
        self, config: Mapping[str, Json], steps: Sequence[int], columns: Mapping[str, Sequence[float | None]]
    ) -> Iterator[str]:
        """Yield the lines of `lcurve.out`."""
        return iter(())

    def learning_curve_name(self) -> str:
        """Return that file's usual name."""
        return "lcurve.out"


def _expand(text: str, datasets: Mapping[str, DatasetFacts]) -> list[str]:
    facts = datasets.get(text)
    ref = DatasetRef.parse(text)
    if facts is None or ref is None:
        return [text]
    names = [ref.system] if ref.system else [system.name for system in facts.systems]
    return [str(DatasetRef(name=facts.name, version=facts.version, system=name)) for name in names]


ENGINE = DeepmdEngine()
