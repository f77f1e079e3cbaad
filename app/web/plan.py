"""A transfer plan as a page shows it: by component, then by what becomes of the tensors."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import get_args

from app.wire.transfer import PlannedTensor, TransferPlan, Verb

VERBS: tuple[str, ...] = get_args(Verb)


@dataclass(frozen=True)
class Group:
    """Tensors of one component that meet the same fate."""

    verb: str
    branch: str
    """Task of the model; empty: the only one."""
    tensors: Sequence[PlannedTensor]
    numbers: int | None
    """How many numbers they hold together; None while a shape is not known yet."""
    reason: str | None
    """Why, where it is the same for all of them."""
    key: str | None
    """The value of the config that is responsible, where it is the same for all of them."""

    @cached_property
    def stem(self) -> str:
        """Return the dotted beginning that the names of all the tensors share, those in the base included."""
        names = [name for one in self.tensors for name in (one.name, one.source) if name]
        levels = zip(*(name.split(".")[:-1] for name in names), strict=False)
        return ".".join(level[0] for level in takewhile(lambda level: len(set(level)) == 1, levels))

    def below(self, name: str) -> str:
        """Return the part of a name that follows the stem."""
        return name.removeprefix(f"{self.stem}.")

    @property
    def reasons_differ(self) -> bool:
        """Return whether each tensor has to say for itself why."""
        return any((one.reason, one.key) != (self.reason, self.key) for one in self.tensors)


@dataclass(frozen=True)
class Part:
    """One component of the model."""

    name: str
    parameters: int
    """Its trainable numbers."""
    kept: int
    """How many of them come from the base."""
    groups: Sequence[Group]


def parts(plan: TransferPlan) -> list[Part]:
    """Return a plan's components in its own order, then those that have no trainable numbers."""
    shares = {share.component: share for share in plan.components}
    by_component: dict[str, list[PlannedTensor]] = {name: [] for name in shares}
    for tensor in plan.tensors:
        by_component.setdefault(tensor.component, []).append(tensor)
    return [
        Part(name, shares[name].parameters, shares[name].kept, groups(tensors))
        if name in shares
        else Part(name, 0, 0, groups(tensors))
        for name, tensors in by_component.items()
    ]


def groups(tensors: Iterable[PlannedTensor]) -> list[Group]:
    """Return tensors by branch and verb, verbs in their usual order."""
    found: dict[tuple[str, str], list[PlannedTensor]] = {}
    for tensor in tensors:
        found.setdefault((tensor.branch, tensor.verb), []).append(tensor)
    ordered = sorted(found.items(), key=lambda item: (item[0][0], VERBS.index(item[0][1])))
    return [
        Group(
            verb=verb,
            branch=branch,
            tensors=members,
            numbers=_numbers(members),
            reason=_common([member.reason for member in members]),
            key=_common([member.key for member in members]),
        )
        for (branch, verb), members in ordered
    ]


def _numbers(tensors: Sequence[PlannedTensor]) -> int | None:
    if any(-1 in tensor.shape for tensor in tensors):
        return None
    return sum(math.prod(tensor.shape) for tensor in tensors)


def _common(values: Sequence[str | None]) -> str | None:
    return values[0] if len(set(values)) == 1 else None
