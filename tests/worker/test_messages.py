"""Spooled batches are sent as one where they belong together, and fewer of them to a server that is busy."""

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.app.simulated import arrow
from worker.messages import BYTES_AT_ONCE, LONGEST_S, SHIP_S, Pace, gather


def spool(directory: Path, number: int, steps: list[int], **columns: list[float | None]) -> Path:
    path = directory / f"{number:06d}.arrow"
    path.write_bytes(arrow(steps, columns))
    return path


def rows(data: bytes) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pa.ipc.open_stream(data).read_all().to_pylist()
    return found


def test_nothing_makes_no_message() -> None:
    assert gather([]) is None


def test_batches_become_one_with_all_their_keys(tmp_path: Path) -> None:
    files = [
        spool(tmp_path, 4, [1, 2], loss=[0.1, math.inf]),
        spool(tmp_path, 5, [3], loss=[None], val=[0.3]),
    ]
    message = gather(files)
    assert message is not None
    assert (message.seq, message.files, message.more) == (4, files, False)
    assert rows(message.data) == [
        {"step": 1, "loss": 0.1, "val": None},
        {"step": 2, "loss": math.inf, "val": None},
        {"step": 3, "loss": None, "val": 0.3},
    ]


def test_a_step_that_comes_again_begins_a_message_of_its_own(tmp_path: Path) -> None:
    files = [spool(tmp_path, 0, [1, 2], loss=[0.1, 0.2]), spool(tmp_path, 1, [2], val=[0.3])]
    message = gather(files)
    assert message is not None
    assert (message.files, message.more) == (files[:1], True)
    assert message.data == files[0].read_bytes()


@pytest.mark.parametrize("broken", [0, 2])
def test_what_cannot_be_read_goes_by_itself(tmp_path: Path, broken: int) -> None:
    files = [spool(tmp_path, number, [number], loss=[0.1]) for number in range(4)]
    files[broken].write_bytes(b"nonsense")
    message = gather(files)
    assert message is not None
    assert message.files == files[: max(1, broken)]
    assert message.more


def test_what_is_no_file_does_not_hold_up_what_was_spooled_before_it(tmp_path: Path) -> None:
    """Checkpoints count once the metrics before them have arrived."""
    files = [spool(tmp_path, number, [number], loss=[0.1]) for number in range(2)]
    (tmp_path / "999999.arrow").mkdir()
    message = gather([*files, tmp_path / "999999.arrow"])
    assert message is not None
    assert (message.files, message.more) == (files, True)
    with pytest.raises(IsADirectoryError):
        gather([tmp_path / "999999.arrow"])


def test_a_message_is_no_larger_than_it_must(tmp_path: Path) -> None:
    many = list(range(BYTES_AT_ONCE // 16 + 1))
    files = [
        spool(tmp_path, number, [number * len(many) + step for step in many], loss=[0.5] * len(many))
        for number in range(2)
    ]
    message = gather(files)
    assert message is not None
    assert (message.files, message.more) == (files[:1], True)


def test_a_server_that_is_busy_is_sent_less_and_trusted_again_bit_by_bit() -> None:
    pace = Pace()
    pace.note(0.001)
    assert pauses(pace) == pytest.approx(SHIP_S, rel=0.1)
    pace.note(0.1)
    assert pauses(pace) == pytest.approx(2.0, rel=0.1)
    pace.note(0.001)
    assert pauses(pace) == pytest.approx(1.8, rel=0.1)
    pace.note(60.0)
    assert pauses(pace) == pytest.approx(LONGEST_S, rel=0.1)


def pauses(pace: Pace) -> float:
    return sum(pace.pause_s() for _ in range(1000)) / 1000
