"""Starts the ranks of a training as processes and watches them: when one is gone, all end, and how it ended is told."""

import os
import select
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from worker import verdict
from worker.failures import TrainingFailure
from worker.gpus import find_devices
from worker.loop import StopSwitch
from worker.process import die_with_parent
from worker.ranks import PeerLost, Ranks, prepare_environment
from worker.rundir import Result, RunDir, write_json

Body = Callable[[RunDir, StopSwitch, Ranks], Result]
"""What every rank does. Raises PeerLost when it cannot go on because another one is gone."""

POLL_S = 0.1
ECHO_S = 10.0
"""Seconds that a rank has to end after another one has noticed its loss."""
_ECHO = 75
"""Exit code of a rank that ends because another one is gone."""


@dataclass
class _Process:
    """A rank from outside."""

    number: int
    pid: int
    output: int | None
    """Where its output arrives, to be passed on to the log; the main rank writes there itself."""
    line: bytes = b""
    code: int | None = None
    """Exit code, negative for the signal that killed it; None while it lives."""


def launch(directory: RunDir, count: int, stop: StopSwitch, body: Body) -> Result:
    """Run `body` in `count` processes; return the main rank's result, or how the one ended that was the first to.

    This process computes nothing and must not have touched a GPU. A wish to stop is passed on to the main rank, which
    decides for all.
    """
    devices = _devices(count)
    shutil.rmtree(directory.ranks, ignore_errors=True)
    directory.ranks.mkdir()
    ranks: list[_Process] = []
    try:
        ranks.extend(_start(directory, number, devices, count, stop, body) for number in range(count))
        first = _watch(ranks, stop)
    finally:
        _end(ranks)
    result = _told(directory, 0) if first is None else _end_of(directory, first, count)
    assert result is not None, "a rank that ended well has said so"
    return result


def _devices(count: int) -> list[str]:
    """Return the GPU of each rank; none on a machine without."""
    devices = [device.uuid for device in find_devices()]
    if devices and len(devices) < count:
        message = f"{count} ranks need a GPU each, and this process may use {len(devices)}."
        raise TrainingFailure("configuration", message, hint="Look at CUDA_VISIBLE_DEVICES.")
    return devices[:count]


def _start(
    directory: RunDir, number: int, devices: Sequence[str], count: int, stop: StopSwitch, body: Body
) -> _Process:
    reads, writes = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reads)
        _become(directory, number, devices, count, stop, body, writes)
    os.close(writes)
    if number == 0:
        os.close(reads)
    return _Process(number, pid, reads if number else None)


def _become(
    directory: RunDir, number: int, devices: Sequence[str], count: int, stop: StopSwitch, body: Body, output: int
) -> NoReturn:
    """Be a rank, with one GPU to see and dead when the launcher is. Never returns."""
    code = 1
    try:
        die_with_parent()
        if number:
            os.dup2(output, 1)
            os.dup2(output, 2)
        os.close(output)
        if devices:
            os.environ["CUDA_VISIBLE_DEVICES"] = devices[number]
        prepare_environment()
        result = body(directory, stop, Ranks(number, count, directory.ranks / "meeting"))
        write_json(_result(directory, number), result)
        code = int(result.outcome == "failed")
    except PeerLost as error:
        print(f"another rank is gone: {error}", flush=True)  # noqa: T201 - stdout is the log
        code = _ECHO
    except BaseException:  # noqa: BLE001 - the last line of a process: the log is where it can still speak
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _watch(ranks: Sequence[_Process], stop: StopSwitch) -> _Process | None:
    """Pass output and orders on until all have ended well, or one has not: that one is returned.

    Who goes on a while after the main rank has ended waits for it in vain: it was stopped while it prepared what all need.
    """
    told, patience = False, float("inf")
    while True:
        _pass_on(ranks, POLL_S)
        _reap(ranks)
        if stop.signalled and not told:
            told = True
            _signal(ranks[0], signal.SIGTERM)
        failed = [rank for rank in ranks if rank.code not in (None, 0)]
        causes = [rank for rank in failed if rank.code != _ECHO]
        if (failed or ranks[0].code == 0) and patience == float("inf"):
            patience = time.monotonic() + ECHO_S
        is_late = time.monotonic() > patience
        if causes or (failed and is_late):
            return (causes or failed)[0]
        if is_late or all(rank.code is not None for rank in ranks):
            return failed[0] if failed else None


def _pass_on(ranks: Sequence[_Process], timeout_s: float) -> None:
    """Write what the other ranks have said to the log, whole lines, each with its rank."""
    waiting = {rank.output: rank for rank in ranks if rank.output is not None}
    if not waiting:
        time.sleep(timeout_s)
        return
    for output in select.select(list(waiting), [], [], timeout_s)[0]:
        rank = waiting[output]
        said = os.read(output, 1 << 16)
        *lines, rank.line = (rank.line + said).split(b"\n")
        if not said:
            os.close(output)
            rank.output = None
            lines, rank.line = [rank.line] if rank.line else [], b""
        text = b"".join(b"[rank %d] %s\n" % (rank.number, line) for line in lines)
        if text:
            os.write(1, text)


def _reap(ranks: Sequence[_Process]) -> None:
    for rank in ranks:
        if rank.code is None:
            pid, status = os.waitpid(rank.pid, os.WNOHANG)
            rank.code = os.waitstatus_to_exitcode(status) if pid else None


def _end(ranks: Sequence[_Process]) -> None:
    """Kill who still lives, and let the last words of all arrive."""
    for rank in ranks:
        if rank.code is None:
            _signal(rank, signal.SIGKILL)
            os.waitpid(rank.pid, 0)
    deadline = time.monotonic() + 1
    while any(rank.output is not None for rank in ranks) and time.monotonic() < deadline:
        _pass_on(ranks, POLL_S)


def _signal(rank: _Process, number: int) -> None:
    if rank.code is None:
        with suppress(ProcessLookupError):
            os.kill(rank.pid, number)


def _end_of(directory: RunDir, rank: _Process, count: int) -> Result:
    """Return how the rank ended that the others could not go on without: what it says itself, or what its death says."""
    who = f"rank {rank.number} of {count}"
    said = _told(directory, rank.number)
    if said is not None and said.cause is not None:
        cause = said.cause.model_copy(update={"message": f"{who}: {said.cause.message}"})
        return said.model_copy(update={"cause": cause})
    assert rank.code is not None, "it has ended"
    step = verdict.status(directory, "", 0).step
    outcome, cause = verdict.died(directory, rank.code, step, who.capitalize())
    return Result(outcome=outcome, step=step, cause=cause)


def _told(directory: RunDir, number: int) -> Result | None:
    try:
        return Result.model_validate_json(_result(directory, number).read_bytes())
    except (OSError, ValueError):
        return None


def _result(directory: RunDir, number: int) -> Path:
    return directory.ranks / f"{number}.json"
