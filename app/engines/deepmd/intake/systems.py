"""Finding DeePMD-kit systems in a directory tree, and checking every one of them."""

import re
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from app.engines.deepmd.intake.arrays import Array, check_finite, open_array, shaped
from app.engines.intake.report import Report, refuse
from app.wire.datasets import SystemSummary

MAX_ATOMS = 1_000_000
_SET = re.compile(r"^set\.[A-Za-z0-9_-]+$")

NO_SYSTEM_HINT = (
    "A system is a folder with type.raw, type_map.raw and set.000/{coord,box,energy,force}.npy; "
    "dpdata writes one with to('deepmd/npy', …)."
)


@dataclass
class System:
    """One system that was found: where it is, its atoms, and its arrays by path inside the system."""

    name: str
    path: Path
    sets: list[Path] = field(default_factory=list)
    types: list[int] = field(default_factory=list)
    type_map: list[str] = field(default_factory=list)
    periodic: bool = True
    arrays: dict[str, Array] = field(default_factory=dict)
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Smallest and largest value of each label."""

    @property
    def atoms(self) -> int:
        """Atoms of a frame."""
        return len(self.types)

    @property
    def frames(self) -> int:
        """Frames of all sets."""
        return sum(self.arrays[f"{path.name}/coord.npy"].frames for path in self.sets)

    @property
    def mixed(self) -> bool:
        """Whether each frame has its own types."""
        return any(name.endswith("/real_atom_types.npy") for name in self.arrays)

    @property
    def labels(self) -> list[str]:
        """What every frame carries besides its structure."""
        stems = {Path(name).stem for name in self.arrays} - {"coord", "box", "real_atom_types"}
        known = [label for label in ("energy", "force", "virial") if label in stems]
        return known + sorted(stems - set(known))

    def of_label(self, label: str) -> list[Array]:
        """Return a label's arrays, one per set."""
        return [array for name, array in self.arrays.items() if Path(name).stem == label]

    def summary(self) -> SystemSummary:
        """Return what the rest of the service knows of it."""
        return SystemSummary(
            name=self.name,
            atoms=self.atoms,
            frames=self.frames,
            elements=self._elements(),
            type_map=self.type_map,
            mixed_type=self.mixed,
            periodic=self.periodic,
            labels=self.labels,
            sets=[path.name for path in self.sets],
        )

    def _elements(self) -> dict[str, int]:
        counts = np.zeros(len(self.type_map), dtype=np.int64)
        if self.mixed:
            for array in self.of_label("real_atom_types"):
                for _, piece in array.pieces():
                    counts += np.bincount(piece[piece >= 0].ravel(), minlength=len(counts))
        else:
            counts += np.bincount(self.types, minlength=len(counts))
        return {self.type_map[index]: int(count) for index, count in enumerate(counts) if count}


def find_systems(root: Path, report: Report) -> list[System]:
    """Return every system below `root`, named by its path below the folder that holds them all."""
    folders = sorted(path.parent for path in root.rglob("type.raw") if path.is_file())
    for lost in sorted({path.parent for path in root.rglob("set.*") if path.is_dir()} - set(folders)):
        shown = lost.relative_to(root)
        report.problem("no-types", f"{shown}: there are sets, but no type.raw beside them.", NO_SYSTEM_HINT)
    if not folders and not report.problems:
        seen = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())[:5]
        raise refuse("no-systems", f"No DeePMD-kit system was found; there are: {', '.join(seen)}.", NO_SYSTEM_HINT)
    for outer, inner in pairwise(folders):
        if inner.is_relative_to(outer):
            names = inner.relative_to(root), outer.relative_to(root)
            report.problem("nested-system", f"The system {names[0]} lies inside the system {names[1]}.", "Move it out.")
    return [System(name, folder) for name, folder in zip(_names(folders, root), folders, strict=True)]


def _names(folders: list[Path], root: Path) -> list[str]:
    """Drop the leading folders that all systems share: they say how the archive was packed, not what is in it."""
    parents = [folder.relative_to(root).parts[:-1] for folder in folders]
    shared = 0
    while parents and all(len(parts) > shared and parts[shared] == parents[0][shared] for parts in parents):
        shared += 1
    return ["/".join(folder.relative_to(root).parts[shared:]) or "system" for folder in folders]


def check_system(system: System, fallback_type_map: list[str] | None, report: Report) -> None:
    """Read and check everything of one system; what is wrong goes to the report."""
    before = len(report.problems)
    system.periodic = not (system.path / "nopbc").exists()
    system.sets = sorted(path for path in system.path.glob("set.*") if path.is_dir() and _SET.match(path.name))
    _read_types(system, fallback_type_map, report)
    if not system.sets:
        has_raw = (system.path / "coord.raw").exists()
        hint = "Convert the .raw files: dpdata reads deepmd/raw and writes deepmd/npy." if has_raw else NO_SYSTEM_HINT
        report.problem("no-sets", f"{system.name}: there is no set.000 folder.", hint)
    if len(report.problems) > before:
        return
    for path in system.sets:
        _read_set(system, path, report)
    if len(report.problems) == before:
        _check_labels(system, report)
        _check_values(system, report)


def _read_types(system: System, fallback: list[str] | None, report: Report) -> None:
    shown = f"{system.name}/type.raw"
    words = (system.path / "type.raw").read_bytes()[: 8 * MAX_ATOMS].split()
    try:
        system.types = [int(word) for word in words]
    except ValueError as error:
        report.problem("wrong-types", f"{shown}: {error}; it holds one type index per atom.")
        return
    if not 0 < len(system.types) <= MAX_ATOMS:
        report.problem("wrong-types", f"{shown} names {len(system.types)} atoms; 1 to {MAX_ATOMS} are accepted.")
    system.type_map = _read_type_map(system, fallback, report)
    over = [index for index, kind in enumerate(system.types) if not 0 <= kind < len(system.type_map)]
    if system.type_map and over:
        report.problem(
            "type-out-of-range",
            f"{shown}: atom {over[0]} has type {system.types[over[0]]}, but type_map.raw has only "
            f"{len(system.type_map)} entries (0 to {len(system.type_map) - 1}: {' '.join(system.type_map[:20])}).",
            "Add the missing element to type_map.raw or correct the index.",
        )


