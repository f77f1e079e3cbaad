"""Reading labelled structures out of the files that simulation codes write, with dpdata and ASE."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from app.engines.deepmd.intake.frames import Frame
from app.engines.intake.report import Refused, Report, refuse

DPDATA_FORMATS: tuple[tuple[str, bytes], ...] = (
    ("vasp/outcar", b" vasp."),
    ("vasp/xml", b"<modeling>"),
    ("cp2k/output", b" DBCSR|"),
    ("gaussian/log", b"Entering Gaussian System"),
    ("siesta/output", b"Siesta Version"),
    ("pwmat/movement", b"atoms,Iteration"),
    ("psi4/out", b"Psi4: An Open-Source"),
)
"""Formats that dpdata reads better than ASE, by what stands in their first kilobytes."""

ASE_REFUSED = frozenset({"bundletrajectory", "trj", "postgresql", "mysql", "mariadb"})
"""ASE formats that are directories, pickles or connections."""

ULM_MAGIC = b"- of Ulm"
"""How ASE's own trajectories begin since 2014. Older ones are pickles, which are never opened."""

HINT = "Send deepmd/npy systems (tar, zip), or a file ASE or dpdata reads with energies and forces (extxyz, OUTCAR, …)."


def read_frames(path: Path, shown: str, report: Report) -> Iterator[Frame]:
    """Yield the labelled frames of a file. Raises Refused when it cannot be read."""
    head = head_of(path)
    known = next((name for name, mark in DPDATA_FORMATS if mark in head), None)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield from _dpdata(path, known) if known else _ase(path, head, shown, report)
        # The readers say so when they leave frames out: unconverged or incomplete ones.
        for warning in caught:
            if issubclass(warning.category, UserWarning):
                report.warn(f"{shown}: {str(warning.message)[:300]}")
    except (Refused, MemoryError):
        raise
    except OSError as error:
        if error.errno is not None:
            raise
        raise unreadable(shown, known, error) from error
    except Exception as error:
        # The parsers of a hundred formats raise whatever comes; a file they cannot read is not our failure.
        raise unreadable(shown, known, error) from error


def head_of(path: Path) -> bytes:
    """Return what a file begins with."""
    with path.open("rb") as file:
        return file.read(8192)


def unreadable(shown: str, known: str | None, error: Exception, hint: str = HINT) -> Refused:
    """Return the refusal of a file over which its reader broke down."""
    what = f" as {known}" if known else ""
    words = str(error).strip().rstrip(".")[:300] or type(error).__name__
    return refuse("unreadable-data", f"{shown} cannot be read{what}: {words}.", hint)


def _dpdata(path: Path, form: str) -> Iterator[Frame]:
    import dpdata

    data = dpdata.LabeledSystem(str(path), fmt=form).data
    names = tuple(data["atom_names"][kind] for kind in data["atom_types"])
    periodic = not data.get("nopbc", False)
    for index, energy in enumerate(data["energies"]):
        yield Frame(
            symbols=names,
            coords=data["coords"][index],
            energy=float(energy),
            forces=data["forces"][index] if "forces" in data else None,
            cell=data["cells"][index] if periodic else None,
            virial=data["virials"][index] if periodic and "virials" in data else None,
        )


def _ase(path: Path, head: bytes, shown: str, report: Report) -> Iterator[Frame]:
    for index, atoms in enumerate(read_atoms(path, head, shown)):
        frame = _of_atoms(atoms, f"{shown}, frame {index}", report)
        if frame is not None:
            yield frame


def read_atoms(path: Path, head: bytes, shown: str) -> Iterator[Any]:
    """Yield ASE's Atoms of each structure in a file that begins with `head`. Raises Refused, and what ASE raises."""
    import ase.io
    from ase.io.formats import UnknownFileTypeError, filetype, get_ioformat

    try:
        form = filetype(str(path), read=True)
        get_ioformat(form)
    except UnknownFileTypeError as error:
        raise refuse("unknown-format", f"Neither ASE nor dpdata knows what kind of file {shown} is.", HINT) from error
    if form in ASE_REFUSED or (form == "traj" and not head.startswith(ULM_MAGIC)):
        raise refuse("refused-format", f"{shown} is of a format ({form}) that is not opened: it could run code.", HINT)
    yield from ase.io.iread(str(path), index=":", format=form, do_not_split_by_at_sign=True)


def _of_atoms(atoms: Any, shown: str, report: Report) -> Frame | None:
    results = dict(getattr(atoms.calc, "results", None) or {})
    energy = results.get("free_energy", results.get("energy"))
    if energy is None:
        found = sorted({*map(str, atoms.info), *map(str, atoms.arrays)} - {"numbers", "positions"})
        report.problem(
            "no-energy",
            f"{shown}: there is no energy; other values present: {', '.join(found[:12]) or 'none'}.",
            "Name the values `energy` and `forces`.",
        )
        return None
    if results.get("energy", energy) != energy:
        report.warn(
            f"{shown.split(',')[0]}: has free_energy and energy; the free energy is taken, forces derive from it."
        )
    periodic = _periodic(atoms, shown, report)
    return Frame(
        symbols=tuple(atoms.get_chemical_symbols()),
        coords=np.asarray(atoms.get_positions(), np.float64),
        energy=float(energy),
        forces=None if results.get("forces") is None else np.asarray(results["forces"], np.float64),
        cell=np.asarray(atoms.cell.array, np.float64) if periodic else None,
        virial=virial_of(atoms, results) if periodic else None,
    )


def _periodic(atoms: Any, shown: str, report: Report) -> bool:
    if not atoms.pbc.any():
        return False
    if not atoms.pbc.all():
        report.warn(f"{shown.split(',')[0]}: periodic in some directions only; the cell is taken as periodic in all.")
    return True


def virial_of(atoms: Any, results: dict[str, Any]) -> np.ndarray[Any, Any] | None:
    """Return the virial in eV, shape (3, 3), or None where there is neither a stress nor a virial.

    ASE's stress (eV/Å³) is positive under tension; DeePMD-kit's virial is -stress × volume. A `virial` among a
    structure's values (extxyz of QUIP, GAP) has DeePMD-kit's sign already.
    """
    stress = results.get("stress")
    if stress is not None:
        stress = np.asarray(stress, np.float64)
        if stress.size == 6:
            xx, yy, zz, yz, xz, xy = stress.ravel()
            stress = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        return -stress.reshape(3, 3) * float(atoms.get_volume())
    virial = atoms.info.get("virial", atoms.info.get("virials"))
    return None if virial is None else np.asarray(virial, np.float64).reshape(3, 3)
