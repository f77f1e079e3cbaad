"""The order of frames is a function of (seed, step) and visits every frame."""

import numpy as np
import pytest

from worker.engines.deepmd.sampler import Draws, FrameOrder
from worker.order import permutation, words


def test_the_stream_never_changes():
    assert words(2, 7, "task").tolist() == [9360041315877917975, 14190087291805940439]
    assert permutation(6, 7, "frames", 0, 0).tolist() == [5, 3, 0, 4, 1, 2]


def test_any_place_can_be_opened_first():
    order = [FrameOrder([7, 5], [2, 3], [0.6, 0.4], 1, "t") for _ in range(2)]
    forwards = [order[0].batch(index) for index in range(9000)]
    for index in (8999, 4096, 4095, 0, 5000):
        assert order[1].batch(index) == forwards[index]


def test_every_frame_comes_once_per_epoch_of_its_system():
    order = FrameOrder([7, 5], [2, 3], [0.6, 0.4], 1, "t")
    seen = {0: [], 1: []}
    for index in range(600):
        system, frames = order.batch(index)
        seen[system] += frames
    for system, count in ((0, 7), (1, 5)):
        epochs = len(seen[system]) // count
        assert epochs > 10
        for epoch in range(epochs):
            assert sorted(seen[system][epoch * count : (epoch + 1) * count]) == list(range(count))


def test_orders_of_epochs_and_seeds_differ():
    orders = {tuple(permutation(20, seed, "frames", 0, epoch)) for seed in (1, 2) for epoch in (0, 1)}
    assert len(orders) == 4


def test_systems_come_by_their_probability():
    draws = Draws([0.2, 0.0, 0.8], 3)
    drawn = np.bincount([draws.at(index)[0] for index in range(20000)], minlength=3) / 20000
    assert drawn[1] == 0
    assert drawn[0] == pytest.approx(0.2, abs=0.01)


def test_a_draw_knows_how_often_it_came_before():
    draws, seen = Draws([0.5, 0.5], 9), [0, 0]
    for index in range(10000):
        which, before = draws.at(index)
        assert before == seen[which]
        seen[which] += 1


@pytest.mark.parametrize("probabilities", [[], [0.0, 0.0], [-1.0, 2.0]])
def test_probabilities_that_mean_nothing_are_refused(probabilities):
    with pytest.raises(ValueError, match="positive sum"):
        Draws(probabilities, 1)