def _read_type_map(system: System, fallback: list[str] | None, report: Report) -> list[str]:
    path = system.path / "type_map.raw"
    shown = f"{system.name}/type_map.raw"
    names = path.read_bytes()[:65536].decode("utf-8", "replace").split() if path.is_file() else list(fallback or [])
    if not names:
        report.problem(
            "no-type-map",
            f"{shown} is missing or empty: nothing says which elements the types are.",
            "Add it with one element per line, or give `type_map` with the upload.",
        )
    for name in sorted({name for name in names if names.count(name) > 1}):
        report.problem("duplicate-type", f"{shown} names {name} twice.", "Name every element once.")
    for name in names:
        if not name.isprintable() or len(name) > 32:
            report.problem("wrong-type-name", f"{shown}: {name[:40]!r} is no name of an element.")
    return names


def _read_set(system: System, path: Path, report: Report) -> None:
    atoms, shown = system.atoms, f"{system.name}/{path.name}"
    per_atom = (atoms * 3,), (atoms, 3)
    known = {
        "coord": (per_atom, f"three coordinates of {atoms} atoms"),
        "force": (per_atom, f"three force components of {atoms} atoms"),
        "box": (((9,), (3, 3)), "a cell of three vectors"),
        "virial": (((9,), (3, 3)), "a virial of 3 × 3 components"),
        "energy": (((), (1,)), "one energy"),
        "real_atom_types": (((atoms,),), f"the types of {atoms} atoms"),
    }
    needed = ["coord", "energy", *(["box"] if system.periodic else [])]
    for stem in needed:
        if not (path / f"{stem}.npy").is_file():
            hint = "Put an empty file named nopbc beside type.raw when there is no cell." if stem == "box" else None
            report.problem(f"no-{stem}", f"{shown}/{stem}.npy is missing.", hint)
    for file in sorted(path.glob("*.npy")):
        name = f"{shown}/{file.name}"
        array = shaped(file, name, *known[file.stem], report) if file.stem in known else _other(file, name, report)
        if array is not None:
            system.arrays[f"{path.name}/{file.name}"] = array
    _check_frames(system, path, report)


def _other(file: Path, shown: str, report: Report) -> Array | None:
    """Open a label that only some models use (fparam, dipole, …); it keeps its shape."""
    data = open_array(file, shown, report)
    if data is not None and data.ndim == 0:
        report.problem("wrong-shape", f"{shown} is a single number, not one value per frame.")
        return None
    return None if data is None else Array(file, shown, data.dtype, data.shape)


def _check_frames(system: System, path: Path, report: Report) -> None:
    coord = system.arrays.get(f"{path.name}/coord.npy")
    if coord is None:
        return
    if coord.frames == 0:
        report.problem("no-frames", f"{coord.shown} holds no frames.")
    for name, array in system.arrays.items():
        if name.startswith(f"{path.name}/") and array.frames != coord.frames:
            report.problem(
                "wrong-frames", f"{array.shown} has {array.frames} frames, but coord.npy beside it has {coord.frames}."
            )


def _check_labels(system: System, report: Report) -> None:
    """Every set must hold the same files: DeePMD-kit would fail in the middle of a training otherwise."""
    files = {path.name: {Path(n).name for n in system.arrays if n.startswith(f"{path.name}/")} for path in system.sets}
    everything = set().union(*files.values())
    for name, present in files.items():
        for missing in sorted(everything - present):
            report.problem(
                "uneven-sets", f"{system.name}/{name} has no {missing}, but other sets of the system have one."
            )
    if "force.npy" not in everything:
        report.warn(f"{system.name}: there are no forces; a model can be trained on energies only.")


def _check_values(system: System, report: Report) -> None:
    per_atom = {"coord": 3, "force": 3, "real_atom_types": 1}
    for name, array in system.arrays.items():
        stem = Path(name).stem
        low, high = check_finite(array, per_atom.get(stem, 0), report)
        old = system.ranges.get(stem, (low, high))
        system.ranges[stem] = min(low, old[0]), max(high, old[1])
        if stem == "box" and system.periodic:
            _check_cells(array, report)
    low, high = system.ranges.get("real_atom_types", (0, 0))
    if low < -1 or high >= len(system.type_map):
        report.problem(
            "type-out-of-range",
            f"{system.name}: real_atom_types.npy holds types {low:.0f} to {high:.0f}, but type_map.raw has "
            f"{len(system.type_map)} entries.",
            "Use 0 to entries - 1, or -1 for padding.",
        )


def _check_cells(array: Array, report: Report) -> None:
    for start, piece in array.pieces():
        cells = piece.reshape(-1, 3, 3).astype(np.float64)
        volumes = np.linalg.det(cells)
        edges = np.linalg.norm(cells, axis=2).prod(axis=1)
        flat = np.flatnonzero(~(np.abs(volumes) > 1e-4 * edges) & np.isfinite(volumes))
        if len(flat):
            frame = int(flat[0])
            report.problem(
                "flat-cell",
                f"{array.shown}: the cell of frame {start + frame} has a volume of {volumes[frame]:.3g} Å³.",
                "Put an empty file named nopbc beside type.raw when there is no cell.",
            )
            return
        if (volumes < 0).any():
            report.warn(f"{array.shown}: some cells are left-handed.")
