"""Carries a transfer plan out on tensors, to the letter: what is not as planned ends the training before it begins."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from app.wire.transfer import PlannedTensor, TransferPlan
from worker.failures import TrainingFailure

Tensors = Mapping[str, torch.Tensor]


def carry_out(
    plan: TransferPlan, new: Tensors, base: Tensors, base_aliases: Mapping[str, str]
) -> dict[str, torch.Tensor]:
    """Return the tensors that a training starts with, under every name of `new`, on its devices.

    `new` are those of the new model as its own seeds made it, `base` those of the base; `base_aliases` says which names
    of the base stand for the memory of another.

    Raises:
        TrainingFailure: A tensor is missing, unplanned, or not of the shape that the plan says.
    """
    check(plan, new, base, base_aliases)
    made: dict[str, torch.Tensor] = {}
    for planned in plan.tensors:
        if planned.verb != "unused":
            tensor = _made(planned, new[planned.name], base)
            made |= dict.fromkeys([planned.name, *planned.aliases], tensor)
    return made


def check(plan: TransferPlan, new: Tensors, base: Tensors, base_aliases: Mapping[str, str]) -> None:
    """Raise TrainingFailure unless the plan speaks of these tensors: each of both sides once, with its shape."""
    problem = next(_problems(plan, new, base, base_aliases), None)
    if problem is not None:
        hint = "Submit the job again: it is then planned anew."
        raise TrainingFailure("library", f"The transfer plan does not fit: {problem}", hint=hint)


def _problems(plan: TransferPlan, new: Tensors, base: Tensors, base_aliases: Mapping[str, str]) -> Iterator[str]:
    targets = [planned for planned in plan.tensors if planned.verb != "unused"]
    names = [name for planned in targets for name in (planned.name, *planned.aliases)]
    yield from (f"the new model has no tensor {name}." for name in names if name not in new)
    yield from (f"the new model's tensor {name} is not planned." for name in sorted(set(new) - set(names)))
    yield from (
        f"{name} is planned twice." for name in sorted(name for name, count in Counter(names).items() if count > 1)
    )
    for planned in targets:
        yield from _of_one(planned, new, base)
    yield from _of_the_base(plan, base, base_aliases)


def _of_one(planned: PlannedTensor, new: Tensors, base: Tensors) -> Iterator[str]:
    for name in (planned.name, *planned.aliases):
        if list(new[name].shape) != planned.shape:
            yield f"{name} has shape {list(new[name].shape)}, planned is {planned.shape}."
    if planned.source is None:
        if planned.verb in ("copied", "remapped", "sliced", "padded"):
            yield f"{planned.name} is to be {planned.verb}, but from nowhere."
    elif planned.source not in base:
        yield f"the base has no tensor {planned.source}."
    elif list(base[planned.source].shape) != planned.source_shape:
        yield f"{planned.source} of the base has shape {list(base[planned.source].shape)}, not {planned.source_shape}."


def _of_the_base(plan: TransferPlan, base: Tensors, aliases: Mapping[str, str]) -> Iterator[str]:
    spoken_of = {planned.source for planned in plan.tensors}
    spoken_of |= {planned.name for planned in plan.tensors if planned.verb == "unused"}
    memories = {aliases.get(name, name) for name in spoken_of if name is not None}
    for name in sorted(base):
        if aliases.get(name, name) not in memories:
            yield f"the base's tensor {name} is not planned."


def _made(planned: PlannedTensor, own: torch.Tensor, base: Tensors) -> torch.Tensor:
    if planned.source is None:
        return own.detach().clone()
    source = base[planned.source].detach().to(dtype=own.dtype, device=own.device)
    if planned.verb in ("sliced", "padded"):
        return torch.cat([source[: len(own)], own.detach()[len(source) :]])
    if not planned.maps:
        return source.clone()
    # A bias that statistics refit begins at nothing where the base has none, as in `dp --finetune`.
    fill = torch.zeros_like(own) if planned.verb == "refit" else own.detach()
    return remapped(source, fill, planned)


def remapped(source: torch.Tensor, fill: torch.Tensor, planned: PlannedTensor) -> torch.Tensor:
    """Return `source` with its entries where the plan's axis maps say, those of `fill` where they are new."""
    moved = source + _identity(source) if planned.adds_input else source
    for item in planned.maps:
        indices = torch.tensor([max(index, 0) for index in item.indices], device=source.device)
        moved = moved.index_select(item.axis, indices)
    if planned.adds_input:
        moved = moved - _identity(moved)
    is_new = torch.zeros(fill.shape, dtype=torch.bool, device=fill.device)
    for item in planned.maps:
        places = torch.tensor([place for place, index in enumerate(item.indices) if index < 0], dtype=torch.int64)
        is_new.index_fill_(item.axis, places.to(fill.device), True)
    return torch.where(is_new, fill, moved)


def _identity(matrix: torch.Tensor) -> torch.Tensor:
    """Return what a layer with this matrix (inputs × outputs) adds of its one-hot input to its output."""
    rows, columns = matrix.shape
    eye = torch.eye(rows, dtype=matrix.dtype, device=matrix.device)
    if columns == rows:
        return eye
    return torch.cat([eye, eye], dim=1) if columns == 2 * rows else torch.zeros_like(matrix)


def summary(plan: TransferPlan) -> tuple[str, Mapping[str, Any]]:
    """Return what a plan did, for the timeline, and the same as data."""
    counts = ", ".join(f"{count} {verb}" for verb, count in plan.counts.items())
    share = 100.0 * plan.kept / plan.parameters if plan.parameters else 0.0
    message = f"From {plan.base}: {counts} tensors; {share:.3g} % of {plan.parameters} parameters kept."
    return message, {"base": plan.base, "counts": plan.counts, "parameters": plan.parameters, "kept": plan.kept}
