"""Taking in structures without labels: any file that ASE reads, every bit, in the order of its atoms."""

import tarfile
from pathlib import Path

import numpy as np
import pytest

from app.datasets.ingest import pack_upload
from app.engines.deepmd.structures import Structures, to_atoms
from app.errors import Invalid
from tests.app.datasets.making import tar_of

pytestmark = pytest.mark.usefixtures("unconfined")


@pytest.fixture
def take(here, store, engine):
    """Take in bytes as structures; return what was packed and the structures."""

    def take(data: bytes, name: str):
        with store.receive() as incoming:
            incoming.write(data)
            incoming.finish()
            packed = pack_upload(here, store, engine, incoming.path, name, form="structures")
        with tarfile.open(store.backend.path(packed.blob.sha256)) as archive:
            content = archive.extractfile("structures.json").read()
        return packed, Structures.model_validate_json(content).structures

    return take


def written(tmp_path: Path, name: str, images, **options) -> bytes:
    import ase.io

    ase.io.write(tmp_path / name, images, **options)
    return (tmp_path / name).read_bytes()


def test_an_atom_stays_where_it_is_to_the_last_bit_and_keeps_its_number(take, tmp_path):
    from ase import Atoms
    from ase.constraints import FixAtoms

    atoms = Atoms("HOH", positions=np.random.default_rng(0).normal(size=(3, 3)) * 3, cell=[9.1, 8, 7], pbc=True)
    atoms.set_constraint(FixAtoms([2]))
    packed, (one,) = take(written(tmp_path, "w.traj", atoms), "w.traj")
    again = to_atoms(one)
    assert (again.positions.tobytes(), again.cell.array.tobytes()) == (
        atoms.positions.tobytes(),
        atoms.cell.array.tobytes(),
    )
    assert (one.symbols, one.fixed, one.name) == (["H", "O", "H"], [2], "w")
    assert packed.summary.structures[0].formula == "H2O"
    assert packed.summary.systems == []


def test_many_files_and_many_frames_come_as_one(take, tmp_path):
    from ase.build import bulk, molecule

    water = molecule("H2O")
    root = tmp_path / "all"
    root.mkdir()
    (root / "POSCAR").write_bytes(written(tmp_path, "POSCAR", bulk("Cu", cubic=True), format="vasp"))
    (root / "path.xyz").write_bytes(written(tmp_path, "path.xyz", [water, water]))
    packed, found = take(tar_of(root), "all.tar")
    assert [one.name for one in found] == ["POSCAR", "path-0", "path-1"]
    assert [one.periodic for one in packed.summary.structures] == [True, False, False]


def test_what_cannot_be_kept_is_kept_as_findings(take, tmp_path):
    """The dataset's page says it, and so does every submission that names the structure."""
    from ase.build import fcc111
    from ase.constraints import FixAtoms, FixedPlane

    slab = fcc111("Cu", (1, 1, 3), vacuum=7.0)
    slab.set_constraint([FixAtoms([0]), FixedPlane(1, (0, 0, 1))])
    packed, (one,) = take(written(tmp_path, "slab.traj", slab), "slab.traj")
    assert (one.fixed, one.without_images, one.constraints_left_out) == ([0], ["c"], ["FixedPlane"])
    left, open_end = packed.summary.structures[0].findings
    assert (left.code, left.refused) == ("constraint-left-out", False)
    assert "the constraint FixedPlane of its file does not hold here" in left.message
    assert (open_end.code, open_end.distance) == ("partly-periodic", pytest.approx(14.0))
    assert "no images along c" in open_end.message


def test_an_overlap_is_kept_with_the_dataset(take, tmp_path):
    from ase.build import molecule

    atoms = molecule("H2")
    atoms.positions[1] = atoms.positions[0] + [0, 0, 0.34]
    packed, _ = take(written(tmp_path, "h2.xyz", atoms), "h2.xyz")
    (finding,) = packed.summary.structures[0].findings
    assert (finding.code, finding.atoms, finding.refused) == ("atoms-overlap", [0, 1], True)


@pytest.mark.parametrize(
    ("data", "name", "code", "words"),
    [
        (b"nothing that ASE knows", "x.bin", "unknown-format", "Neither ASE nor dpdata"),
        (b"2\n\nH 0 0 0\nH 0 0 nan\n", "bad.xyz", "wrong-structure", "positions of atom 1"),
        (b"1\n\nQq 0 0 0\n", "bad.xyz", "unreadable-data", "atoms of 'Qq', which is no element"),
        (b"100001\n\n" + b"H 0 0 0\n" * 100_001, "big.xyz", "wrong-structure", "has 100001 atoms, 100000 are the most"),
    ],
)
def test_what_is_no_structure_is_refused(take, data, name, code, words):
    with pytest.raises(Invalid) as caught:
        take(data, name)
    problem = caught.value.problems[0]
    assert problem.code == code
    assert words in problem.message
    assert problem.hint
    assert "energies" not in problem.hint, "structures have no labels"
