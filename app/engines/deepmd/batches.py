"""Batch sizes, probabilities of systems, and the number of steps that so many epochs make."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.engines.deepmd.document import short
from app.engines.deepmd.draft import Draft, Path
from app.wire.datasets import SystemSummary

Json = Any

_RULES = 'Write a number, a list of numbers, "auto", "auto:N", "max:N" or "filter:N".'
_BLOCKS = 'Write "prob_uniform", "prob_sys_size" or "prob_sys_size;START:END:WEIGHT;…" with systems numbered from 0.'


def check_batches(draft: Draft, path: Path, systems: Sequence[SystemSummary]) -> None:
    """Refuse batch sizes and probabilities that do not fit the systems, once these are known."""
    _check_size(draft, (*path, "batch_size"), systems)
    # DeePMD-kit drops what a filter leaves out before it reads probabilities.
    drawn = kept(draft.get(*path, "batch_size"), systems) or systems
    words = "references to whole datasets are expanded"
    if len(drawn) < len(systems):
        words = f"{len(systems)} less those that batch_size leaves out"
    _check_probabilities(draft, (*path, "sys_probs"), len(drawn), words)
    _check_blocks(draft, (*path, "auto_prob"), len(drawn), words)


def _check_size(draft: Draft, path: Path, systems: Sequence[SystemSummary]) -> None:
    size = draft.get(*path)
    if isinstance(size, str):
        _check_rule(draft, path, size, systems)
        return
    numbers = size if isinstance(size, list) else [size]
    if any(isinstance(number, bool) or not isinstance(number, int) or number < 1 for number in numbers):
        draft.refuse("out-of-range", path, f"must be at least 1, but is {short(size)}", _RULES)
    elif isinstance(size, list) and len(size) != len(systems):
        message = f"has {len(size)} numbers for {len(systems)} systems (references to whole datasets are expanded)"
        draft.refuse("wrong-length", path, message, "One number for each system, or one number for all.")


def _check_rule(draft: Draft, path: Path, text: str, systems: Sequence[SystemSummary]) -> None:
    word, colon, number = text.partition(":")
    if word in ("mixed", "mix"):
        draft.refuse(
            "unsupported", path, f"{short(text)} is not available in the PyTorch backend for these data", _RULES
        )
    elif word not in ("auto", "max", "filter") or (word != "auto" and not colon):
        draft.refuse("invalid-choice", path, f"cannot be {short(text)}", _RULES)
    elif colon and not (number.isdecimal() and int(number) > 0):
        draft.refuse("invalid-choice", path, f"cannot be {short(text)}: N must be a positive number", _RULES)
    elif word == "filter":
        _check_filter(draft, path, int(number), systems)


def _check_filter(draft: Draft, path: Path, limit: int, systems: Sequence[SystemSummary]) -> None:
    large = [system for system in systems if system.atoms > limit]
    if len(large) == len(systems):
        message = f"leaves no system: the smallest has {min(system.atoms for system in systems)} atoms"
        draft.refuse("out-of-range", path, message, "Raise the limit, or use max:N.")
    elif large:
        message = f"leaves out {', '.join(system.name for system in large[:5])}, with more than {limit} atoms"
        draft.warn("left-out", path, message)


def _check_probabilities(draft: Draft, path: Path, count: int, words: str) -> None:
    values = draft.get(*path)
    if not isinstance(values, list):
        return
    if len(values) != count:
        message = f"has {len(values)} numbers for {count} systems ({words})"
        draft.refuse("wrong-length", path, message, "One probability for each system; -1 leaves one open.")
        return
    fixed = [value for value in values if value >= 0]
    total = math.fsum(fixed)
    if total > 1 + 1e-8 or (len(fixed) == count and not math.isclose(total, 1, rel_tol=1e-5, abs_tol=1e-8)):
        message = f"adds up to {total:g} instead of 1"
        draft.refuse("out-of-range", path, message, "Negative numbers leave a probability open.")


def _check_blocks(draft: Draft, path: Path, count: int, words: str) -> None:
    text = draft.get(*path)
    if not isinstance(text, str) or text in ("prob_uniform", "prob_sys_size"):
        return
    blocks = _blocks(text)
    if blocks is None:
        draft.refuse("invalid-choice", path, f"cannot be {short(text)}", _BLOCKS)
        return
    for start, end, _ in blocks:
        if not 0 <= start < end <= count:
            message = f"has the block {start}:{end}, but there are {count} systems (0:{count}; {words})"
            draft.refuse("out-of-range", path, message, _BLOCKS)
            return
    if not sum(weight for _, _, weight in blocks) > 0:
        draft.refuse("out-of-range", path, "gives no system a positive weight", _BLOCKS)
        return
    drawn = {index for start, end, weight in blocks if weight > 0 for index in range(start, end)}
    if len(drawn) < count:
        draft.warn("left-out", path, f"never draws from {count - len(drawn)} of {count} systems")


def _blocks(text: str) -> list[tuple[int, int, float]] | None:
    """Return (start, end, weight) of every block, or None when the text says no such thing."""
    style, *rest = text.split(";")
    if style != "prob_sys_size" or not rest:
        return None
    blocks = []
    for block in rest:
        fields = block.split(":")
        try:
            start, end, weight = int(fields[0]), int(fields[1]), float(fields[2])
        except (ValueError, IndexError):
            return None
        if len(fields) != 3 or not 0 <= weight < math.inf:
            return None
        blocks.append((start, end, weight))
    return blocks


def batch_sizes(rule: Json, systems: Sequence[SystemSummary]) -> list[int]:
    """Return the frames per batch of every system (deepmd/pt/utils/dataloader.py)."""
    if isinstance(rule, list):
        return list(rule)
    if isinstance(rule, int):
        return [rule] * len(systems)
    word, _, number = rule.partition(":")
    atoms = int(number or 32)
    if word == "auto":
        return [math.ceil(atoms / system.atoms) for system in systems]
    return [max(1, atoms // system.atoms) for system in systems]


def kept(rule: Json, systems: Sequence[SystemSummary]) -> list[SystemSummary]:
    """Return the systems that a batch rule leaves."""
    word, _, number = rule.partition(":") if isinstance(rule, str) else ("", "", "")
    limit = int(number) if word == "filter" and number.isdecimal() else math.inf
    return [system for system in systems if system.atoms <= limit]


def batches_per_epoch(data: dict[str, Json], systems: Sequence[SystemSummary]) -> int:
    """Return DeePMD-kit's length of one epoch: until every system is expected to have been seen once.

    The same floating-point operations in the same order as DeePMD-kit's, so that rounding up agrees.
    """
    systems = kept(data["batch_size"], systems)
    sizes = batch_sizes(data["batch_size"], systems)
    counts = np.array([math.ceil(system.frames / size) for system, size in zip(systems, sizes, strict=True)])
    weights = _weights(data, counts)
    shares = weights / float(np.sum(weights))
    is_drawn = shares > 0
    return int(np.ceil(np.max(counts.astype(np.float64)[is_drawn] / shares[is_drawn])))


def _weights(data: dict[str, Json], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the probability of every system (deepmd/utils/data_system.py)."""
    if data.get("sys_probs") is not None:
        given = np.array(data["sys_probs"], dtype=np.float64)
        is_given = given >= 0
        rest = 1.0 - np.sum(is_given * given)
        if np.isclose(rest, 0):
            return given
        free = (1 - is_given) * counts
        open_shares: NDArray[np.float64] = rest * free / np.sum(free) + is_given * given
        return open_shares
    style = data["auto_prob"]
    if style == "prob_uniform":
        return np.full(len(counts), 1.0 / float(len(counts)))
    blocks = [(0, len(counts), 1.0)] if style == "prob_sys_size" else _blocks(style)
    assert blocks, "auto_prob has been checked"
    shares = np.array([weight for _, _, weight in blocks]) / np.sum([weight for _, _, weight in blocks])
    weights = np.zeros(len(counts))
    for (start, end, _), share in zip(blocks, shares, strict=True):
        weights[start:end] = counts[start:end].astype(np.float64) / np.sum(counts[start:end]) * share
    return weights
