"""What the process of an intake is for: limits of memory and time, and pickles that are never opened."""

import pickle

import numpy as np

from tests.app.datasets.making import FRAMES, arrays, tar_of, write_system


class Bomb:
    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return (open, (self.target, "w"))


def test_a_pickle_is_never_opened(problems, tmp_path):
    bombs = np.array([Bomb(tmp_path / "owned")] * FRAMES, dtype=object)
    write_system(tmp_path / "u" / "sys", change=lambda content: content.update(energy=bombs))
    found = problems(tar_of(tmp_path / "u"))
    assert found[0].code == "not-npy"
    assert not (tmp_path / "owned").exists()


def test_an_old_trajectory_is_a_pickle_and_is_never_opened(problems, tmp_path):
    for header in (b"PickleTrajectory", b""):
        (problem,) = problems(header + pickle.dumps(Bomb(tmp_path / "owned")), "old.traj")
        assert problem.code in ("refused-format", "unknown-format", "unreadable-data"), problem
    assert not (tmp_path / "owned").exists()


def test_large_arrays_are_read_in_pieces(pack, problems, tmp_path, here):
    frames, atoms = 3000, 500
    here.intake_memory_bytes = 300 << 20  # the arrays alone have 72 MB
    content = arrays(frames, atoms)
    write_system(tmp_path / "u" / "sys", types="0\n" * atoms, change=lambda old: old.update(content))
    assert pack(tar_of(tmp_path / "u")).summary.frames == frames
    force = tmp_path / "u" / "sys" / "set.000" / "force.npy"
    content["force"][2_718, 3 * 281 + 2] = np.nan
    np.save(force, content["force"])
    (problem,) = problems(tar_of(tmp_path / "u"))
    assert "frame 2718, atom 281, component z is nan" in problem.message


def test_a_reader_over_its_memory_is_told_so(problems, here):
    here.intake_memory_bytes = 200 << 20
    atoms = 1_000_000
    header = f'{atoms}\nLattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3:forces:R:3 energy=1.0\n'
    (problem,) = problems((header + "H 0 0 0 0 0 0\n" * atoms).encode(), "big.extxyz")
    assert problem.code == "intake-memory"
    assert "200 MiB" in problem.message


def test_a_reader_over_its_time_is_told_so(problems, here, water):
    here.intake_s = 0
    (problem,) = problems(tar_of(water))
    assert problem.code == "intake-time"
