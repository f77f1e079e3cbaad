"""Datasets from the command line, against a real server."""

import tarfile
from pathlib import Path

import pytest

from app.cli.data import default_name
from tests.app.cli.conftest import Cairn


def test_a_directory_is_packed_on_the_way(cairn: Cairn, systems: Path) -> None:
    done = cairn("dataset", "add", systems, "--name", "packed")
    assert done.code == 0, done.err
    assert "dataset:packed@1" in done.out
    assert "Cu" in done.out
    assert "4 in 1 systems" in done.out


def test_an_archive_holds_the_same_content_as_the_directory(cairn: Cairn, systems: Path, tmp_path: Path) -> None:
    archive = tmp_path / "Copper Data.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(systems, arcname=".")
    first = cairn("dataset", "add", archive, "--json").json
    assert (first["name"], first["version"]) == ("copper-data", 1)
    again = cairn("dataset", "add", systems, "--name", "copper-data", "--json").json
    assert (again["version"], again["digest"]) == (1, first["digest"])


def test_text_is_told_by_its_name_and_described(cairn: Cairn, tmp_path: Path) -> None:
    file = tmp_path / "Stories.jsonl"
    file.write_text('{"text": "Once"}\n{"text": "upon a time"}\n')
    done = cairn("dataset", "add", file)
    assert done.code == 0, done.err
    assert 'In a config: "data": {"train": ["dataset:stories@1"]}' in done.out
    assert "Stories.jsonl" in done.out
    assert "2 documents" in cairn("dataset", "ls", "--name", "stories").out
    file.write_text('{"text": ""}\n')
    refused = cairn("dataset", "add", file)
    assert refused.code != 0
    assert "Stories.jsonl, line 1" in refused.err


def test_links_are_packed_as_what_they_point_to(cairn: Cairn, systems: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "md").mkdir()
    for path in (systems / "md").iterdir():
        target = linked / "md" / path.name
        if path.is_dir():
            target.mkdir()
            for file in path.iterdir():
                (target / file.name).symlink_to(file)
        else:
            target.symlink_to(path)
    assert cairn("dataset", "add", linked, "--name", "linked", "--json").json["summary"]["frames"] == 4


def test_datasets_are_listed_and_shown(cairn: Cairn, copper: str) -> None:
    listed = cairn("dataset", "ls", "--name", "copper", "--json").json
    assert "copper" in [each["name"] for each in listed]
    shown = cairn("dataset", "ls").out
    assert "copper@1" in shown
    assert "Cu in 1 systems" in " ".join(shown.split())
    for reference in ("copper", "copper@1", "dataset:copper@1"):
        assert "md" in cairn("dataset", "show", reference).out
    assert "No datasets" in cairn("dataset", "ls", "--name", "unused").out


def test_what_does_not_exist_is_named(cairn: Cairn, copper: str, tmp_path: Path) -> None:
    missing = cairn("dataset", "show", "copper@99")
    assert missing.code == 1
    assert "copper@99" in missing.err
    assert cairn("dataset", "add", tmp_path / "none").code == 2


def test_data_that_is_wrong_is_refused_with_its_place(cairn: Cairn, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")
    done = cairn("dataset", "add", tmp_path / "notes.txt")
    assert done.code == 1
    assert done.err.startswith("error")
    assert cairn("dataset", "ls", "--name", "notes", "--json").json == []


def test_a_directory_of_the_server_needs_a_configured_root(cairn: Cairn, systems: Path) -> None:
    done = cairn("dataset", "add", systems, "--name", "copper", "--on-server")
    assert done.code in (1, 4)
    assert "CAIRN_DATASET_ROOTS" in done.err


@pytest.mark.parametrize("name", ["Water", "with space", "-dash", "x" * 64])
def test_a_name_that_cannot_be_is_refused_before_anything_is_sent(bare: Cairn, systems: Path, name: str) -> None:
    done = bare("dataset", "add", systems, f"--name={name}")
    assert done.code == 2
    assert "is no name for a dataset" in done.err


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/data/Water 300K.tar.gz", "water-300k"),
        ("md.extxyz", "md"),
        ("/data/copper/", "copper"),
        ("OUTCAR", "outcar"),
        ("H2O_PBE.zip", "h2o_pbe"),
    ],
)
def test_a_name_is_made_of_the_files(path: str, name: str) -> None:
    assert default_name(path) == name
