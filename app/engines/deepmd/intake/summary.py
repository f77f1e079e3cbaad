"""What systems become in the store, and what was found in them as a summary."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from app.engines.deepmd.intake import sampling
from app.engines.deepmd.intake.systems import System
from app.engines.intake.pack import File
from app.wire.datasets import DatasetSummary, Range

HISTOGRAM_BINS = 40

MAX_DESCRIBED = 500
"""Systems whose own ranges are kept: a page shows no more, and lists carry every summary."""


def packed_files(systems: list[System]) -> Iterator[File]:
    """Yield every file of the canonical form of systems: arrays as they are, texts written anew."""
    for system in systems:
        texts = {
            "type.raw": "".join(f"{kind}\n" for kind in system.types).encode(),
            "type_map.raw": "".join(f"{name}\n" for name in system.type_map).encode(),
            **({} if system.periodic else {"nopbc": b""}),
        }
        for name, text in texts.items():
            yield f"{system.name}/{name}", len(text), iter([text])
        for name, array in system.arrays.items():
            yield f"{system.name}/{name}", array.size, array.content()


def summarise(systems: list[System]) -> DatasetSummary:
    """Return what a page shows: sizes, elements, ranges, and histograms of energy per atom and force."""
    parts = [system.summary() for system in systems]
    energies = [_per_atom_energies(system) for system in systems]
    everything = np.concatenate(energies) if energies else np.empty(0)
    virials = [system.ranges["virial"] for system in systems if "virial" in system.ranges]
    virial_counts = [system.atoms for system in systems if "virial" in system.ranges]
    return DatasetSummary(
        systems=parts,
        frames=sum(part.frames for part in parts),
        atoms=sum(part.frames * part.atoms for part in parts),
        elements=sorted({element for part in parts for element in part.elements}),
        type_map=list(dict.fromkeys(name for part in parts for name in part.type_map)),
        energy_per_atom_ev=_range([(float(e.min()), float(e.max())) for e in energies if len(e)]),
        force_ev_per_angstrom=_range([system.ranges["force"] for system in systems if "force" in system.ranges]),
        virial_per_atom_ev=_range([(v[0] / n, v[1] / n) for v, n in zip(virials, virial_counts, strict=True)]),
        distances=sampling.distances(systems),
        extra={
            "units": {"energy": "eV", "force": "eV/Å", "virial": "eV", "length": "Å"},
            "energy_per_atom_histogram": histogram(
                iter([everything]), float(everything.min()), float(everything.max())
            ),
            "force_histogram": _force_histogram(systems),
            "per_system": {
                system.name: _facts(system, energy)
                for system, energy in zip(systems[:MAX_DESCRIBED], energies, strict=False)
            },
        },
    )


def _range(pairs: list[tuple[float, float]]) -> Range | None:
    return Range(low=min(low for low, _ in pairs), high=max(high for _, high in pairs)) if pairs else None


def _facts(system: System, energies: np.ndarray[Any, Any]) -> dict[str, Any]:
    facts: dict[str, Any] = {"energy_per_atom_ev": [float(energies.min()), float(energies.max())]}
    if "force" in system.ranges:
        facts["force_ev_per_angstrom"] = list(system.ranges["force"])
    return facts


def _per_atom_energies(system: System) -> np.ndarray[Any, Any]:
    """Return energy per real atom of every frame, shape (frames,), eV."""
    energies = np.concatenate([piece for array in system.of_label("energy") for _, piece in array.pieces()])
    if not system.mixed:
        return np.asarray(energies.astype(np.float64) / system.atoms)
    types = system.of_label("real_atom_types")
    atoms = np.concatenate([(piece >= 0).sum(axis=1) for array in types for _, piece in array.pieces()])
    return np.asarray(energies.astype(np.float64) / np.maximum(atoms, 1))


def _force_histogram(systems: list[System]) -> dict[str, Any] | None:
    """Return the histogram of the length of the force on every atom, eV/Å; None without forces."""
    arrays = [array for system in systems for array in system.of_label("force")]
    if not arrays:
        return None
    high = max(float(lengths.max()) for lengths in _lengths(arrays))
    return histogram(_lengths(arrays), 0.0, high)


def _lengths(arrays: list[Any]) -> Iterator[np.ndarray[Any, Any]]:
    for array in arrays:
        for _, piece in array.pieces():
            yield np.linalg.norm(piece.reshape(-1, 3).astype(np.float64), axis=1)


def histogram(pieces: Iterator[np.ndarray[Any, Any]], low: float, high: float) -> dict[str, Any]:
    """Return `edges` (bins + 1 values) and `counts` of everything between `low` and `high`."""
    if high <= low:
        high = low + max(abs(low) * 1e-9, 1e-9)
    edges = np.linspace(low, high, HISTOGRAM_BINS + 1)
    counts = np.zeros(HISTOGRAM_BINS, dtype=np.int64)
    for piece in pieces:
        counts += np.histogram(piece, bins=edges)[0]
    return {"edges": [float(edge) for edge in edges], "counts": [int(count) for count in counts]}
