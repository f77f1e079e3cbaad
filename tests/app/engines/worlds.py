"""For every engine what its contract is tested with: a config, datasets, a base, and the tensors of models."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from app.engines.base import Base, DatasetFacts, Engine
from app.resolve import data_uses, resolve
from app.wire.datasets import DatasetRef
from app.wire.models import BaseFacts, BranchFacts, Inventory, TensorFacts
from app.wire.problems import Problem
from app.wire.resolution import Resolution
from app.wire.submission import JobSubmit
from tests.app.engines.deepmd import support as deepmd
from tests.app.engines.deepmd import tensors as deepmd_tensors
from tests.app.engines.minimind import support as minimind
from tests.engines.line.engine import ENGINE as LINE

Json = Any


@dataclass(frozen=True)
class World:
    """One engine and what exists for it."""

    engine: Engine
    config: Mapping[str, Json]
    """What resolves to a whole config, with a known number of steps."""
    datasets: Mapping[str, DatasetFacts]
    base: Base
    """A base whose model is that of `config`."""
    changed: Mapping[str, Json]
    """A model section that the base does not fit, but for leave by `start.allow`."""
    inventory: Callable[[dict[str, Json]], Inventory]

    def resolve(
        self, config: Mapping[str, Json], base: Base | None = None, **options: Any
    ) -> Resolution | list[Problem]:
        """Resolve as a submission does; `options` are those of the submission, `seed` the root."""
        seed = options.pop("seed", 42)
        submit = JobSubmit(config=dict(config), engine=self.engine.name, **options)
        uses = [use for use in data_uses(self.engine, submit, base) if self._knows(use.ref)]
        found = {use.text: self.datasets[use.ref.name] for use in uses if use.ref}
        return resolve(self.engine, submit, datasets=found, root_seed=seed, known=list(self.datasets), base=base)

    def _knows(self, ref: DatasetRef | None) -> bool:
        facts = self.datasets.get(ref.name) if ref else None
        return facts is not None and ref is not None and ref.version in (None, facts.version)

    def resolved(self, seed: int = 42) -> Resolution:
        answer = self.resolve(self.config, seed=seed)
        assert isinstance(answer, Resolution), answer
        return answer

    def checkpoint(self, step: int) -> Base:
        """Return the base as a checkpoint of a training of `config`."""
        answer = self.resolved()
        known = {"config": answer.config, "step": step, "seed": answer.seed, "seeds": answer.seeds}
        return Base("job:1", self.base.sha256, self.base.facts.model_copy(update=known))

    def digests(self) -> dict[str, str]:
        return {f"{facts.name}@{facts.version}": facts.digest for facts in self.datasets.values()}


def _deepmd() -> World:
    config = deepmd.base("copper")
    base = deepmd_tensors.base("copper@1", {"": config["model"]})
    wider = {"fitting_net": {"neuron": [24, 32]}}
    return World(deepmd.ENGINE, config, deepmd.all_datasets(), base, wider, deepmd_tensors.inventory)


def _minimind() -> World:
    config = minimind.config("small")
    base = minimind.base("small@1")
    changed = {"num_hidden_layers": 3}
    return World(minimind.ENGINE, config, minimind.all_datasets(), base, changed, minimind.inventory)


def _line() -> World:
    config = {"model": {"degree": 2}, "data": "dataset:points", "steps": 100}
    datasets = {"points": DatasetFacts("points", 1, "ab" * 32)}
    facts = BaseFacts(
        engine="line",
        form="Cairn checkpoint",
        architecture="degree 2",
        branches=[BranchFacts(name="", model={"degree": 2}, parameters=3)],
        tensors=_line_inventory(config).tensors,
        parameters=3,
    )
    return World(LINE, config, datasets, Base("line@1", "5" * 64, facts), {"degree": 3}, _line_inventory)


def _line_inventory(config: Mapping[str, Json]) -> Inventory:
    shapes = {"weights": [config["model"]["degree"]], "offset": [1]}
    return Inventory(
        tensors=[
            TensorFacts(name=name, shape=shape, dtype="float64", is_parameter=True) for name, shape in shapes.items()
        ]
    )


WORLDS = [_deepmd(), _minimind(), _line()]
