"""Structures to be relaxed, out of any file that ASE reads: taken as they are, one by one, without labels."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from app.engines.deepmd import distances, physics
from app.engines.deepmd.intake.readers import head_of, read_atoms, unreadable
from app.engines.deepmd.structures import FILE, Structure, Structures
from app.engines.intake.pack import pack
from app.engines.intake.report import ARCHIVE_NAME, Order, Outcome, Refused, Report, refuse
from app.wire.datasets import DatasetSummary, StructureSummary

MOST = 1000


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
    except (Refused, MemoryError):
        raise
    except Exception as error:
        # The parsers of a hundred formats raise whatever comes; a file they cannot read is not our failure.
        raise unreadable(shown, None, error) from error
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(shown).stem).strip("-._")[:40] or "structure"
    for index, atoms in enumerate(every):
        name = _free(stem if len(every) == 1 else f"{stem}-{index}", taken)
        taken.add(name)
        try:
            yield _structure(atoms, name, f"{shown}, structure {index}", report)
        except ValidationError as error:
            report.problem("wrong-structure", f"{shown}, structure {index}: {_words(error)}.")


def _words(error: ValidationError) -> str:
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    where = f"{place[0]} of atom {place[1]}: " if len(place) > 1 and place[0] == "positions" else ""
    return f"{where}{first['msg']}"


def _free(name: str, taken: set[str]) -> str:
    number = 2
    candidate = name
    while candidate in taken:
        candidate, number = f"{name}-{number}", number + 1
    return candidate


def _structure(atoms: Any, name: str, shown: str, report: Report) -> Structure:
    periodic = bool(atoms.pbc.any())
    if periodic and not atoms.pbc.all():
        report.warn(f"{shown}: periodic in some directions only; DeePMD-kit takes the cell as periodic in all.")
    return Structure(
        name=name,
        symbols=atoms.get_chemical_symbols(),
        positions=atoms.get_positions().tolist(),
        cell=atoms.cell.array.tolist() if periodic else None,
        fixed=_fixed(atoms, shown, report),
    )


def _fixed(atoms: Any, shown: str, report: Report) -> list[int]:
    """Return the atoms that ASE's FixAtoms holds; other constraints are left out, which is said."""
    from ase import constraints

    fix: Any = constraints.FixAtoms
    held: set[int] = set()
    for constraint in atoms.constraints:
        if isinstance(constraint, fix):
            held.update(int(index) for index in constraint.get_indices())
        else:
            report.warn(f"{shown}: the constraint {type(constraint).__name__} is left out; only fixed atoms are kept.")
    return sorted(held)
