import gzip
import io
import tarfile

import numpy as np
import pytest

from tests.app.datasets.making import tar_of, write_system

pytestmark = pytest.mark.usefixtures("unconfined")

CELL = [[4.0, 0.0, 0.0], [0.5, 5.0, 0.0], [0.0, 0.3, 6.0]]
VOLUME = 120.0


def load(store, packed, name: str):
    with tarfile.open(store.backend.path(packed.blob.sha256)) as archive:
        data = archive.extractfile(name).read()
    return np.load(io.BytesIO(data)) if name.endswith(".npy") else data.decode().split()


def extxyz(*frames) -> bytes:
    import ase.io

    buffer = io.StringIO()
    ase.io.write(buffer, frames, format="extxyz")
    return buffer.getvalue().encode()


def atoms(symbols="HO", pbc=True, positions=None, **results):
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator

    positions = [[0.1 * i, 0.2, 0.3] for i in range(1, 3)] if positions is None else positions
    made = Atoms(symbols, positions=positions, cell=CELL if pbc else None, pbc=pbc)
    made.calc = SinglePointCalculator(made, **{"energy": -1.5, "forces": np.eye(3)[:2], **results})
    return made


def test_virial_is_minus_stress_times_volume(pack, store):
    # eV/Å³, in Voigt's order xx yy zz yz xz xy; by hand: virial_xy = -0.006 eV/Å³ × 120 Å³ = -0.72 eV
    stress = [0.001, 0.002, 0.003, 0.004, 0.005, 0.006]
    packed = pack(extxyz(atoms(stress=stress)), "one.extxyz")
    virial = load(store, packed, "H1O1/set.000/virial.npy").reshape(3, 3)
    expected = [[-0.12, -0.72, -0.60], [-0.72, -0.24, -0.48], [-0.60, -0.48, -0.36]]
    np.testing.assert_allclose(virial, expected, rtol=1e-12)
    assert packed.summary.systems[0].labels == ["energy", "force", "virial"]


def test_virial_is_minus_the_energys_derivative_by_strain(pack, store):
    from ase.build import bulk
    from ase.calculators.emt import EMT

    copper = bulk("Cu", cubic=True)
    copper.set_cell(copper.cell * 0.97, scale_atoms=True)  # compressed: it pushes outwards, so the virial is positive
    copper.rattle(0.05, seed=1)
    copper.calc = EMT()
    copper.get_stress()
    packed = pack(extxyz(copper), "cu.extxyz")
    virial = load(store, packed, "Cu4/set.000/virial.npy").reshape(3, 3)
    step = 1e-5

    def energy(strain):
        strained = copper.copy()
        strained.set_cell(copper.cell @ (np.eye(3) + strain), scale_atoms=True)
        strained.calc = EMT()
        return strained.get_potential_energy()

    for i, j in ((0, 0), (1, 1), (0, 1), (1, 2)):
        strain = np.zeros((3, 3))
        strain[i, j] = step
        by_hand = -(energy(strain) - energy(-strain)) / (2 * step)
        assert virial[i, j] == pytest.approx(by_hand, abs=1e-4)
    assert virial[0, 0] > 1


def test_a_virial_given_as_such_is_taken_as_it_is(pack, store):
    frame = atoms()
    frame.info["virial"] = np.arange(9.0).reshape(3, 3)
    packed = pack(extxyz(frame), "one.extxyz")
    np.testing.assert_allclose(load(store, packed, "H1O1/set.000/virial.npy").ravel(), np.arange(9.0))


def test_without_stress_there_is_no_virial(pack):
    assert pack(extxyz(atoms()), "one.extxyz").summary.systems[0].labels == ["energy", "force"]


def test_molecules_have_neither_cell_nor_virial(pack, store):
    packed = pack(extxyz(atoms(pbc=False)), "one.extxyz")
    (system,) = packed.summary.systems
    assert (system.periodic, system.labels) == (False, ["energy", "force"])
    assert load(store, packed, "H1O1/nopbc") == []


def test_frames_of_one_composition_share_a_system_whatever_their_order(pack, store):
    one = atoms("HO", positions=[[1, 0, 0], [2, 0, 0]], forces=[[1, 0, 0], [2, 0, 0]], energy=-1.0)
    two = atoms("OH", positions=[[3, 0, 0], [4, 0, 0]], forces=[[3, 0, 0], [4, 0, 0]], energy=-2.0)
    packed = pack(extxyz(one, atoms("HH"), two), "mixed.extxyz")
    assert {system.name: system.frames for system in packed.summary.systems} == {"H1O1": 2, "H2": 1}
    assert load(store, packed, "H1O1/type.raw") == ["0", "1"]
    assert load(store, packed, "H1O1/type_map.raw") == ["H", "O"]
    np.testing.assert_array_equal(load(store, packed, "H1O1/set.000/coord.npy")[:, [0, 3]], [[1, 2], [4, 3]])
    np.testing.assert_array_equal(load(store, packed, "H1O1/set.000/force.npy")[:, [0, 3]], [[1, 2], [4, 3]])
    np.testing.assert_array_equal(load(store, packed, "H1O1/set.000/energy.npy"), [-1.0, -2.0])


