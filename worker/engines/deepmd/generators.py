"""The random generators of a DeePMD training: the process's global ones and DeePMD-kit's own."""

from collections.abc import Iterator
from contextlib import contextmanager

from deepmd.utils import random as dp_random

from worker import rng


def seed(value: int) -> None:
    """Seed all of them."""
    rng.seed_all(value)
    dp_random.seed(value % 2**32)


def own_state() -> rng.State:
    """Return the state of DeePMD-kit's own generator."""
    return rng.pack_numpy(dp_random._RANDOM_GENERATOR.get_state(legacy=False))


def set_own_state(state: rng.State) -> None:
    """Put back what `own_state` returned."""
    dp_random._RANDOM_GENERATOR.set_state(rng.unpack_numpy(state))


@contextmanager
def preserved() -> Iterator[None]:
    """Leave all of them as they were, whatever the block draws."""
    state = own_state()
    try:
        with rng.preserved():
            yield
    finally:
        set_own_state(state)
