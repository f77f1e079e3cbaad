"""The intake process: an order on standard input, the outcome as JSON in the work directory."""

import ctypes
import errno
import pickle
import resource
import signal
import sys
from importlib import import_module
from typing import NoReturn, cast

from app.engines.intake.report import OUTCOME_NAME, Order, Outcome, Refused, Report, TakeIn, refuse
from app.wire.problems import Problem

PR_SET_PDEATHSIG = 1
"""Linux: send a signal when the parent dies, so that no intake outlives the server that wants it."""


def main() -> None:
    """Run one intake."""
    order = Order.model_validate_json(sys.stdin.buffer.read())
    confine(order)
    (order.work / OUTCOME_NAME).write_text(outcome_of(order).model_dump_json())


def outcome_of(order: Order) -> Outcome:
    """Let the order's engine take the data in; everything that is wrong with them is part of the outcome."""
    report = Report()
    try:
        return reader(order.take_in)(order, report)
    except Refused as refused:
        problems = report.problems or [refused.problem]
        if refused.problem not in problems:
            problems.append(refused.problem)
        return Outcome(problems=problems, warnings=report.warnings)
    except MemoryError:
        return Outcome(problems=[_out_of_memory(order)])
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return Outcome(problems=[_disk_full(order)])


def reader(path: str) -> TakeIn:
    """Return an engine's function for taking data in."""
    module, _, name = path.partition(":")
    return cast("TakeIn", getattr(import_module(module), name))


def confine(order: Order) -> None:
    """Give up what reading data does not need: memory and time beyond the limits, core files, unpickling."""
    resource.setrlimit(resource.RLIMIT_DATA, (order.memory_bytes, order.memory_bytes))
    # At the first limit comes a signal that tells a long reading from a crash, at the second the end.
    resource.setrlimit(resource.RLIMIT_CPU, (order.cpu_s, order.cpu_s + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Readers of old formats unpickle (ASE's of one kind of trajectory), and a pickle is a program.
    pickle.load = pickle.loads = _no_pickle
    pickle.Unpickler = NoUnpickler  # type: ignore[assignment,misc]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class NoUnpickler:
    """Stands where the unpickler was."""

    def __init__(self, *_: object, **__: object) -> None:
        _no_pickle()


def _no_pickle(*_: object, **__: object) -> NoReturn:
    raise refuse("refused-format", "The data contains a pickle, which is never opened: it could run code.")


def _out_of_memory(order: Order) -> Problem:
    return Problem(
        code="intake-memory",
        message=f"Reading {order.file_name} needs more than the {order.memory_bytes >> 20} MiB of memory allowed.",
        hint=f"{order.remedy}, or raise CAIRN_INTAKE_MEMORY_BYTES on the server.",
    )


def _disk_full(order: Order) -> Problem:
    return Problem(
        code="disk-full",
        message=f"The server's disk is full: {order.file_name} was not taken in, and nothing of it is left behind.",
        hint="Free space in CAIRN_DATA_DIR or move it to a larger disk, then send it again.",
    )


if __name__ == "__main__":
    main()
