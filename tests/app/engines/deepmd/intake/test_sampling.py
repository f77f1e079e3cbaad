"""What of a dataset is looked at for distances: all of a small one, of a large one frames evenly spread."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.engines.deepmd.intake import sampling
from app.engines.deepmd.intake.systems import System, check_system
from app.engines.intake.report import Report
from tests.app.datasets.making import write_system


def line(gaps: Any) -> Any:
    """Return a change that makes frames of four atoms in a row, with so much between neighbours, in Å."""

    def change(content: dict[str, Any]) -> None:
        frames = len(content["coord"])
        gap = np.resize(np.asarray(gaps, float), frames)
        x = gap[:, None] * np.arange(4)
        content["coord"] = np.stack([x, 0 * x, 0 * x], axis=2).reshape(frames, 12)
        content["box"] = np.tile(np.eye(3).ravel() * 40.0, (frames, 1))

    return change


@pytest.fixture
def opened(tmp_path: Path) -> Any:
    """Write a system, and return it as an intake finds it."""

    def opened(name: str = "one", **options: Any) -> System:
        system, report = System(name, write_system(tmp_path / name, **options)), Report()
        check_system(system, None, report)
        assert report.problems == []
        return system

    return opened


def test_all_of_small_systems_is_looked_at(opened: Any) -> None:
    one, other = opened("one", change=line([1.0, 1.3, 1.1])), opened("other", change=line([2.0]), types="0\n0\n0\n0\n")
    found = sampling.distances([one, other])
    assert {name: part.frames for name, part in found.items()} == {"one": 6, "other": 6}
    assert found["one"].nearest == {"H-O": 1.0, "O-O": 1.0}
    assert found["one"].farthest == {"H": 1.3, "O": 1.3}
    assert found["other"].nearest == {"O-O": 2.0}


def test_of_a_large_one_the_first_the_last_and_what_is_evenly_between(opened: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(sampling, "MOST_FRAMES", 3)
    system = opened(sets=2, change=line([1.5, 1.0, 1.0, 1.0, 1.0, 0.8]))
    seen = [float(coords[1, 0] - coords[0, 0]) for coords, _, _ in sampling._frames(system, 3)]
    assert (len(seen), seen[-1]) == (3, 0.8)
    found = sampling.distances([system])["one"]
    assert found.frames == 3
    monkeypatch.setattr(sampling, "MOST_ATOMS", 8)
    assert sampling.distances([system])["one"].frames == 2
    assert sampling.distances([system]) == sampling.distances([system])


def test_of_too_many_systems_some_are_looked_at_and_kept_together(opened: Any, monkeypatch: Any) -> None:
    systems = [opened(f"s{number}", change=line([1 + number / 10])) for number in range(4)]
    monkeypatch.setattr(sampling, "MOST_SYSTEMS", 3)
    assert {name: part.frames for name, part in sampling.distances(systems).items()} == {"": 24}
    monkeypatch.setattr(sampling, "MOST_ATOMS", 8)
    found = sampling.distances(systems)[""]
    assert (found.frames, found.nearest["O-O"]) == (2, 1.1)


def test_frames_of_mixed_systems_have_elements_of_their_own(opened: Any) -> None:
    def change(content: dict[str, Any]) -> None:
        line([1.0])(content)
        content["real_atom_types"] = np.tile([0, 0, 1, -1], (len(content["coord"]), 1))

    found = sampling.distances([opened(types="0\n0\n0\n0\n", change=change)])["one"]
    assert found.nearest == {"O-O": 1.0, "H-O": 1.0}
    assert found.farthest == {"O": 1.0, "H": 1.0}
