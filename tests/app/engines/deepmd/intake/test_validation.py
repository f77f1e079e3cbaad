import numpy as np
import pytest

from tests.app.datasets.making import ATOMS, FRAMES, arrays, tar_of, write_system

pytestmark = pytest.mark.usefixtures("unconfined")


@pytest.fixture
def one(tmp_path):
    """Write one system with options and return its archive."""

    def one(name: str = "sys", **options) -> bytes:
        write_system(tmp_path / "upload" / name, **options)
        return tar_of(tmp_path / "upload")

    return one


def spoil(name: str, index, value):
    def change(content):
        content[name][index] = value

    return change


def replace(name: str, array):
    def change(content):
        content[name] = array

    return change


def drop(name: str):
    return lambda content: content.pop(name)


def test_the_summary_says_what_is_in_it(pack, one):
    summary = pack(one(sets=2)).summary
    (system,) = summary.systems
    assert (system.name, system.atoms, system.frames) == ("sys", ATOMS, 2 * FRAMES)
    assert system.elements == {"O": 3, "H": 1}
    assert system.labels == ["energy", "force", "virial"]
    assert system.sets == ["set.000", "set.001"]
    assert (system.periodic, system.mixed_type) == (True, False)
    assert (summary.frames, summary.atoms, summary.type_map) == (12, 48, ["O", "H"])
    energies = np.concatenate([arrays(seed=seed)["energy"] for seed in (0, 1)]) / ATOMS
    assert summary.energy_per_atom_ev.low == pytest.approx(energies.min(), rel=1e-15)
    assert summary.energy_per_atom_ev.high == pytest.approx(energies.max(), rel=1e-15)
    forces = np.concatenate([arrays(seed=seed)["force"] for seed in (0, 1)])
    assert (summary.force_ev_per_angstrom.low, summary.force_ev_per_angstrom.high) == (forces.min(), forces.max())
    histogram = summary.extra["energy_per_atom_histogram"]
    assert sum(histogram["counts"]) == 12
    assert len(histogram["edges"]) == len(histogram["counts"]) + 1
    assert sum(summary.extra["force_histogram"]["counts"]) == 48


def test_equal_content_has_one_digest_and_other_content_another(pack, one, tmp_path):
    first = pack(one()).digest
    write_system(tmp_path / "again" / "sys", change=lambda content: content.update(energy=content["energy"][:, None]))
    assert pack(tar_of(tmp_path / "again")).digest == first
    write_system(tmp_path / "other" / "sys", change=spoil("energy", 0, -3.0))
    assert pack(tar_of(tmp_path / "other")).digest != first
    write_system(tmp_path / "renamed" / "sys2")
    assert pack(tar_of(tmp_path / "renamed")).digest != first


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ({"types": "0\n0\n2\n0\n"}, "type-out-of-range", "sys/type.raw: atom 2 has type 2"),
        ({"types": "0\n0\n-1\n0\n"}, "type-out-of-range", "atom 2 has type -1"),
        ({"types": "O\nO\nH\nO\n"}, "wrong-types", "sys/type.raw"),
        ({"types": ""}, "wrong-types", "0 atoms"),
        ({"type_map": None}, "no-type-map", "sys/type_map.raw is missing"),
        ({"type_map": "O H O"}, "duplicate-type", "names O twice"),
        ({"sets": 0}, "no-sets", "sys: there is no set.000"),
        ({"change": drop("coord")}, "no-coord", "sys/set.000/coord.npy is missing"),
        ({"change": drop("energy")}, "no-energy", "sys/set.000/energy.npy is missing"),
        ({"change": drop("box")}, "no-box", "sys/set.000/box.npy is missing"),
        ({"change": replace("coord", np.zeros((6, 11)))}, "wrong-shape", "sys/set.000/coord.npy has shape (6, 11)"),
        ({"change": replace("force", np.zeros((6, 4, 2)))}, "wrong-shape", "three force components of 4 atoms"),
        ({"change": replace("energy", np.zeros((6, 4)))}, "wrong-shape", "one energy"),
        ({"change": replace("energy", np.zeros(5))}, "wrong-frames", "energy.npy has 5 frames"),
        ({"change": replace("virial", np.zeros((7, 9)))}, "wrong-frames", "virial.npy has 7 frames"),
        ({"change": replace("energy", np.float64(3.0))}, "wrong-shape", "shape ()"),
        ({"change": replace("energy", np.array(["a"] * 6))}, "not-numeric", "<U1"),
        ({"change": replace("energy", np.zeros(6, complex))}, "not-numeric", "complex128"),
        ({"change": replace("fparam", np.float64(3.0))}, "wrong-shape", "fparam.npy is a single number"),
        (
            {"change": spoil("force", (3, 2 * 3 + 1), np.nan)},
            "not-finite",
            "sys/set.000/force.npy: frame 3, atom 2, component y is nan",
        ),
        ({"change": spoil("coord", (5, 0), np.inf)}, "not-finite", "coord.npy: frame 5, atom 0, component x is inf"),
        ({"change": spoil("energy", 4, -np.inf)}, "not-finite", "energy.npy: frame 4 is -inf"),
        ({"change": spoil("virial", (0, 8), np.nan)}, "not-finite", "virial.npy: frame 0, value 8 is nan"),
        ({"change": spoil("box", 2, 0.0)}, "flat-cell", "the cell of frame 2 has a volume of 0 Å³"),
        ({"change": spoil("box", (1, slice(3, 6)), [8, 1e-9, 0])}, "flat-cell", "the cell of frame 1"),
    ],
)
def test_a_mistake_is_named_with_its_place(problems, one, options, code, words):
    found = problems(one(**options))
    assert found[0].code == code
    assert words in found[0].message


