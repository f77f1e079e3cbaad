"""The torch-free half of the line engine, and how a process gets to know it.

Config: `{"degree": 1, "data": "dataset:points", "steps": 100, "learning_rate": 0.05, "every": 50, "seed": null}`.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from math import prod
from typing import Any

from app.engines import registry
from app.engines.base import Base, DatasetFacts, DataUse, DataWords, EngineResolution
from app.engines.documents import canonical, leaves, short
from app.engines.draft import Draft
from app.engines.layers import Layer, merge
from app.engines.references import digests, named, newest
from app.engines.seeds import RULE, derive
from app.engines.starts import check_allow, near, not_resumable
from app.engines.transfer.assembly import assembled
from app.engines.transfer.refusals import Deviation, Words, is_accepted, refuse
from app.engines.transfer.sections import Section
from app.engines.ways import Way
from app.wire.datasets import DatasetRef, DatasetView
from app.wire.metrics import MetricWords
from app.wire.models import Inventory
from app.wire.problems import Problem
from app.wire.resolution import Origin
from app.wire.submission import Start
from app.wire.transfer import PlannedTensor, TransferPlan

Json = Any

DEFAULTS = {"model": {"degree": 1}, "data": "", "steps": 100, "learning_rate": 0.05, "every": 50}
TYPES = {"degree": int, "data": str, "steps": int, "learning_rate": float, "every": int, "seed": int}
WORDS = Words(
    adaptable="nothing", source="the checkpoint", short_name=lambda tensor: tensor.name, remedies=lambda _: []
)


class LineEngine:
    """Polynomials, fitted to points by gradient descent."""

    name = "line"
    title = "Line"
    trainer = "tests.engines.line.trainer:LineTrainer"
    errands = "tests.engines.line.errands"
    intake = "tests.engines.line.intake:take_in"
    library = "numpy"
    document = "line.json"
    data_words = DataWords("A file of points", "Send fewer points", "cairn dataset add points.json --name points")
    weights_words = "A checkpoint of Cairn"
    has_fitting = False
    exports: Mapping[str, str] = {}
    metric_words = {"slope": MetricWords(title="Slope")}
    tasks: Mapping[str, Any] = {}

    def schema(self) -> dict[str, Json]:
        number = {"type": "number", "exclusiveMinimum": 0}
        count = {"type": "integer", "minimum": 1, "maximum": 1000}
        model = {"type": "object", "properties": {"degree": count, "seed": {"type": ["integer", "null"]}}}
        data = {"type": "string"}
        properties = {"model": model, "data": data, "steps": count, "every": count, "learning_rate": number}
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "properties": properties}

    def recognises(self, config: Mapping[str, Json]) -> bool:
        model = config.get("model")
        return isinstance(model, Mapping) and "degree" in model

    def examples(self, datasets: Sequence[DatasetView]) -> Mapping[str, str]:
        reference = datasets[0].ref if datasets else "dataset:points"
        return {"": canonical({"model": {"degree": 1}, "data": reference})}

    def usage(self, dataset: DatasetView) -> str:
        return f'"data": "{dataset.ref}"'

    def data_uses(self, config: Mapping[str, Json]) -> Iterator[DataUse]:
        if isinstance(config.get("data"), str):
            yield from named(("data",), config["data"])

    def resolve(
        self,
        config: Mapping[str, Json],
        *,
        root_seed: int,
        datasets: Mapping[str, DatasetFacts],
        start: Start,
        base: Base | None,
        ranks: int,
    ) -> EngineResolution:
        draft = Draft(config, {}, Way(), base=base)
        layers = [
            Layer("explicit", _right(draft, config)),
            Layer("base", _inherited(start, base)),
            Layer("default", DEFAULTS),
        ]
        merged = merge(layers)
        draft.config, draft.candidates = merged.document, merged.candidates
        problems = [] if base is None else check_allow(start, draft.config, draft.way)
        if start.mode == "resume" and base is not None and base.facts.config is None:
            problems.append(not_resumable(base))
        text = draft.get("data")
        if (facts := datasets.get(text)) is not None and (ref := DatasetRef.parse(text)) is not None:
            pinned = f"dataset:{facts.name}@{facts.version}"
            if text != pinned:
                note = "; ".join(newest(ref, facts))
                draft.put(("data",), pinned, "derived", source=digests([text], datasets), note=note)
        elif not text:
            draft.refuse("missing-key", ("data",), "names no data", "Write dataset:NAME.")
        if draft.problems or problems:
            return EngineResolution({}, {}, {}, 0, problems=draft.problems, start_problems=problems)
        if draft.get("model", "seed") is None:
            draft.put(("model", "seed"), derive(root_seed, "model"), "seed", source=RULE)
        seeds = {"model": draft.config["model"]["seed"]}
        return EngineResolution(deepcopy(draft.config), draft.origins(), seeds, draft.config["steps"])

    def checkpoint_interval(self, config: Mapping[str, Json]) -> int:
        return int(config["every"])

    def longer(self, steps: int) -> dict[str, Json]:
        return {"steps": steps}

    def inventory_order(self, config: Mapping[str, Json]) -> dict[str, Json]:
        return {"degree": config["model"]["degree"]}

    def plan(
        self, config: Mapping[str, Json], origins: Mapping[str, Origin], start: Start, base: Base, inventory: Inventory
    ) -> TransferPlan | list[Problem]:
        section, theirs = Section("", dict(config["model"])), base.facts.branches[0].model
        known = {tensor.name: tensor for tensor in base.facts.tensors}
        deviation = Deviation("layer", section, ("/degree",), (theirs["degree"],), known["weights"])
        planned, refused = [], []
        for tensor in inventory.tensors:
            source = known[tensor.name]
            rows, had = tensor.shape[0], source.shape[0]
            verb = "copied" if rows == had else "padded" if rows > had else "sliced"
            planned.append(
                PlannedTensor(
                    name=tensor.name,
                    verb=verb,
                    component=self.component(tensor.name),
                    shape=tensor.shape,
                    dtype=tensor.dtype,
                    source=source.name,
                    source_shape=source.shape,
                    kept=min(prod(tensor.shape), prod(source.shape)),
                )
            )
            if verb != "copied" and not is_accepted(deviation, start):
                refused.append((planned[-1], deviation))
        return refuse(refused, origins, start, base.name, WORDS) or assembled(start, base, planned, [])

    def artifact_keys(self, config: Mapping[str, Json], dataset_digests: Mapping[str, str]) -> Mapping[str, str]:
        content = dataset_digests[config["data"].removeprefix("dataset:")]
        return {"mean": hashlib.sha256(f"mean\0{content}".encode()).hexdigest()}

    def file_stem(self, job_name: str, config: Mapping[str, Json], seed: int, digest: str) -> str:
        return f"line{config['model']['degree']}-s{seed}-{digest[:6]}"

    def headline(self) -> Sequence[str]:
        return ("train/loss", "train/slope", "lr")

    def metric_keys(self, config: Mapping[str, Json]) -> frozenset[str] | None:
        return frozenset({"train/loss", "train/slope", "lr", "perf/step_s"})

    def learning_curve(
        self, config: Mapping[str, Json], steps: Sequence[int], columns: Mapping[str, Sequence[float | None]]
    ) -> Iterator[str]:
        yield "# step loss\n"
        yield from (f"{step} {loss}\n" for step, loss in zip(steps, columns["train/loss"], strict=True))

    def ensemble_commands(self, config: Mapping[str, Json], files: Sequence[str]) -> Sequence[str]:
        return ()

    def component(self, tensor: str) -> str:
        return "slope" if tensor == "weights" else "offset"

    def learning_curve_name(self) -> str:
        return "line.txt"


def _right(draft: Draft, config: Mapping[str, Json]) -> dict[str, Json]:
    """Return what is right of a submitted config; report the rest."""
    found: dict[str, Json] = {}
    for at, value in leaves(dict(config)):
        *section, key = at.split("/")[1:] or [""]
        place = (*section, key)
        is_known = place in (("model", "degree"), ("model", "seed")) or (
            not section and key in DEFAULTS and key != "model"
        )
        if not is_known:
            draft.refuse("unknown-key", place, "is no key of a line", near(key, TYPES) or "Remove it.")
        elif key == "seed" and value is None:
            continue
        elif isinstance(value, bool) or not isinstance(value, (int, float) if TYPES[key] is float else TYPES[key]):
            draft.refuse("wrong-type", place, f"may not be {short(value)}", f"Write a {TYPES[key].__name__}.")
        elif key != "data" and not 0 < value <= 10**6 and key != "seed":
            draft.refuse("out-of-range", place, f"may not be {short(value)}", "Write a number of at least 1.")
        else:
            (found.setdefault("model", {}) if section else found)[key] = value
    return found


def _inherited(start: Start, base: Base | None) -> dict[str, Json]:
    if base is None or start.mode == "scratch":
        return {}
    if start.mode == "resume":
        return base.facts.config or {}
    return {"model": {"degree": base.facts.branches[0].model["degree"]}}


ENGINE = LineEngine()


def install() -> None:
    """Make the line engine one of those there are, in this process."""
    registry.ENGINES = (*registry.ENGINES, ENGINE)
