"""One intake of DeePMD data: find the systems or make them, check them, pack them."""

import os
import shutil
from pathlib import Path

from app.engines.deepmd.intake import structures
from app.engines.deepmd.intake.frames import FrameWriter
from app.engines.deepmd.intake.hdf5 import is_hdf5, unpack_hdf5
from app.engines.deepmd.intake.readers import read_frames
from app.engines.deepmd.intake.summary import packed_files, summarise
from app.engines.deepmd.intake.systems import System, check_system, find_systems
from app.engines.intake.archive import collect
from app.engines.intake.pack import pack
from app.engines.intake.report import ARCHIVE_NAME, Order, Outcome, Report, refuse


def take_in(order: Order, report: Report) -> Outcome:
    """Unpack or copy, convert where needed, check everything, and pack what stands."""
    root = order.work / "data"
    root.mkdir()
    single = collect(order, root)
    if order.form == "structures":
        return structures.take_in(order, root, single, report)
    systems = find_systems(converted(order, single, report) if single else root, report)
    for system in systems:
        check_system(system, order.type_map, report)
    report.stop_if_wrong()
    digest = pack(packed_files(systems), order.work / ARCHIVE_NAME)
    summary = summarise(systems)
    _warn_of_ignored(root, systems, report)
    shutil.rmtree(root, ignore_errors=True)
    return Outcome(warnings=report.warnings, digest=digest, summary=summary)


def converted(order: Order, source: Path, report: Report) -> Path:
    """Turn a single file into systems and return the directory they are in."""
    target = order.work / "converted"
    target.mkdir()
    if is_hdf5(source):
        unpack_hdf5(order, source, target)
    else:
        convert(source, order.file_name if source == order.source else source.name, target, report)
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
