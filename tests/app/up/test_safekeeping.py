"""`cairn backup`, `restore` and `upgrade` as commands: exit codes, words, and data that are still there."""

import json
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import text

import migrations
from app.artifacts.store import open_store
from app.db import make_engine
from app.settings import Settings
from app.up import safekeeping
from app.up.house import locked, make_data_dir


@pytest.fixture
def data_dir(tmp_path: Path, sqlite_template: Path, monkeypatch) -> Path:
    """A data directory with a database of this version and one stored file."""
    for name in ("CAIRN_DATABASE_URL", "CAIRN_BLOB_URL", "CAIRN_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    data_dir = tmp_path / "data"
    make_data_dir(data_dir)
    (data_dir / "cairn.db").write_bytes(sqlite_template.read_bytes())
    settings = Settings(data_dir=data_dir)
    digests = open_store(settings).keep_bytes(b"weights")
    engine = make_engine(settings.effective_database_url)
    with engine.begin() as connection:
        values = {"sha256": digests.sha256, "md5": digests.md5, "size": digests.size, "at": "2026-01-01 00:00:00"}
        connection.execute(text("INSERT INTO blobs (sha256, md5, size, created_at) VALUES (:sha256, :md5, :size, :at)"), values)  # fmt: skip
    engine.dispose()
    return data_dir


def test_back_and_forth(data_dir, tmp_path, capsys):
    assert safekeeping.backup(tmp_path / "backup", data_dir=data_dir) == 0
    assert safekeeping.restore(tmp_path / "backup", data_dir=tmp_path / "new", as_json=True) == 0
    assert json.loads(capsys.readouterr().out.partition("\n")[2]) == {"rows": 1, "blobs": 1, "damaged": []}
    assert [one.size for one in open_store(Settings(data_dir=tmp_path / "new")).backend.blobs()] == [7]


def test_damage_and_mistakes_are_said_with_exit_code_1(data_dir, tmp_path, capsys):
    assert safekeeping.backup(tmp_path / "backup", data_dir=tmp_path / "nowhere") == 1
    assert "There is no Cairn in" in capsys.readouterr().out
    assert safekeeping.restore(tmp_path, data_dir=data_dir) == 1
    assert "no whole backup" in capsys.readouterr().out
    next((data_dir / "blobs").glob("*/*")).unlink()
    assert safekeeping.backup(tmp_path / "backup", data_dir=data_dir) == 1
    assert "missing or damaged in the store" in capsys.readouterr().out


def test_mistakes_are_said_to_programs_on_standard_error(data_dir, tmp_path, capsys):
    assert safekeeping.backup(tmp_path / "backup", data_dir=tmp_path / "nowhere", as_json=True) == 1
    assert safekeeping.restore(tmp_path, data_dir=data_dir, as_json=True) == 1
    out, err = capsys.readouterr()
    bodies = [json.loads(line) for line in err.splitlines()]
    assert out == ""
    assert [body["code"] for body in bodies] == ["cannot-start", "no-backup"]
    assert all(body["problems"][0]["message"] == body["message"] for body in bodies)


def test_a_server_that_runs_is_not_restored_or_upgraded_under(data_dir, tmp_path, capsys):
    assert safekeeping.backup(tmp_path / "backup", data_dir=data_dir) == 0
    with locked(data_dir, "http://127.0.0.1:1"):
        assert safekeeping.restore(tmp_path / "backup", force=True, data_dir=data_dir) == 1
        assert safekeeping.upgrade(data_dir=data_dir) == 1
    assert capsys.readouterr().out.count("Stop it first") == 2


def test_an_upgrade_backs_up_first_and_does_nothing_twice(data_dir, capsys):
    url = Settings(data_dir=data_dir).effective_database_url
    command.downgrade(migrations.configuration(url), "0003")
    assert safekeeping.upgrade(data_dir=data_dir) == 0
    assert f"migrated from version 0003 to {migrations.newest()}" in capsys.readouterr().out.replace("\n", " ")
    migrations.check(url)
    (made,) = (data_dir / "backups").iterdir()
    assert made.name.endswith("-version-0003")
    assert next(made.glob("blobs/*/*")).read_bytes() == b"weights"
    assert safekeeping.upgrade(data_dir=data_dir) == 0
    assert "up to date" in capsys.readouterr().out
    assert len(list((data_dir / "backups").iterdir())) == 1


def test_an_upgrade_that_fails_leaves_a_backup_and_says_how_to_go_back(data_dir, capsys, monkeypatch):
    url = Settings(data_dir=data_dir).effective_database_url
    command.downgrade(migrations.configuration(url), "0003")

    def fail(_: str) -> None:
        raise RuntimeError("column already there")

    with monkeypatch.context() as patch:
        patch.setattr("app.up.safekeeping.migrations.migrate", fail)
        assert safekeeping.upgrade(data_dir=data_dir) == 1
    words = " ".join(capsys.readouterr().out.split())
    assert "column already there" in words
    (made,) = (data_dir / "backups").iterdir()
    assert f"cairn restore {made} --force" in words
    assert safekeeping.restore(made, force=True, data_dir=data_dir) == 0
    migrations.check(url)
