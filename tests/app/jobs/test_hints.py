import pytest

from app.jobs.hints import hints
from app.wire.models import Inventory, TensorFacts
from app.wire.resolution import Resolution
from tests.app.jobs.stub import DEFAULTS, StubEngine

RESOLUTION = Resolution(config=DEFAULTS, origins={}, digest="d", seed=1, seeds={}, total_steps=9)


def tensor(shape, dtype="float64", **options) -> TensorFacts:
    return TensorFacts(name="w", shape=shape, dtype=dtype, **({"is_parameter": True} | options))


@pytest.mark.parametrize(
    ("tensors", "parameters", "size"),
    [
        ([tensor([4, 2])], 8, 3 * 64),
        ([tensor([4, 2], "float32")], 8, 3 * 32),
        ([tensor([4], "bfloat16"), tensor([], "int64", is_parameter=False)], 4, 3 * 8 + 8),
        ([tensor([4]), tensor([4], alias_of="w")], 4, 3 * 32),
        ([tensor([4]), tensor([-1, 2], is_parameter=False)], 4, None),
        ([tensor([-1, 2])], None, None),
    ],
)
def test_what_a_training_takes_follows_from_its_tensors(tensors, parameters, size):
    found = hints(StubEngine(), "train", RESOLUTION, [], Inventory(tensors=tensors))
    assert (found.steps, found.frames) == (9, 0)
    assert (found.parameters, found.checkpoint_bytes) == (parameters, size)


def test_without_tensors_nothing_is_guessed():
    found = hints(StubEngine(), "train", RESOLUTION, [], None)
    assert (found.parameters, found.checkpoint_bytes) == (None, None)
