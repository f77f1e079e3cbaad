"""An engine of few words: enough of resolution and planning to see what the control plane makes of them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from app.engines.base import Base, DatasetFacts, DataUse, DataWords, EngineResolution
from app.wire.datasets import DatasetRef, DatasetView
from app.wire.metrics import MetricWords
from app.wire.models import Inventory
from app.wire.problems import Notice, Problem
from app.wire.resolution import LosingCandidate, Origin
from app.wire.submission import Start
from app.wire.transfer import ComponentShare, FunctionChange, PlannedTensor, TransferPlan

DEFAULTS = {"steps": 100, "width": 4, "depth": 1, "cutoff": 6.0, "data": [], "test": []}


class StubEngine:
    """Config: `width` shapes the only tensor, `cutoff` only changes what it means. A base has a `width`, too."""

    name = "stub"
    title = "Stub"
    trainer = "nowhere:main"
    errands = "nowhere"
    tasks: Mapping[str, Any] = {}
    intake = "nowhere:take_in"
    document = "stub.json"
    data_words = DataWords("Anything", "Send less", "cairn dataset add")
    weights_words = "Anything"
    has_fitting = True
    exports: Mapping[str, str] = {}
    metric_words: Mapping[str, MetricWords] = {}
    library = "celery"  # any distribution that is installed: its version is shown

    def schema(self) -> dict[str, Any]:
        return {"type": "object"}

    def recognises(self, config: Mapping[str, Any]) -> bool:
        return "cutoff" in config

    def examples(self, datasets: Sequence[DatasetView]) -> Mapping[str, str]:
        return {}

    def usage(self, dataset: DatasetView) -> str:
        return dataset.ref

    def data_uses(self, config: Mapping[str, Any]) -> Iterator[DataUse]:
        for key in ("data", "test"):
            for index, text in enumerate(config.get(key, ())):
                yield DataUse(f"/{key}/{index}", text, DatasetRef.parse(text), validates=key == "test")

    def resolve(
        self,
        config: Mapping[str, Any],
        *,
        root_seed: int,
        datasets: Mapping[str, DatasetFacts],
        start: Start,
        base: Base | None,
        ranks: int,
    ) -> EngineResolution:
        layers: list[tuple[str, Mapping[str, Any]]] = [("explicit", config)]
        if base is not None:
            inherited = base.facts.config if start.mode == "resume" else base.facts.branches[0].model
            layers.append(("base", inherited or {}))
        layers.append(("default", DEFAULTS))
        full, origins = {}, {}
        for key in DEFAULTS:
            (kind, value), *losing = [(kind, layer[key]) for kind, layer in layers if key in layer]
            full[key] = value
            lost = [LosingCandidate(origin=kind, value=value) for kind, value in losing]
            origins[f"/{key}"] = Origin(
                origin=kind, source=base.sha256 if kind == "base" and base else None, losing=lost
            )
        problems = [Problem(code="unknown-key", message=f"{key}?", pointer=f"/{key}") for key in config.keys() - full]
        start_problems = []
        if base is not None and start.branch not in (None, *(branch.name for branch in base.facts.branches)):
            start_problems.append(Problem(code="unknown-branch", message="no such branch", pointer="/branch"))
        for key, use in ((use.pointer.split("/")[1], use) for use in self.data_uses(full)):
            facts = datasets.get(use.text)
            if facts is not None and use.ref is not None:
                place = full[key].index(use.text)
                full[key] = [*full[key]]
                full[key][place] = str(use.ref.model_copy(update={"version": facts.version}))
        return EngineResolution(
            full,
            origins,
            {"stub": root_seed},
            full["steps"],
            problems,
            [Notice(code="hm", message="a warning", pointer="/width")] if config.get("width") == 13 else [],
            start_problems,
        )

    def checkpoint_interval(self, config: Mapping[str, Any]) -> int:
        return 1

    def longer(self, steps: int) -> dict[str, Any]:
        return {"steps": steps}

    def inventory_order(self, config: Mapping[str, Any]) -> dict[str, Any]:
        return {"width": config["width"]}

    def plan(
        self, config: Mapping[str, Any], origins: Mapping[str, Origin], start: Start, base: Base, inventory: Inventory
    ) -> TransferPlan | list[Problem]:
        if start.branch == "bug":
            raise RuntimeError("planned accident")
        tensor, old = inventory.tensors[0], base.facts.branches[0].model
        fits = config["width"] == old["width"]
        if not fits and "width" not in start.allow:
            message = f"w is {tensor.shape} here and [{old['width']}] in {base.name}"
            hint = 'Put "width" into start.allow to begin with new numbers there.'
            found = Problem(code="shape-mismatch", message=message, pointer="/config/width", hint=hint, allow=["width"])
            return [
                found,
                found.model_copy(update={"code": "another", "message": "and more", "hint": None, "allow": None}),
            ]
        changes = []
        if config["cutoff"] != old.get("cutoff", 6.0):
            changes = [FunctionChange(pointer="/cutoff", base=6.0, value=config["cutoff"], message="sees further")]
        count = config["width"]
        planned = PlannedTensor(
            name="w",
            verb="copied" if fits else "reinitialised",
            component="descriptor",
            shape=tensor.shape,
            dtype=tensor.dtype,
            source="w" if fits else None,
            kept=count if fits else 0,
            reason=None if fits else "another width",
            key=None if fits else "/width",
        )
        return TransferPlan(
            base=base.name,
            sha256=base.sha256,
            mode=start.mode,
            tensors=[planned],
            components=[ComponentShare(component="descriptor", parameters=count, kept=planned.kept)],
            parameters=count,
            kept=planned.kept,
            counts={planned.verb: 1},
            function_changes=changes,
        )

    def artifact_keys(self, config: Mapping[str, Any], dataset_digests: Mapping[str, str]) -> Mapping[str, str]:
        return {}

    def file_stem(self, job_name: str, config: Mapping[str, Any], seed: int, digest: str) -> str:
        return f"stub-s{seed}-{digest[:6]}"

    def headline(self) -> Sequence[str]:
        return ("train/loss",)

    def metric_keys(self, config: Mapping[str, Any]) -> frozenset[str] | None:
        return None

    def learning_curve(
        self, config: Mapping[str, Any], steps: Sequence[int], columns: Mapping[str, Sequence[float | None]]
    ) -> Iterator[str]:
        return iter(())

    def ensemble_commands(self, config: Mapping[str, Any], files: Sequence[str]) -> Sequence[str]:
        return [f"stub {' '.join(files)}"]

    def component(self, tensor: str) -> str:
        return "descriptor"

    def learning_curve_name(self) -> str:
        return "stub.out"


def inventory(width: int) -> dict[str, Any]:
    """Return the tensors of a model as a worker lists them: one parameter, an alias of it, and a buffer."""
    return {
        "tensors": [
            {"name": "w", "shape": [width], "dtype": "float64", "is_parameter": True},
            {"name": "again", "shape": [width], "dtype": "float64", "is_parameter": True, "alias_of": "w"},
            {"name": "mean", "shape": [2], "dtype": "float32", "is_parameter": False},
        ]
    }
