"""Writing labelled frames of any origin as deepmd/npy systems, grouped by composition."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from app.engines.intake.report import refuse

BUFFERED_BYTES = 64 << 20
"""Frames kept in memory, over all groups, before the largest group is written out as one set."""

MAX_GROUPS = 20_000

Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Frame:
    """One labelled structure. Lengths in Å, energy and virial in eV, forces in eV/Å.

    coords and forces have shape (atoms, 3), cell and virial (3, 3). The virial is minus the stress (ASE's sign: positive
    under tension) times the volume, which is what DeePMD-kit trains on.
    """

    symbols: tuple[str, ...]
    coords: Floats
    energy: float
    forces: Floats | None = None
    cell: Floats | None = None
    virial: Floats | None = None


@dataclass
class _Group:
    """Frames that can share a system: same atoms, same labels, cell or no cell."""

    name: str
    symbols: tuple[str, ...]
    periodic: bool
    buffer: dict[str, list[Floats]] = field(default_factory=dict)
    bytes: int = 0
    sets: int = 0


class FrameWriter:
    """Collects frames and writes them below a directory, one system per composition, at bounded memory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._groups: dict[tuple[Any, ...], _Group] = {}
        self._formulas: Counter[str] = Counter()
        self._bytes = 0

    def add(self, frame: Frame) -> None:
        """Take a frame. Its atoms are sorted by element, so that frames of one composition share a system."""
        order = sorted(range(len(frame.symbols)), key=lambda index: frame.symbols[index])
        arrays = _arrays(frame, order)
        symbols = tuple(frame.symbols[index] for index in order)
        key = (symbols, *sorted(arrays))
        group = self._groups.get(key) or self._new_group(key, symbols, frame.cell is not None)
        for name, array in arrays.items():
            group.buffer.setdefault(name, []).append(array)
            group.bytes += array.nbytes
            self._bytes += array.nbytes
        if self._bytes > BUFFERED_BYTES:
            self._flush(max(self._groups.values(), key=lambda each: each.bytes))

    def _new_group(self, key: tuple[Any, ...], symbols: tuple[str, ...], periodic: bool) -> _Group:
        """Open a system, named by its formula and, among several of one formula, by a number."""
        if len(self._groups) == MAX_GROUPS:
            message = f"There are more than {MAX_GROUPS} different compositions."
            raise refuse("too-many-systems", message, "Write the data in deepmd/npy's mixed-type form, or split it.")
        formula = "".join(f"{symbol}{count}" for symbol, count in sorted(Counter(symbols).items()))[:200]
        self._formulas[formula] += 1
        number = self._formulas[formula]
        group = _Group(formula if number == 1 else f"{formula}-{number}", symbols, periodic)
        self._groups[key] = group
        return group

    def finish(self) -> int:
        """Write what is left, and the types of every system. Return the number of systems."""
        type_map = sorted({symbol for group in self._groups.values() for symbol in group.symbols})
        for group in list(self._groups.values()):
            if group.bytes:
                self._flush(group)
            path = self.root / group.name
            (path / "type_map.raw").write_text("".join(f"{name}\n" for name in type_map))
            (path / "type.raw").write_text("".join(f"{type_map.index(symbol)}\n" for symbol in group.symbols))
            if not group.periodic:
                (path / "nopbc").touch()
        return len(self._groups)

    def _flush(self, group: _Group) -> None:
        path = self.root / group.name / f"set.{group.sets:03d}"
        path.mkdir(parents=True)
        for name, arrays in group.buffer.items():
            np.save(path / f"{name}.npy", np.stack(arrays))
        self._bytes -= group.bytes
        group.buffer, group.bytes, group.sets = {}, 0, group.sets + 1


def _arrays(frame: Frame, order: list[int]) -> dict[str, Floats]:
    optional = {
        "force": None if frame.forces is None else frame.forces[order].ravel(),
        "box": None if frame.cell is None else frame.cell.ravel(),
        "virial": None if frame.virial is None else frame.virial.ravel(),
    }
    present = {name: np.asarray(array, np.float64) for name, array in optional.items() if array is not None}
    energy = np.asarray(frame.energy, np.float64)
    return {"coord": np.asarray(frame.coords[order].ravel(), np.float64), "energy": energy, **present}