def test_frames_with_other_labels_are_systems_of_their_own(pack):
    packed = pack(extxyz(atoms(), atoms(stress=[0.0] * 6)), "mixed.extxyz")
    assert {system.name: system.labels for system in packed.summary.systems} == {
        "H1O1": ["energy", "force"],
        "H1O1-2": ["energy", "force", "virial"],
    }


def test_an_ase_trajectory_is_bit_for_bit_what_it_was(pack, store, tmp_path):
    import ase.io

    frames = [
        atoms(energy=1 / 3 + index, forces=np.random.default_rng(index).normal(size=(2, 3))) for index in range(5)
    ]
    ase.io.write(tmp_path / "md.traj", frames)
    packed = pack((tmp_path / "md.traj").read_bytes(), "md.traj")
    np.testing.assert_array_equal(load(store, packed, "H1O1/set.000/energy.npy"), [1 / 3 + index for index in range(5)])
    expected = [frame.get_forces().ravel() for frame in frames]
    np.testing.assert_array_equal(load(store, packed, "H1O1/set.000/force.npy"), expected)


def test_a_compressed_file_is_what_is_in_it(pack):
    data = extxyz(atoms())
    assert pack(gzip.compress(data), "train.extxyz.gz").digest == pack(data, "train.extxyz").digest


def test_the_free_energy_goes_with_the_forces(pack, store):
    packed = pack(extxyz(atoms(energy=-1.0, free_energy=-1.25)), "one.extxyz")
    assert load(store, packed, "H1O1/set.000/energy.npy") == [-1.25]
    assert "free energy is taken" in packed.warnings[0]


def test_long_trajectories_are_written_in_several_sets(monkeypatch, tmp_path):
    from app.engines.deepmd.intake import frames

    monkeypatch.setattr(frames, "BUFFERED_BYTES", 1_000)
    writer = frames.FrameWriter(tmp_path)
    for index in range(50):
        writer.add(frames.Frame(("H", "O"), np.full((2, 3), float(index)), float(index), cell=np.eye(3)))
    assert writer.finish() == 1
    sets = sorted(path.name for path in (tmp_path / "H1O1").glob("set.*"))
    assert sets == [f"set.{number:03d}" for number in range(7)]
    energies = np.concatenate([np.load(tmp_path / "H1O1" / name / "energy.npy") for name in sets])
    np.testing.assert_array_equal(energies, np.arange(50.0))


def test_a_missing_energy_is_named_with_what_is_there_instead(problems):
    from ase import Atoms

    frame = Atoms("HO", positions=np.eye(3)[:2], cell=CELL, pbc=True, info={"REF_energy": -1.0})
    frame.arrays["REF_forces"] = np.zeros((2, 3))
    found = problems(extxyz(atoms(), frame, frame), "labels.extxyz")
    assert [problem.code for problem in found] == ["no-energy"] * 2
    assert "labels.extxyz, frame 1" in found[0].message
    assert "REF_energy, REF_forces" in found[0].message
    assert "`energy`" in found[0].hint


