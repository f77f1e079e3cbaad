import gzip
import io
import os
import tarfile
import zipfile

import pytest

from tests.app.datasets.making import member, tar_of, tar_with, write_system, zip_of

pytestmark = pytest.mark.usefixtures("unconfined")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_every_compression_holds_the_same_dataset(pack, water, mode):
    assert pack(tar_of(water, mode), "water.bin").digest == pack(tar_of(water)).digest


def test_zip_and_zstd_hold_the_same_dataset(pack, water):
    import pyarrow

    digest = pack(tar_of(water)).digest
    assert pack(zip_of(water), "water.zip").digest == digest
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(tar_of(water))
    compressed = sink.getvalue().to_pybytes()
    assert pack(compressed, "water.tar.zst").digest == digest


def test_the_folder_around_all_systems_does_not_matter(pack, water):
    packed = pack(tar_of(water, prefix="some/where/else"))
    assert packed.digest == pack(tar_of(water)).digest
    assert [system.name for system in packed.summary.systems] == ["cold", "hot"]


def test_a_lone_system_is_named_by_its_folder(pack, tmp_path):
    write_system(tmp_path / "lone" / "copper")
    assert [s.name for s in pack(tar_of(tmp_path / "lone")).summary.systems] == ["copper"]
    assert [s.name for s in pack(tar_of(tmp_path / "lone" / "copper")).summary.systems] == ["system"]


def test_what_desktops_add_is_left_out_and_other_files_are_named(pack, water):
    (water / "__MACOSX").mkdir()
    (water / "__MACOSX" / "._x").write_bytes(b"x")
    (water / "cold" / ".DS_Store").write_bytes(b"x")
    (water / "README.md").write_bytes(b"x")
    packed = pack(tar_of(water))
    assert packed.warnings == ("Left out: 1 file that belongs to no system (README.md)",)


def test_the_stored_archive_is_sorted_timeless_and_deterministic(pack, store, water):
    first = pack(tar_of(water))
    os.utime(water / "hot" / "type.raw", (1e9, 1e9))
    assert pack(zip_of(water), "water.zip").blob == first.blob
    with tarfile.open(store.backend.path(first.blob.sha256)) as archive:
        members = archive.getmembers()
    assert [m.name for m in members] == sorted(m.name for m in members)
    assert {(m.mtime, m.uid, m.mode, m.uname) for m in members} == {(0, 0, 0o644, "")}
    assert "cold/set.001/force.npy" in [m.name for m in members]


def test_a_stored_archive_uploaded_again_is_the_same_dataset(pack, store, water):
    packed = pack(tar_of(water))
    assert pack(store.backend.path(packed.blob.sha256).read_bytes()).blob == packed.blob


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (member("../outside"), "leads out"),
        (member("a/../../outside"), "leads out"),
        (member("/etc/passwd"), "absolute"),
        (member("a\\b"), "backslash"),
        (member("C:/x"), "absolute"),
        (member("a\nb"), "unprintable"),
        (member("x" * 300), "255 bytes"),
        (member("link", tarfile.SYMTYPE, link="/etc/passwd"), "link"),
        (member("link", tarfile.LNKTYPE, link="type.raw"), "link"),
        (member("pipe", tarfile.FIFOTYPE), "device or pipe"),
        (member("tty", tarfile.CHRTYPE), "device or pipe"),
        (member("disk", tarfile.BLKTYPE), "device or pipe"),
    ],
)
def test_a_member_that_is_no_plain_file_inside_is_refused_by_name(problems, bad, words):
    (problem,) = problems(tar_with(member("type.raw"), bad))
    assert problem.code == "archive-unsafe"
    assert words in problem.message
    assert repr(bad.name).strip("'")[:40] in problem.message


def test_a_zip_cannot_lead_out_or_link_either(problems):
    for name, mode, words in (("../x", 0, "leads out"), ("/x", 0, "absolute"), ("l", 0o120777, "link")):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, "/etc/passwd")
        (problem,) = problems(buffer.getvalue(), "x.zip")
        assert problem.code == "archive-unsafe"
        assert words in problem.message


def test_a_member_that_stands_twice_is_refused(problems):
    (problem,) = problems(tar_with(member("a/type.raw"), member("a/./type.raw")))
    assert problem.code == "archive-duplicate"
    (problem,) = problems(tar_with(member("a"), member("a/b")))
    assert problem.code == "archive-duplicate"


def test_a_bomb_is_stopped_where_it_explodes(problems, here):
    here.max_dataset_bytes = 1 << 20
    zeros = tar_with(member("small"), member("bomb", size=8 << 20), content=bytes(8 << 20))
    for data in (zeros, gzip.compress(zeros)):
        (problem,) = problems(data)
        assert problem.code == "dataset-too-large"
        assert "'bomb'" in problem.message
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(8 << 20))
    (problem,) = problems(buffer.getvalue(), "bomb.zip")
    assert (problem.code, "'bomb'" in problem.message) == ("dataset-too-large", True)
    (problem,) = problems(gzip.compress(b"1\n" * (4 << 20)), "train.extxyz.gz")
    assert problem.code == "dataset-too-large"


def test_a_zip_that_lies_about_its_sizes_is_stopped_too(problems, here):
    here.max_dataset_bytes = 1 << 20
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(8 << 20))
    honest = (8 << 20).to_bytes(4, "little")
    lying = buffer.getvalue().replace(honest, (100).to_bytes(4, "little"))
    (problem,) = problems(lying, "bomb.zip")
    assert problem.code in ("dataset-too-large", "archive-truncated")


def test_too_many_members_are_refused(problems, monkeypatch):
    monkeypatch.setattr("app.datasets.ingest.MAX_MEMBERS", 10)
    (problem,) = problems(tar_with(*(member(f"file-{number}") for number in range(11))))
    assert problem.code == "archive-too-many-members"
    assert "'file-10'" in problem.message


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_truncated_archive_says_so(problems, water, mode):
    data = tar_of(water, mode)
    for length in (len(data) // 2, len(data) // 3):
        found = problems(data[: length - length % 512 + 100], "water.tar")
        assert found[0].code == "archive-truncated", found


def test_a_truncated_zip_says_so(problems, water):
    found = problems(zip_of(water)[:-30], "water.zip")
    assert found[0].code == "archive-truncated"


def test_an_encrypted_zip_is_refused(problems, tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("type.raw", "0")
    data = bytearray(buffer.getvalue())
    data[6] |= 1
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    (problem,) = problems(bytes(data), "secret.zip")
    assert (problem.code, "password" in problem.hint) == ("archive-encrypted", True)


def test_an_archive_of_other_things_names_what_it_holds(problems):
    (problem,) = problems(tar_with(member("notes/a.txt"), member("b.pdf")))
    assert problem.code == "no-systems"
    assert "b.pdf, notes/a.txt" in problem.message
    assert "type.raw" in problem.hint


def test_nonsense_is_refused(problems):
    for data in (b"", b"\0" * 1000, b"hello", os.urandom(5000), b"\x1f\x8bnonsense", b"PK\x03\x04nonsense"):
        (problem,) = problems(data, "thing")
        assert problem.code in ("unknown-format", "unreadable-data", "archive-truncated"), problem
