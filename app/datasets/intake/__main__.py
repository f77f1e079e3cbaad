"""The intake process: an order on standard input, the outcome as JSON in the work directory."""

import ctypes
import errno
import os
import pickle
import resource
import shutil
import signal
import sys
from pathlib import Path
from typing import NoReturn

from app.datasets.intake.archive import unpack
from app.datasets.intake.folder import copy_directory
from app.datasets.intake.frames import FrameWriter
from app.datasets.intake.hdf5 import is_hdf5, unpack_hdf5
from app.datasets.intake.pack import pack, summarise
from app.datasets.intake.readers import read_frames
from app.datasets.intake.report import ARCHIVE_NAME, OUTCOME_NAME, Order, Outcome, Refused, Report, refuse
from app.datasets.intake.systems import System, check_system, find_systems
from app.wire.problems import Problem

PR_SET_PDEATHSIG = 1
"""Linux: send a signal when the parent dies, so that no intake outlives the server that wants it."""


def main() -> None:
    """Run one intake."""
    order = Order.model_validate_json(sys.stdin.buffer.read())
    confine(order)
    report = Report()
    try:
        outcome = take_in(order, report)
    except Refused as refused:
        problems = report.problems or [refused.problem]
        if refused.problem not in problems:
            problems.append(refused.problem)
        outcome = Outcome(problems=problems, warnings=report.warnings)
    except MemoryError:
        outcome = Outcome(problems=[_out_of_memory(order)])
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        outcome = Outcome(problems=[_disk_full(order)])
    (order.work / OUTCOME_NAME).write_text(outcome.model_dump_json())


def confine(order: Order) -> None:
    """Give up what reading data does not need: memory and time beyond the limits, core files, unpickling."""
    resource.setrlimit(resource.RLIMIT_DATA, (order.memory_bytes, order.memory_bytes))
    # At the first limit comes a signal that tells a long reading from a crash, at the second the end.
    resource.setrlimit(resource.RLIMIT_CPU, (order.cpu_s, order.cpu_s + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # ASE still knows a trajectory format made of pickles, and a pickle is a program.
    pickle.load = pickle.loads = _no_pickle
    pickle.Unpickler = NoUnpickler  # type: ignore[assignment,misc]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class NoUnpickler:
    """Stands where the unpickler was."""

    def __init__(self, *_: object, **__: object) -> None:
        _no_pickle()


def _no_pickle(*_: object, **__: object) -> NoReturn:
    raise refuse("refused-format", "The data contains a pickle, which is never opened: it could run code.")


def take_in(order: Order, report: Report) -> Outcome:
    """Unpack or copy, convert where needed, check everything, and pack what stands."""
    root = order.work / "data"
    root.mkdir()
    systems = find_systems(collect(order, root, report), report)
    for system in systems:
        check_system(system, order.type_map, report)
    report.stop_if_wrong()
    digest = pack(systems, order.work / ARCHIVE_NAME)
    summary = summarise(systems)
    _warn_of_ignored(root, systems, report)
    shutil.rmtree(root, ignore_errors=True)
    return Outcome(warnings=report.warnings, digest=digest, summary=summary)


def collect(order: Order, root: Path, report: Report) -> Path:
    """Bring the data below `root` as directories of systems and return where they are."""
    if order.kind == "directory":
        copy_directory(order, root)
        return root
    if unpack(order, root):
        return root
    # A compressed single file now lies in `root`; what is read from it is written beside.
    expanded = next(root.iterdir(), None)
    source, shown = (expanded, expanded.name) if expanded else (order.source, order.file_name)
    target = order.work / "converted"
    target.mkdir()
    if is_hdf5(source):
        unpack_hdf5(order, source, target)
    else:
        convert(source, shown, target, report)
    return target


def convert(path: Path, shown: str, target: Path, report: Report) -> None:
    """Turn a single file of labelled structures into systems below `target`."""
    writer = FrameWriter(target)
    for frame in read_frames(path, shown, report):
        writer.add(frame)
    report.stop_if_wrong()
    if writer.finish() == 0:
        raise refuse("no-frames", f"{shown} holds no labelled structures.", "Each needs at least an energy.")


def _warn_of_ignored(root: Path, systems: list[System], report: Report) -> None:
    used = {str(array.path) for system in systems for array in system.arrays.values()}
    ignored = [
        str(Path(folder, name).relative_to(root))
        for folder, _, names in os.walk(root)
        for name in names
        if not name.endswith(".raw") and name != "nopbc" and str(Path(folder, name)) not in used
    ]
    if ignored and systems[0].path.is_relative_to(root):
        shown = ", ".join(sorted(ignored)[:5]) + (" …" if len(ignored) > 5 else "")
        what = "1 file that belongs" if len(ignored) == 1 else f"{len(ignored)} files that belong"
        report.warn(f"Left out: {what} to no system ({shown})")


def _out_of_memory(order: Order) -> Problem:
    return Problem(
        code="intake-memory",
        message=f"Reading {order.file_name} needs more than the {order.memory_bytes >> 20} MiB of memory allowed.",
        hint="Convert it to deepmd/npy systems first, which are read piece by piece, or raise CAIRN_INTAKE_MEMORY_BYTES.",
    )


def _disk_full(order: Order) -> Problem:
    return Problem(
        code="disk-full",
        message=f"The server's disk is full: {order.file_name} was not taken in, and nothing of it is left behind.",
        hint="Free space in CAIRN_DATA_DIR or move it to a larger disk, then send it again.",
    )


if __name__ == "__main__":
    main()