def test_no_frames_are_a_mistake(problems, one):
    empty = {name: array[:0] for name, array in arrays().items()}
    found = problems(one(change=lambda content: content.update(empty)))
    assert found[0].code == "no-frames"


def test_sets_must_hold_the_same_labels(problems, one):
    (problem,) = problems(one(sets=2, change=drop("virial")))
    assert problem.code == "uneven-sets"
    assert "sys/set.001 has no virial.npy" in problem.message


def test_all_mistakes_are_collected(problems, tmp_path):
    write_system(tmp_path / "u" / "a", types="0\n0\n9\n0\n")
    write_system(tmp_path / "u" / "b", change=spoil("force", (0, 0), np.nan))
    write_system(tmp_path / "u" / "c", change=drop("energy"))
    (tmp_path / "u" / "d" / "set.000").mkdir(parents=True)
    (tmp_path / "u" / "d" / "set.000" / "coord.npy").write_bytes(b"")
    assert {problem.code for problem in problems(tar_of(tmp_path / "u"))} == {
        "type-out-of-range",
        "not-finite",
        "no-energy",
        "no-types",
    }


def test_many_equal_mistakes_are_counted(problems, one, tmp_path):
    found = problems(one(change=spoil("force", slice(None), np.nan)))
    assert len(found) == 4
    assert f"{FRAMES * ATOMS * 3} values are not finite" in found[3].message
    for number in range(80):
        write_system(tmp_path / "many" / f"s{number}", change=drop("energy"))
    found = problems(tar_of(tmp_path / "many"))
    assert len(found) == 50
    assert "31 more problems" in found[-1].message


def test_a_truncated_or_foreign_npy_is_named(problems, tmp_path):
    root = write_system(tmp_path / "u" / "sys")
    path = root / "set.000" / "force.npy"
    whole = path.read_bytes()
    for content in (whole[:-8], whole[:20], b"", b"not an array", b"PK\x03\x04"):
        path.write_bytes(content)
        found = problems(tar_of(tmp_path / "u"))
        assert found[0].code == "not-npy", content
        assert "sys/set.000/force.npy" in found[0].message


def test_a_system_inside_a_system_is_refused(problems, tmp_path):
    write_system(tmp_path / "u" / "outer")
    write_system(tmp_path / "u" / "outer" / "inner")
    (problem,) = problems(tar_of(tmp_path / "u"))
    assert (problem.code, "outer/inner" in problem.message) == ("nested-system", True)


def test_raw_files_come_with_advice(problems, tmp_path):
    root = write_system(tmp_path / "u" / "sys", sets=0)
    (root / "coord.raw").write_text("0 0 0\n")
    (problem,) = problems(tar_of(tmp_path / "u"))
    assert "deepmd/raw" in problem.hint


