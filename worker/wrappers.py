"""Takes off the names of tensors what a wrapper put there: torch's parallel training (`module.`), torch.compile (`_orig_mod.`)."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from worker.engines.base import RefusedFile

PARALLEL, COMPILED = "module", "_orig_mod"
BY = {PARALLEL: "parallel training (DistributedDataParallel)", COMPILED: "torch.compile"}
"""Who prefixes names with what."""


def unwrapped(state: Mapping[Any, Any], branches: Collection[str]) -> tuple[dict[str, Any], list[str]]:
    """Return a state dict under the names that a model by itself has, and the prefixes that were taken off.

    The whole (`module.model.Default.…`), a branch (`model.Default.module.…`) and what stands between may be wrapped, also
    several times; of compiled parts any.

    Raises:
        RefusedFile: A tensor is there twice, wrapped and not.
    """
    found: dict[str, Any] = {}
    taken: set[str] = set()
    for name, value in state.items():
        parts = str(name).split(".")
        kept = list(_kept(parts, branches))
        taken |= set(Counter(parts) - Counter(kept))
        plain = ".".join(kept)
        if plain in found:
            message = f"The file holds {plain!r} twice, once inside a wrapper ({name!r})."
            raise RefusedFile(message, "It was put together by hand: save the model's own state dict.")
        found[plain] = value
    return found, sorted(taken)


def _kept(parts: list[str], branches: Collection[str]) -> Iterator[str]:
    """Yield the parts of a name that belong to the model: a branch of any name is one of them."""
    depth = 0
    for number, part in enumerate(parts):
        is_last = number == len(parts) - 1
        is_branch = depth == 1 and part in branches
        wraps = part == COMPILED or (part == PARALLEL and depth < 3)
        if wraps and not is_last and not is_branch:
            continue
        depth += 1
        yield part


def in_words(prefixes: Collection[str]) -> str:
    """Return who had wrapped the tensors of a file, and that nothing is lost."""
    whom = " and ".join(f"{BY[prefix]}, as `{prefix}.`" for prefix in prefixes)
    return f"Its tensors were saved inside the wrapper of {whom}: they are taken under the model's own names."