def test_a_broken_text_is_named(problems):
    data = extxyz(atoms()).decode()
    (problem,) = problems(data[: len(data) // 2].encode(), "half.extxyz")
    assert problem.code in ("unreadable-data", "no-energy")
    assert "half.extxyz" in problem.message


def test_a_structure_without_labels_is_no_data_set(problems, tmp_path):
    from ase.build import bulk
    from ase.io import write

    write(tmp_path / "POSCAR", bulk("Cu"), format="vasp")
    (problem,) = problems((tmp_path / "POSCAR").read_bytes(), "POSCAR")
    assert problem.code == "no-energy"


def test_not_finite_labels_are_found_after_conversion_too(problems):
    (problem,) = problems(extxyz(atoms(forces=[[0, 0, 0], [0, np.nan, 0]])), "nan.extxyz")
    assert problem.code == "not-finite"
    assert "frame 0, atom 1, component y is nan" in problem.message


OUTCAR = """ vasp.6.3.0 20Jan22 complex
   TITEL  = PAW_PBE H 15Jun2001
   TITEL  = PAW_PBE O 08Apr2002
   NELM   =     60
   NWRITE =      2
   ions per type =               1   1
{steps}"""

STEP = """----------------------------------------- Iteration    {step}(   {cycles})  ---------------------------------------
  FORCE on cell =-STRESS in cart. coord.  units (eV):
  Direction    XX          YY          ZZ          XY          YZ          ZX
  --------------------------------------------------------------------------------------
  Alpha Z    1.0  1.0  1.0
  Ewald      1.0  1.0  1.0  0.0  0.0  0.0
  Hartree    1.0  1.0  1.0  0.0  0.0  0.0
  E(xc)      1.0  1.0  1.0  0.0  0.0  0.0
  Local      1.0  1.0  1.0  0.0  0.0  0.0
  n-local    1.0  1.0  1.0  0.0  0.0  0.0
  augment    1.0  1.0  1.0  0.0  0.0  0.0
  Kinetic    1.0  1.0  1.0  0.0  0.0  0.0
  Fock       0.0  0.0  0.0  0.0  0.0  0.0
  -------------------------------------------------------------------------------------
  Total      9.0  9.0  9.0  0.0  0.0  0.0
  in kB       100.00000   200.00000   300.00000    10.00000    20.00000    30.00000
 VOLUME and BASIS-vectors are now :
 -----------------------------------------------------------------------------
  energy-cutoff  :      400.00
  volume of cell :      120.00
      direct lattice vectors                 reciprocal lattice vectors
     4.000000000  0.000000000  0.000000000     0.25  0.0  0.0
     0.000000000  5.000000000  0.000000000     0.0  0.2  0.0
     0.000000000  0.000000000  6.000000000     0.0  0.0  0.16
 POSITION                                       TOTAL-FORCE (eV/Angst)
 -----------------------------------------------------------------------------------
      0.10000      0.20000      0.30000         0.010000      0.020000      0.030000
      1.10000      1.20000      1.30000        -0.010000     -0.020000     -0.030000
  free  energy   TOTEN  =       -{energy} eV
"""


def outcar(*steps: tuple[int, float]) -> bytes:
    made = [STEP.format(step=index + 1, cycles=cycles, energy=energy) for index, (cycles, energy) in enumerate(steps)]
    return OUTCAR.format(steps="".join(made)).encode()


def test_an_outcar_is_read_as_the_field_reads_it(pack, store):
    packed = pack(outcar((10, 12.5), (11, 12.25)), "OUTCAR")
    (system,) = packed.summary.systems
    assert (system.name, system.frames, system.labels) == ("H1O1", 2, ["energy", "force", "virial"])
    np.testing.assert_array_equal(load(store, packed, "H1O1/set.000/energy.npy"), [-12.5, -12.25])
    # kB × Å³ / 1602.176621 = eV; VASP prints pressures, positive under compression: the virial's sign
    virial = load(store, packed, "H1O1/set.000/virial.npy")[0].reshape(3, 3)
    expected = np.array([[100, 10, 30], [10, 200, 20], [30, 20, 300]]) * 120 / 1602.176621
    np.testing.assert_allclose(virial, expected, rtol=1e-9)


def test_frames_that_did_not_converge_are_left_out_aloud(pack):
    packed = pack(outcar((10, 12.5), (60, 12.25)), "OUTCAR")
    assert packed.summary.frames == 1
    assert "unconverged: [2]" in packed.warnings[0]


def test_hdf5_holds_the_same_dataset_as_directories(pack, tmp_path):
    import dpdata

    write_system(tmp_path / "u" / "sys", types="0\n0\n0\n1\n")
    dpdata.LabeledSystem(str(tmp_path / "u" / "sys"), fmt="deepmd/npy").to("deepmd/hdf5", str(tmp_path / "x.hdf5"))
    system = dpdata.LabeledSystem(str(tmp_path / "u" / "sys"), fmt="deepmd/npy")
    system.to("deepmd/npy", str(tmp_path / "v" / "sys"))
    first = pack((tmp_path / "x.hdf5").read_bytes(), "x.hdf5").summary
    second = pack(tar_of(tmp_path / "v")).summary
    but = {"systems", "distances", "extra"}
    assert first.model_dump(exclude=but) == second.model_dump(exclude=but)
    assert list(first.distances.values()) == list(second.distances.values())


def test_hdf5_cannot_reach_out(problems, tmp_path):
    import h5py

    secret = tmp_path / "secret.bin"
    secret.write_bytes(b"x" * 800)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("sys/set.000/energy.npy", (100,), "f8", external=[(str(secret), 0, 800)])
        file["sys/type.raw"] = [0]
    (problem,) = problems((tmp_path / "x.h5").read_bytes(), "x.h5")
    assert problem.code == "archive-unsafe"
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file["sys"] = h5py.ExternalLink("x.h5", "sys")
    (problem,) = problems((tmp_path / "y.h5").read_bytes(), "y.h5")
    assert problem.code == "no-systems"