def test_elements_can_be_given_where_the_archive_has_none(pack, one):
    assert pack(one(type_map=None), type_map=["Cu", "Au"]).summary.systems[0].elements == {"Cu": 3, "Au": 1}


def test_molecules_need_no_cell(pack, one, tmp_path):
    root = write_system(tmp_path / "u" / "molecule", change=drop("box"))
    (root / "nopbc").touch()
    packed = pack(tar_of(tmp_path / "u"))
    assert packed.summary.systems[0].periodic is False


def test_data_without_forces_is_taken_with_a_warning(pack, one):
    packed = pack(one(change=drop("force")))
    assert packed.summary.systems[0].labels == ["energy", "virial"]
    assert packed.summary.force_ev_per_angstrom is None
    assert packed.warnings == ("sys: there are no forces; a model can be trained on energies only.",)


def test_other_labels_are_kept(pack, one, store):
    packed = pack(one(change=replace("fparam", np.arange(FRAMES * 2.0).reshape(FRAMES, 2))))
    assert packed.summary.systems[0].labels == ["energy", "force", "virial", "fparam"]


def test_mixed_types_are_checked_frame_by_frame(pack, problems, one, tmp_path):
    kinds = np.array([[0, 1, 1, -1]] * FRAMES)
    packed = pack(one(types="0\n" * 4, change=replace("real_atom_types", kinds)))
    (system,) = packed.summary.systems
    assert system.mixed_type
    assert system.elements == {"O": FRAMES, "H": 2 * FRAMES}
    energies = arrays()["energy"] / 3  # padding is no atom
    assert packed.summary.energy_per_atom_ev.low == pytest.approx(energies.min())


def test_a_mixed_type_out_of_range_is_refused(problems, one):
    (problem,) = problems(one(types="0\n" * 4, change=replace("real_atom_types", np.full((FRAMES, 4), 2))))
    assert (problem.code, "2 to 2" in problem.message) == ("type-out-of-range", True)


@pytest.mark.parametrize(
    ("dtype", "stored"), [("<f4", "<f4"), ("<f8", "<f8"), (">f8", "<f8"), ("<f2", "<f8"), ("<i4", "<f8")]
)
def test_numbers_are_stored_little_endian_and_no_less_precise(pack, store, tmp_path, dtype, stored):
    import io
    import tarfile

    box = np.asfortranarray(np.tile(np.eye(3) * 8, (FRAMES, 1, 1)).astype(dtype))
    write_system(tmp_path / "u" / "sys", change=replace("box", box))
    packed = pack(tar_of(tmp_path / "u"))
    with tarfile.open(store.backend.path(packed.blob.sha256)) as archive:
        found = np.load(io.BytesIO(archive.extractfile("sys/set.000/box.npy").read()))
    assert (found.dtype.str, found.shape, found.flags.c_contiguous) == (stored, (FRAMES, 9), True)
    np.testing.assert_array_equal(found, np.tile(np.eye(3).ravel() * 8, (FRAMES, 1)))


def test_stock_deepmd_reads_what_is_stored(pack, store, tmp_path, one):
    import tarfile

    from deepmd.utils.data import DeepmdData

    packed = pack(one(sets=2))
    with tarfile.open(store.backend.path(packed.blob.sha256)) as archive:
        archive.extractall(tmp_path / "worker", filter="data")
    data = DeepmdData(str(tmp_path / "worker" / "sys"), type_map=["H", "O"], sort_atoms=False)
    data.add("energy", 1, atomic=False, must=True, high_prec=True)
    data.add("force", 3, atomic=True, must=True)
    assert (data.get_natoms(), data.get_numb_set(), data.pbc) == (ATOMS, 2, True)
    frame = data.get_item_torch(FRAMES + 1)
    assert frame["atype"].tolist() == [1, 1, 0, 1]
    np.testing.assert_allclose(frame["force"].ravel(), arrays(seed=1)["force"][1], rtol=1e-6)
    np.testing.assert_allclose(frame["energy"], arrays(seed=1)["energy"][1])
