"""The data of a task as DeePMD-kit defines them: systems by their probability, every frame once an epoch of its system."""

from collections import Counter

import numpy as np
import pytest

from worker.engines.deepmd.data import TaskData

pytestmark = pytest.mark.deepmd

ATOMS, FRAMES = (4, 8, 30), (7, 5, 2)
BATCHES = 3000


@pytest.fixture(scope="module")
def systems(tmp_path_factory):
    """Three systems that differ in atoms and in frames; positions are of no account."""
    root, places, rng = tmp_path_factory.mktemp("systems"), [], np.random.default_rng(0)
    for atoms, frames in zip(ATOMS, FRAMES, strict=True):
        place = root / f"atoms{atoms}"
        (place / "set.000").mkdir(parents=True)
        np.save(place / "set.000" / "coord.npy", rng.random((frames, 3 * atoms)))
        np.save(place / "set.000" / "box.npy", np.tile(9.0 * np.eye(3).ravel(), (frames, 1)))
        (place / "type.raw").write_text("0\n" * atoms)
        places.append(str(place))
    return places


def opened(systems, *, seed=5, **section):
    section = {"systems": systems, "batch_size": 1, "auto_prob": "prob_sys_size", "sys_probs": None, **section}
    return TaskData(section, ["Cu"], cache_bytes=1 << 20, order=(seed, "Default", "train"))


def drawn(data, count=BATCHES):
    """Return (system, frames) of the first batches."""
    order = data._make_order()
    return [order.batch(index) for index in range(count)]


SIZES = {  # what DeePMD-kit documents; 32 atoms where nothing is said
    "2": (2, [2, 2, 2]),
    "one for each": ([3, 2, 1], [3, 2, 1]),
    "auto": ("auto", [8, 4, 2]),
    "auto:20": ("auto:20", [5, 3, 1]),
    "max:20": ("max:20", [5, 2, 1]),
    "filter:20": ("filter:20", [5, 2]),
}


@pytest.mark.parametrize("case", SIZES)
def test_batches_are_as_large_as_deepmd_has_it_and_hold_every_frame_once_an_epoch(systems, case):
    rule, expected = SIZES[case]
    data = opened(systems, batch_size=rule)
    seen = {system: [] for system in range(len(expected))}
    sizes = {system: Counter() for system in seen}
    for system, frames in drawn(data):
        seen[system] += frames
        sizes[system][len(frames)] += 1
    for system, size in enumerate(expected):
        count = FRAMES[system]
        assert max(sizes[system]) == min(size, count)
        assert set(sizes[system]) <= {min(size, count), count % size}
        epochs = len(seen[system]) // count
        assert epochs > 20
        for epoch in range(epochs):
            assert sorted(seen[system][epoch * count : (epoch + 1) * count]) == list(range(count))


def test_a_batch_holds_the_frames_that_were_drawn(systems):
    data = opened(systems, batch_size=[3, 2, 1])
    for index, (system, frames) in enumerate(drawn(data, 30)):
        batch = data.batch(index)
        assert (batch["sid"], batch["fid"]) == (system, frames)
        stored = np.load(f"{systems[system]}/set.000/coord.npy")[frames].ravel()
        assert batch["coord"].numpy().ravel() == pytest.approx(stored, abs=0)


PROBABILITIES = {
    "by number of batches": ({}, [7 / 14, 5 / 14, 2 / 14]),
    "by number of larger batches": ({"batch_size": [4, 2, 1]}, [2 / 7, 3 / 7, 2 / 7]),
    "uniform": ({"auto_prob": "prob_uniform"}, [1 / 3, 1 / 3, 1 / 3]),
    "blocks": ({"auto_prob": "prob_sys_size;0:2:0.3;2:3:0.7"}, [0.3 * 7 / 12, 0.3 * 5 / 12, 0.7]),
    "blocks that leave one out": ({"auto_prob": "prob_sys_size;0:1:1;2:3:3"}, [0.25, 0, 0.75]),
    "given": ({"sys_probs": [0.1, 0.2, 0.7], "auto_prob": "prob_uniform"}, [0.1, 0.2, 0.7]),
    "given in part": ({"sys_probs": [0.5, -1, -1]}, [0.5, 0.5 * 5 / 7, 0.5 * 2 / 7]),
    "of what a filter leaves": ({"batch_size": "filter:20", "sys_probs": [0.9, 0.1]}, [0.9, 0.1]),
    "blocks of what a filter leaves": (
        {"batch_size": "filter:20", "auto_prob": "prob_sys_size;0:1:1;1:2:3"},
        [0.25, 0.75],
    ),
}


@pytest.mark.parametrize("case", PROBABILITIES)
def test_systems_are_drawn_with_deepmds_probabilities(systems, case):
    section, expected = PROBABILITIES[case]
    counts = Counter(system for system, _ in drawn(opened(systems, **section)))
    for system, probability in enumerate(expected):
        deviation = (probability * (1 - probability) / BATCHES) ** 0.5
        assert counts[system] / BATCHES == pytest.approx(probability, abs=4 * deviation)
    assert sum(counts.values()) == BATCHES


def test_the_order_is_the_seeds_alone(systems):
    assert drawn(opened(systems), 200) == drawn(opened(systems), 200)
    assert drawn(opened(systems), 200) != drawn(opened(systems, seed=6), 200)
