"""Structures to be relaxed, out of any file that ASE reads: taken as they are, one by one, without labels."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from app.engines.deepmd import distances, physics
from app.engines.deepmd.intake.readers import head_of, read_atoms, unreadable
from app.engines.deepmd.structures import FILE, Structure, Structures
from app.engines.intake.pack import pack
from app.engines.intake.report import ARCHIVE_NAME, Order, Outcome, Refused, Report, refuse
from app.wire.datasets import DatasetSummary, StructureSummary

MOST = 1000
AXES: tuple[Literal["a", "b", "c"], ...] = ("a", "b", "c")

HINT = "Send files that ASE reads, or an archive of them: POSCAR, CIF, xyz, extxyz, traj, …"
MEND = "Places and cells are finite numbers, in Å. Mend the file, or cut the structure."


def take_in(order: Order, root: Path, single: Path | None, report: Report) -> Outcome:
    """Read the one file, or every file below `root`, and pack what is in them. What is odd is said, and kept."""
    files = [single] if single else sorted(path for path in root.rglob("*") if path.is_file())
    found: dict[str, Structure] = {}
    for path in files:
        shown = order.file_name if path == order.source else path.name
        for structure in _read(path, shown, set(found), report):
            found[structure.name] = structure
            if len(found) > MOST:
                raise refuse("too-many-structures", f"There are more than {MOST} structures.", "Send them in parts.")
    report.stop_if_wrong()
    if not found:
        raise refuse("no-structures", f"{order.file_name} holds no structures.", "Send files that ASE reads.")
    content = Structures(structures=list(found.values())).model_dump_json(indent=1).encode()
    digest = pack([(FILE, len(content), iter([content]))], order.work / ARCHIVE_NAME)
    shutil.rmtree(root, ignore_errors=True)
    return Outcome(warnings=report.warnings, digest=digest, summary=summarise(list(found.values())))


def summarise(structures: list[Structure]) -> DatasetSummary:
    """Return what the dataset's page shows."""
    parts = [_summary(one) for one in structures]
    elements = sorted({symbol for part in parts for symbol in part.elements})
    return DatasetSummary(
        structures=parts, frames=len(parts), atoms=sum(part.atoms for part in parts), elements=elements
    )


def _summary(one: Structure) -> StructureSummary:
    findings = physics.findings(one)
    return StructureSummary(
        name=one.name,
        atoms=len(one.symbols),
        formula=one.formula,
        elements=sorted(set(one.symbols)),
        periodic=one.cell is not None,
        fixed=len(one.fixed),
        findings=findings,
        distances=None if physics.is_hopeless(findings) else distances.of_structure(one),
    )


def _read(path: Path, shown: str, taken: set[str], report: Report) -> Iterator[Structure]:
    try:
        every = list(read_atoms(path, head_of(path), shown))
    except Refused as error:
        raise Refused(error.problem.model_copy(update={"hint": HINT})) from error
    except MemoryError:
        raise
    except Exception as error:
        # The parsers of a hundred formats raise whatever comes; a file they cannot read is not our failure.
        raise _unreadable(shown, error) from error
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(shown).stem).strip("-._")[:40] or "structure"
    for index, atoms in enumerate(every):
        name = _free(stem if len(every) == 1 else f"{stem}-{index}", taken)
        taken.add(name)
        try:
            yield _structure(atoms, name)
        except ValidationError as error:
            report.problem("wrong-structure", f"{shown}, structure {index}: {_words(error)}.", MEND)


def _unreadable(shown: str, error: Exception) -> Refused:
    """Return the refusal of a file over which its reader broke down. ASE says of an unknown element only its name."""
    if isinstance(error, KeyError) and error.args and re.fullmatch(r"[A-Z][a-z]{0,2}", str(error.args[0])):
        message = f"{shown} cannot be read: it has atoms of {error.args[0]!r}, which is no element."
        return refuse("unreadable-data", message, "Name elements by their symbols, such as Cu.")
    return unreadable(shown, None, error, HINT)


def _words(error: ValidationError) -> str:
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    if place == ["symbols"] and first["type"] == "too_long":
        return f"has {first['ctx']['actual_length']} atoms, {first['ctx']['max_length']} are the most"
    where = f"{place[0]} of atom {place[1]}: " if len(place) > 1 and place[0] == "positions" else ""
    return f"{where}{first['msg']}"


def _free(name: str, taken: set[str]) -> str:
    number = 2
    candidate = name
    while candidate in taken:
        candidate, number = f"{name}-{number}", number + 1
    return candidate


def _structure(atoms: Any, name: str) -> Structure:
    periodic = bool(atoms.pbc.any())
    fixed, left_out = _constraints(atoms)
    return Structure(
        name=name,
        symbols=atoms.get_chemical_symbols(),
        positions=atoms.get_positions().tolist(),
        cell=atoms.cell.array.tolist() if periodic else None,
        fixed=fixed,
        without_images=[axis for axis, has in zip(AXES, atoms.pbc, strict=True) if periodic and not has],
        constraints_left_out=left_out,
    )


def _constraints(atoms: Any) -> tuple[list[int], list[str]]:
    """Return the atoms that ASE's FixAtoms holds, and the names of its other constraints."""
    from ase import constraints

    fix: Any = constraints.FixAtoms
    held: set[int] = set()
    others: set[str] = set()
    for constraint in atoms.constraints:
        if isinstance(constraint, fix):
            held.update(int(index) for index in constraint.get_indices())
        else:
            others.add(type(constraint).__name__)
    return sorted(held), sorted(others)
