"""One .npy file at a time: opened without unpickling, scanned in pieces, rewritten in one canonical form."""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from app.engines.intake.report import Report

ELEMENTS_AT_ONCE = 1 << 20
"""Elements looked at together: some megabytes of temporary memory."""

MAX_NAMED = 3
"""Non-finite values named per file; the others are counted."""

AXES = "xyz"

UNREADABLE = (ValueError, EOFError, OSError, SyntaxError)
"""What numpy raises over files that it cannot read."""


@dataclass(frozen=True)
class Array:
    """A .npy file and the shape it will have in the dataset."""

    path: Path
    shown: str
    found: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def frames(self) -> int:
        """Length of the first axis."""
        return self.shape[0]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type it is stored with: what it has, where DeePMD-kit reads that; double precision otherwise."""
        if self.path.name == "real_atom_types.npy":
            return np.dtype("<i4")
        return np.dtype("<f4") if self.found.kind == "f" and self.found.itemsize == 4 else np.dtype("<f8")

    def pieces(self) -> Iterator[tuple[int, np.ndarray[Any, Any]]]:
        """Yield (first frame, rows of that and the following frames as stored), a few megabytes at a time."""
        width = max(1, int(np.prod(self.shape[1:])))
        rows = max(1, ELEMENTS_AT_ONCE // width)
        # Mapped anew each time: a mapping holds a file descriptor, and a dataset may have more files than a process.
        data = np.load(self.path, mmap_mode="r", allow_pickle=False)
        for start in range(0, self.frames, rows):
            piece = np.ascontiguousarray(data[start : start + rows])
            yield start, piece.reshape((-1, *self.shape[1:])).astype(self.dtype, copy=False)

    def content(self) -> Iterator[bytes]:
        """Yield the canonical .npy file: version 1.0, little-endian, C order."""
        yield self.header()
        for _, piece in self.pieces():
            yield piece.tobytes()

    def header(self) -> bytes:
        """Return the canonical .npy header."""
        buffer = BytesIO()
        description = {"descr": self.dtype.str, "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(buffer, description)
        return buffer.getvalue()

    @property
    def size(self) -> int:
        """Bytes of the canonical file."""
        return len(self.header()) + int(np.prod(self.shape)) * self.dtype.itemsize


def open_array(path: Path, shown: str, report: Report) -> np.ndarray[Any, Any] | None:
    """Map a .npy file into memory; None, with a problem noted, when it is not one or not numeric."""
    try:
        data = np.lib.format.open_memmap(path, mode="r")
    except UNREADABLE as error:
        if _is_empty_array(path):
            report.problem("no-frames", f"{shown} holds no frames.")
        else:
            words = str(error).rstrip(".")
            report.problem("not-npy", f"{shown} is not a readable .npy file: {words}.", "Save it with numpy.save.")
        return None
    if data.dtype.kind not in "fiu":
        report.problem(
            "not-numeric", f"{shown} holds {data.dtype}, not real numbers.", "Save it as float64 or float32."
        )
        return None
    return data


def _is_empty_array(path: Path) -> bool:
    # An array without elements cannot be mapped; reading it instead is free.
    if path.stat().st_size >= 4096:
        return False
    try:
        with path.open("rb") as file:
            return int(np.lib.format.read_array(file, allow_pickle=False).size) == 0
    except UNREADABLE:
        return False


def shaped(path: Path, shown: str, allowed: tuple[tuple[int, ...], ...], meaning: str, report: Report) -> Array | None:
    """Open an array whose frames may have any of the shapes `allowed` and are stored in the first of them.

    `meaning` says in words what a frame should hold.
    """
    data = open_array(path, shown, report)
    if data is None:
        return None
    if data.ndim == 0 or data.shape[1:] not in allowed:
        wanted = " or ".join(str(("frames", *shape)).replace("'", "") for shape in allowed)
        report.problem(
            "wrong-shape",
            f"{shown} has shape {data.shape}, but {meaning} needs {wanted}.",
            "See type.raw for the atoms.",
        )
        return None
    return Array(path, shown, data.dtype, (data.shape[0], *allowed[0]))


def check_finite(array: Array, per_atom: int, report: Report) -> tuple[float, float]:
    """Return the smallest and largest value; name the first that are not finite by frame and atom.

    `per_atom`: how many numbers belong to one atom (3 for forces); 0 when frames are not made of atoms.
    """
    low, high, bad = np.inf, -np.inf, 0
    for start, piece in array.pieces():
        flat = piece.reshape(len(piece), -1)
        finite = np.isfinite(flat)
        if finite.all():
            low, high = min(low, float(flat.min())), max(high, float(flat.max()))
            continue
        for row, column in np.argwhere(~finite)[: max(0, MAX_NAMED - bad)]:
            place = f"frame {start + row}{_atom(int(column), per_atom)}"
            report.problem(
                "not-finite", f"{array.shown}: {place} is {flat[row, column]}.", "Remove the frame or compute it again."
            )
        bad += int((~finite).sum())
    if bad > MAX_NAMED:
        report.problem("not-finite", f"{array.shown}: {bad} values are not finite; the first {MAX_NAMED} are named.")
    return low, high


def _atom(column: int, per_atom: int) -> str:
    if per_atom == 0:
        return f", value {column}" if column else ""
    axis = f", component {AXES[column % 3]}" if per_atom == 3 else ""
    return f", atom {column // per_atom}{axis}"
