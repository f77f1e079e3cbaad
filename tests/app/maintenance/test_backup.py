"""Backup and restore: real databases, real files, real damage."""

from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import sessionmaker

import migrations
from app.artifacts.store import open_store
from app.db import make_engine
from app.errors import Conflict
from app.keys import token_file
from app.maintenance import dump
from app.maintenance.backup import NoBackup, backup, read_manifest, sha256_of
from app.maintenance.restore import restore
from app.settings import Settings
from tests.conftest import NOWHERE


def rows(url: str) -> dict[str, list[tuple]]:
    """Every row of every table, in a form that is the same on both dialects."""
    engine = make_engine(url)
    with dump.snapshot(engine) as connection:
        found = {
            table.name: [tuple(dump._plain(value) for value in row) for row in dump._rows(connection, table)]
            for table in dump.reflected(connection).sorted_tables
        }
    engine.dispose()
    return found


@pytest.fixture
def lived(client, app, worker, submit) -> tuple[dict, bytes]:
    """A server that has been used: a job with metrics, log, checkpoints; a dataset that was deleted."""
    attempt = worker.claim(submit(name="water · 水")["id"])
    attempt.metrics(0, [1, 2], **{"train/loss": [float("nan"), 0.5]})
    attempt.log("Ångström\n".encode())
    assert attempt.checkpoint(200).status_code == 200
    assert attempt.checkpoint(400).status_code == 200
    assert attempt.heartbeat(400).status_code == 200
    return attempt.claim, b"weights of step 400"


@pytest.fixture
def elsewhere(request, tmp_path: Path, database_url: str) -> Settings:
    """Settings of an empty server of the same dialect."""
    if database_url.startswith("sqlite"):
        url = f"sqlite:///{tmp_path}/elsewhere.db"
    else:
        source = make_engine(database_url)
        admin = create_engine(source.url, isolation_level="AUTOCOMMIT")
        name = f"{source.url.database}_elsewhere"
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            connection.execute(text(f"CREATE DATABASE {name}"))
        admin.dispose()
        source.dispose()
        url = source.url.set(database=name).render_as_string(hide_password=False)
    return Settings(data_dir=tmp_path / "elsewhere", database_url=url, redis_url=NOWHERE)


def test_what_is_restored_is_what_was_backed_up(client, settings, lived, elsewhere, tmp_path):
    made = backup(settings, tmp_path / "backup")
    assert made.missing == []
    assert made.blobs == made.copied == 5
    found = restore(elsewhere, tmp_path / "backup")
    assert (found.rows, found.blobs, found.damaged) == (made.rows, 5, [])
    assert rows(elsewhere.effective_database_url) == rows(settings.effective_database_url)
    migrations.check(elsewhere.effective_database_url)
    for name in ("user", "worker"):
        assert token_file(elsewhere, name).read_text() == token_file(settings, name).read_text()
    store = open_store(elsewhere)
    engine = make_engine(elsewhere.effective_database_url)
    with engine.begin() as connection:
        digests = connection.execute(text("SELECT sha256 FROM blobs")).scalars().all()
        assert len(digests) == 5
        assert all(store.intact(digest) for digest in digests)
        # The next row gets an id that none had: sequences are restored, too.
        last = connection.execute(text("SELECT max(id) FROM events")).scalar_one()
        new = connection.execute(
            text(
                "INSERT INTO events (job_id, kind, message, data, at) VALUES (1, 'k', 'm', '{}', '2026-01-01 00:00:00')"
                " RETURNING id"
            )
        ).scalar_one()
    engine.dispose()
    assert new > last
    with pytest.raises(Conflict, match="is not empty: it has 1 jobs"):
        restore(elsewhere, tmp_path / "backup")
    restore(elsewhere, tmp_path / "backup", force=True)
    assert rows(elsewhere.effective_database_url) == rows(settings.effective_database_url)


