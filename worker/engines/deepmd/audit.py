"""The seed audit of a DeePMD training: its components, what they began with, and how to build them again."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from deepmd.pt.model import model as models
from deepmd.pt.train.training import Trainer, get_single_model

from app.engines.documents import pointer
from app.engines.seeds import derive
from app.wire.transfer import TransferPlan
from worker import audit
from worker.audit import Component, Findings
from worker.checkpoint import fingerprint
from worker.engines.deepmd import generators, transfer
from worker.engines.deepmd.config import DeepmdConfig

Json = Any
Path = tuple[str | int, ...]

_MODULES = {"descriptor": "atomic_model.descriptor.", "fitting_net": "atomic_model.fitting_net."}


@dataclass(frozen=True)
class Part:
    """A component as it stands in the model of one task."""

    component: Component
    path: Path
    """Of its section in the task's model section."""
    module: str
    """What the names of its weights begin with."""


def check(trainer: Trainer, config: DeepmdConfig, written: Mapping[str, Json], plan: TransferPlan | None) -> Findings:
    """Check what a trainer's model began with; `written` is the model section of the resolved config.

    Every task's model is built as the trainer built it: once by the same seeds, then once for every seed with that one
    changed. A model is a function of its own section and of the global generators, so the seeds of other tasks cannot
    reach it otherwise, and a component that several tasks share is looked at in the first of them. With a plan only those
    components are looked at of which some weights are reinitialised. Draws from no generator of the training.

    Raises:
        TrainingFailure: A seed does not arrive; the message names the component and the key.
    """
    fresh = None if plan is None else frozenset(_fresh(plan))
    components: dict[str, Component] = {}
    drawn: Findings = {}
    for task, model in transfer.models(trainer).items():
        everything = list(parts(written, task))
        components |= {part.component.name: part.component for part in everything}
        unknown = [part for part in everything if part.component.name not in drawn]
        looked_at = [part for part in unknown if fresh is None or _has_fresh(part, task, model, fresh)]
        drawn |= _of_task(looked_at, config.model(task), model)
    return {name: drawn.get(name) or audit.from_base(component) for name, component in components.items()}


def parts(written: Mapping[str, Json], task: str) -> Iterator[Part]:
    """Yield what has a seed in a task's model; a shared part is named by its place in `shared_dict`."""
    is_multi_task = "model_dict" in written
    place: Path = ("model", "model_dict", task) if is_multi_task else ("model",)
    model = written["model_dict"][task] if is_multi_task else written
    for key, module in _MODULES.items():
        at, section = _followed(written, (*place, key), model.get(key))
        if not isinstance(section, dict):
            continue
        if section.get("type") != "hybrid":
            yield _part(at, section, (key,), module)
            continue
        for index, item in enumerate(section["list"]):
            at_item, member = _followed(written, (*at, "list", index), item)
            yield _part(at_item, member, (key, "list", index), f"{module}descrpt_list.{index}.")


def _followed(written: Mapping[str, Json], place: Path, value: Json) -> tuple[Path, Json]:
    """Return where a section stands, and the section: behind a name (`shared:1`), in `shared_dict`."""
    if not isinstance(value, str):
        return place, value
    name = value.split(":")[0]
    return ("model", "shared_dict", name), written["shared_dict"][name]


def _part(place: Path, section: dict[str, Json], path: Path, module: str) -> Part:
    key, seed = pointer(*place, "seed"), section.get("seed")
    assert isinstance(seed, int), f"{key} is {seed!r}: resolution plants every seed"
    return Part(Component(".".join(map(str, place)), key, seed), path, module)


def _of_task(looked_at: Sequence[Part], section: dict[str, Json], model: Any) -> Findings:
    if not looked_at:
        return {}
    # A descriptor takes most of the time of a build, and many tasks may share one.
    descriptor = None if any(part.path[0] == "descriptor" for part in looked_at) else model.atomic_model.descriptor

    def build(seeds: Mapping[str, int]) -> dict[str, str | None]:
        changed = deepcopy(section)
        for part in looked_at:
            _at(changed, part.path)["seed"] = seeds[part.component.name]
        with generators.preserved():
            generators.seed(derive(0, "audit"))
            return _digests(_built(changed, descriptor), looked_at)

    components = {part.component.name: part.component for part in looked_at}
    return audit.examine(components, _digests(model, looked_at), build)


def _built(section: dict[str, Json], descriptor: torch.nn.Module | None) -> torch.nn.Module:
    """Build a model as DeePMD-kit does, around a descriptor that there is already or with one of its own."""
    with nullcontext() if descriptor is None else _around(descriptor):
        built: torch.nn.Module = get_single_model(section)
    return built


@contextmanager
def _around(descriptor: torch.nn.Module) -> Iterator[None]:
    """Let DeePMD-kit take this descriptor wherever it would make one: its builder has no parameter for it."""
    maker = models.BaseDescriptor
    models.BaseDescriptor = lambda *_, **__: descriptor
    try:
        yield
    finally:
        models.BaseDescriptor = maker


def _digests(model: torch.nn.Module, looked_at: Sequence[Part]) -> dict[str, str | None]:
    weights = dict(model.named_parameters())
    own = {part.component.name: _below(part, weights) for part in looked_at}
    return {name: fingerprint(tensors) if tensors else None for name, tensors in own.items()}


def _below(part: Part, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(part.module): value for name, value in weights.items() if name.startswith(part.module)}


def _fresh(plan: TransferPlan) -> Iterator[str]:
    """Yield the names of the tensors of which some entries are drawn by the new model's seeds."""
    for tensor in plan.tensors:
        if tensor.verb == "reinitialised" or (tensor.verb == "remapped" and transfer.has_new(tensor.maps)):
            yield from (tensor.name, *tensor.aliases)


def _has_fresh(part: Part, task: str, model: torch.nn.Module, fresh: frozenset[str]) -> bool:
    names = (name for name, _ in model.named_parameters() if name.startswith(part.module))
    return any(f"model.{task}.{name}" in fresh for name in names)


def _at(section: dict[str, Json], path: Path) -> dict[str, Json]:
    value: Any = section
    for part in path:
        value = value[part]
    assert isinstance(value, dict)
    return value
