"""Make the copper dataset of this example: MD and strained cells with ASE's EMT potential, as deepmd/npy systems.

    python generate.py OUTPUT_DIRECTORY

Seeded, so the same versions of ASE and NumPy give the same files. An output directory that is already complete is left
as it is. Takes about ten seconds. Energies in eV, forces in eV/Å, virials in eV.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import ase
import dpdata
import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.md.langevin import Langevin

LATTICE_CONSTANT = 3.61
"""Of fcc copper, in Å."""

REPEAT = (2, 2, 2)
"""Conventional cells: 32 atoms."""

MD_SYSTEMS = {"md-300K": 300.0, "md-600K": 600.0, "md-1000K": 1000.0, "held-out-800K": 800.0}
STRAINED_SYSTEMS = {"strained": 11, "held-out-strained": 12}
FRAMES = {
    "md-300K": 60,
    "md-600K": 80,
    "md-1000K": 120,
    "strained": 140,
    "held-out-800K": 30,
    "held-out-strained": 30,
}
SEED = 20
COMPLETE = "generated.json"
"""Written last: says what made the files."""


def supercell(scale: float = 1.0) -> Atoms:
    """Return perfect fcc copper, its lattice constant scaled."""
    return bulk("Cu", "fcc", a=LATTICE_CONSTANT * scale, cubic=True) * REPEAT


def molecular_dynamics(kelvin: float, frames: int, rng: np.random.Generator) -> Iterator[Atoms]:
    """Yield frames of a Langevin run, 50 fs apart, in a cell expanded as copper does at that temperature."""
    atoms = supercell(1 + 1.7e-5 * (kelvin - 300))
    atoms.calc = EMT()
    width = np.sqrt(atoms.get_masses() * units.kB * kelvin)  # of the Maxwell-Boltzmann distribution of momenta
    atoms.set_momenta(rng.normal(size=(len(atoms), 3)) * width[:, None])
    dynamics = Langevin(atoms, 5 * units.fs, temperature_K=kelvin, friction=0.02 / units.fs, fixcm=False, rng=rng)
    dynamics.run(60)
    for _ in range(frames):
        dynamics.run(10)
        yield atoms


def strained_cells(frames: int, rng: np.random.Generator) -> Iterator[Atoms]:
    """Yield cells under random strain (up to 3 % per component) with atoms displaced by about 0.1 Å."""
    for _ in range(frames):
        strain = rng.uniform(-0.03, 0.03, (3, 3))
        atoms = supercell()
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
        atoms.positions += rng.normal(0, rng.uniform(0.02, 0.1), atoms.positions.shape)
        atoms.calc = EMT()
        yield atoms


def labelled(frames: Iterator[Atoms]) -> dpdata.LabeledSystem:
    """Return the frames with energies, forces and virials (minus volume times stress)."""
    records = [
        (
            atoms.cell.array.copy(),
            atoms.positions.copy(),
            atoms.get_potential_energy(),
            atoms.get_forces().copy(),
            -atoms.get_volume() * atoms.get_stress(voigt=False),
        )
        for atoms in frames
    ]
    cells, coords, energies, forces, virials = (np.array(column) for column in zip(*records, strict=True))
    count = coords.shape[1]
    return dpdata.LabeledSystem(
        data={
            "atom_names": ["Cu"],
            "atom_numbs": [count],
            "atom_types": np.zeros(count, dtype=int),
            "orig": np.zeros(3),
            "cells": cells,
            "coords": coords,
            "energies": energies,
            "forces": forces,
            "virials": virials,
        }
    )


def recipe() -> dict[str, object]:
    """Return all that the files depend on."""
    return {"seed": SEED, "frames": FRAMES, "ase": ase.__version__, "numpy": np.__version__}


def is_complete(directory: Path) -> bool:
    """Return whether this script, in these versions, has already filled the directory."""
    marker = directory / COMPLETE
    return marker.is_file() and json.loads(marker.read_text()) == recipe()


def generate(directory: Path) -> None:
    """Write every system below `directory`, replacing earlier ones of the same name."""
    for index, name in enumerate(FRAMES):
        rng = np.random.default_rng([SEED, index])
        if name in MD_SYSTEMS:
            frames = molecular_dynamics(MD_SYSTEMS[name], FRAMES[name], rng)
        else:
            frames = strained_cells(FRAMES[name], rng)
        target = directory / name
        shutil.rmtree(target, ignore_errors=True)
        labelled(frames).to("deepmd/npy", str(target), set_size=FRAMES[name], prec=np.float64)
        print(f"{name}: {FRAMES[name]} frames of 32 atoms")
    (directory / COMPLETE).write_text(json.dumps(recipe()))


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    directory = parser.parse_args().directory
    if is_complete(directory):
        print(f"{directory} is already complete")
        return 0
    directory.mkdir(parents=True, exist_ok=True)
    generate(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