def test_a_backup_of_one_dialect_is_restored_into_the_other(client, settings, lived, tmp_path, postgresql_server):
    backup(settings, tmp_path / "backup")
    other = Settings(data_dir=tmp_path / "other", database_url=None, redis_url=NOWHERE)
    if settings.effective_database_url.startswith("sqlite"):
        admin = create_engine(postgresql_server.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT")  # fmt: skip
        with admin.connect() as connection:
            connection.execute(text("DROP DATABASE IF EXISTS cairn_other WITH (FORCE)"))
            connection.execute(text("CREATE DATABASE cairn_other"))
        url = admin.url.set(database="cairn_other").render_as_string(hide_password=False)
        other = other.model_copy(update={"database_url": url})
        admin.dispose()
    restore(other, tmp_path / "backup")
    here, there = rows(settings.effective_database_url), rows(other.effective_database_url)
    assert {name: len(found) for name, found in there.items()} == {name: len(found) for name, found in here.items()}
    assert there["log_chunks"] == here["log_chunks"]
    assert there["metric_chunks"] == here["metric_chunks"]
    assert there["attempts"][0][9:] == here["attempts"][0][9:]


def test_a_second_backup_copies_only_what_is_new_and_drops_what_is_gone(
    client, settings, lived, worker, submit, tmp_path
):
    directory = tmp_path / "backup"
    first = backup(settings, directory)
    before = {path: path.stat().st_ino for path in directory.glob("blobs/*/*")}
    attempt = worker.claim(submit(checkpoints={"keep_last": 2}, on_existing="new")["id"])
    for step in (1, 2, 3):
        attempt.checkpoint(step)
    second = backup(settings, directory)
    assert second.copied == 4
    assert {path: path.stat().st_ino for path in before} == before
    assert [path.name for path in directory.glob("database-*")] == [second.database]
    assert second.database != first.database
    assert read_manifest(directory) == second
    linked = backup(settings, tmp_path / "linked", link=True)
    assert linked.copied == linked.blobs
    assert {path.stat().st_nlink for path in (tmp_path / "linked").glob("blobs/*/*")} == {2}
    assert not list((settings.data_dir / "tmp").iterdir())


def test_a_backup_is_consistent_while_retention_removes_what_it_names(
    client, app, settings, lived, tmp_path, monkeypatch
):
    """Between the snapshot and the copying the job's older checkpoint goes, with its bytes."""
    claim, _ = lived
    write = dump.write

    def meanwhile(*arguments):
        job = claim["job_id"]
        assert client.put(f"/api/v1/jobs/{job}/retention", json={"keep_last": 2}).status_code == 200
        headers = {"Authorization": f"Bearer {claim['token']}"}
        files = [{"name": "w.pt", "role": "checkpoint"}]
        data = b"newer"
        import hashlib

        sha256 = hashlib.sha256(data).hexdigest()
        client.put(f"/api/v1/worker/blobs/{sha256}", content=data, headers=headers)
        files[0] |= {"sha256": sha256, "md5": hashlib.md5(data).hexdigest(), "size": len(data)}
        body = {"step": 600, "files": files, "metrics": {}, "fingerprint": "f"}
        path = f"/api/v1/worker/attempts/{claim['attempt_id']}/checkpoints"
        assert client.post(path, json=body, headers=headers).status_code == 200
        return write(*arguments)

    monkeypatch.setattr("app.maintenance.backup.dump.write", meanwhile)
    made = backup(settings, tmp_path / "backup")
    kept = client.get(f"/api/v1/jobs/{claim['job_id']}/checkpoints").json()
    assert [row["step"] for row in kept] == [600, 400]  # of step 200 even the bytes are gone
    assert made.missing == []
    assert made.blobs == 5


def test_a_backup_that_was_changed_is_not_restored(client, settings, tmp_path):
    nowhere = Settings(data_dir=tmp_path / "nowhere", redis_url=NOWHERE)
    directory = tmp_path / "backup"
    made = backup(settings, directory)
    newer = made.model_copy(update={"revision": "9999", "cairn": "7.0"})
    (directory / "manifest.json").write_text(newer.model_dump_json())
    with pytest.raises(Conflict, match=r"is of Cairn 7\.0"):
        restore(nowhere, directory)
    (directory / "manifest.json").write_text(made.model_dump_json())
    database = directory / made.database
    data = bytearray(database.read_bytes())
    data[len(data) // 2] ^= 1
    database.write_bytes(data)
    with pytest.raises(NoBackup, match="was changed since the backup"):
        restore(nowhere, directory)
    database.unlink()
    with pytest.raises(NoBackup, match="is missing"):
        restore(nowhere, directory)
    (directory / "manifest.json").unlink()
    with pytest.raises(NoBackup, match="no whole backup"):
        restore(nowhere, directory)
    assert not (nowhere.data_dir).exists()


def test_a_made_up_backup_names_no_file_elsewhere(client, settings, tmp_path):
    nowhere = Settings(data_dir=tmp_path / "deep" / "nowhere", redis_url=NOWHERE)
    directory = tmp_path / "backup"
    made = backup(settings, directory)
    (tmp_path / "profile").write_text("curl …")
    digest = sha256_of(tmp_path / "profile")
    for changes in (
        {"files": made.files | {"keys/../../profile": digest}},
        {"files": made.files | {"keys/profile": digest}},
        {"files": made.files | {"../profile": digest}, "database": "../profile"},
        {"files": {name: digest for name, digest in made.files.items() if name != made.database}},
    ):
        (directory / "manifest.json").write_text(made.model_copy(update=changes).model_dump_json())
        with pytest.raises(NoBackup, match=r"manifest"):
            restore(nowhere, directory)
    assert not (tmp_path / "deep").exists()


def test_damaged_blobs_are_named_by_backup_and_restore(client, app, settings, lived, elsewhere, tmp_path):
    bad = next(app.state.blobs.backend.blobs()).sha256
    path = app.state.blobs.backend.path(bad)
    path.chmod(0o644)
    path.write_bytes(b"not what it was")
    made = backup(settings, tmp_path / "backup")
    assert made.missing == [bad]
    assert made.blobs == 4
    worse = next(path for path in (tmp_path / "backup").glob("blobs/*/*"))
    worse.chmod(0o644)
    worse.write_bytes(worse.read_bytes()[:-1])
    found = restore(elsewhere, tmp_path / "backup")
    assert found.damaged == [worse.parent.name + worse.name]
    assert found.blobs == 3


def test_a_directory_of_something_else_is_left_alone(settings, client, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("chapter 1")
    with pytest.raises(Conflict, match=r"thesis\.tex"):
        backup(settings, tmp_path / "thesis")
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["thesis.tex"]


def test_an_older_database_is_backed_up_as_it_is_and_migrated_when_restored(database_url, tmp_path, elsewhere):
    from alembic import command

    settings = Settings(data_dir=tmp_path / "old", database_url=database_url, redis_url=NOWHERE)
    engine = make_engine(database_url)
    configuration = migrations.configuration(database_url)
    command.downgrade(configuration, "0003")
    try:
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO datasets (name, version, engine, digest, blob_sha256, size, source, summary, warnings, created_at) SELECT 'x', 1, 'deepmd', 'd', sha256, 1, 's', '{}', '[]', created_at FROM blobs"))  # fmt: skip
            connection.execute(
                text("INSERT INTO blobs (sha256, md5, size, created_at) VALUES (:a, 'm', 1, '2026-01-01 00:00:00')"),
                {"a": "a" * 64},
            )
        made = backup(settings, tmp_path / "backup")
    finally:
        migrations.migrate(database_url)
        engine.dispose()
    assert made.revision == "0003"
    assert made.missing == ["a" * 64]
    restore(elsewhere, tmp_path / "backup")
    migrations.check(elsewhere.effective_database_url)
    restored = make_engine(elsewhere.effective_database_url)
    with sessionmaker(restored)() as session:
        assert session.execute(text("SELECT count(*) FROM blobs")).scalar_one() == 1
    restored.dispose()
