import asyncio
import hashlib
import os
import stat
import time

import obstore
import pytest
from starlette.requests import ClientDisconnect

from app.artifacts.backends import Bucket
from app.artifacts.errors import BlobCorrupt, BlobMissing, DiskFull, UploadInterrupted
from app.artifacts.store import open_store
from app.artifacts.transfer import fill
from app.errors import Unavailable
from app.settings import Settings

DATA = bytes(range(256)) * 60_000  # 15 MB: several parts of a multipart upload
SHA256 = hashlib.sha256(DATA).hexdigest()


def damage(store, sha256: str, data: bytes) -> None:
    if isinstance(store.backend, Bucket):
        obstore.put(store.backend.store, f"{sha256[:2]}/{sha256[2:]}", data)
        return
    path = store.backend.path(sha256)
    path.chmod(0o644)
    path.write_bytes(data)


def test_bytes_come_back_under_their_digest(store):
    digests = store.keep_bytes(DATA)
    assert (digests.sha256, digests.size) == (SHA256, len(DATA))
    assert digests.md5 == hashlib.md5(DATA).hexdigest()
    assert b"".join(store.read(SHA256)) == DATA
    assert b"".join(store.read(SHA256, 5, 1_000_005)) == DATA[5:1_000_005]
    assert list(store.scratch.iterdir()) == []


def test_an_empty_blob_is_a_blob(store):
    digests = store.keep_bytes(b"")
    assert b"".join(store.read(digests.sha256)) == b""
    assert store.verify(digests.sha256) == 0


def test_a_missing_blob_is_named(store):
    with pytest.raises(BlobMissing, match=SHA256):
        store.verify(SHA256)
    assert store.size(SHA256) is None
    assert not store.intact(SHA256)


def test_damage_is_found_whether_or_not_the_size_changes(store):
    store.keep_bytes(DATA)
    for damaged in (DATA[:-1], DATA[:-1] + b"x"):
        damage(store, SHA256, damaged)
        with pytest.raises(BlobCorrupt, match=SHA256):
            store.read(SHA256)
        assert not store.intact(SHA256)


def test_damage_done_before_this_process_started_is_found(store):
    store.keep_bytes(DATA)
    damage(store, SHA256, b"garbage")
    fresh = type(store)(store.backend, store.scratch)
    with pytest.raises(BlobCorrupt):
        fresh.verify(SHA256)


def test_uploading_the_same_bytes_again_heals_a_damaged_blob(store):
    store.keep_bytes(DATA)
    damage(store, SHA256, b"garbage")
    store.keep_bytes(DATA)
    assert b"".join(store.read(SHA256)) == DATA


def test_a_good_blob_is_never_overwritten(local_store):
    local_store.keep_bytes(DATA)
    path = local_store.backend.path(SHA256)
    before = path.stat()
    local_store.keep_bytes(DATA)
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert stat.S_IMODE(after.st_mode) == 0o444


@pytest.mark.parametrize("is_good", [True, False])
def test_a_blob_is_hashed_once_per_process_not_per_read(local_store, monkeypatch, is_good):
    local_store.keep_bytes(DATA)
    if not is_good:
        damage(local_store, SHA256, DATA[:-1] + b"x")
    fresh = type(local_store)(local_store.backend, local_store.scratch)
    hashed = []
    rehash = fresh._rehash

    def counted(*arguments):
        hashed.append(arguments)
        return rehash(*arguments)

    monkeypatch.setattr(fresh, "_rehash", counted)
    assert [fresh.intact(SHA256) for _ in range(3)] == [is_good] * 3
    assert len(hashed) == 1


def test_a_removed_blob_is_gone(store):
    store.keep_bytes(DATA)
    store.remove(SHA256)
    store.remove(SHA256)
    assert not store.intact(SHA256)


def test_adopting_a_file_moves_it(store):
    path = store.scratch / "made-here"
    path.write_bytes(DATA)
    assert store.adopt(path).sha256 == SHA256
    assert b"".join(store.read(SHA256)) == DATA


def test_a_full_disk_leaves_nothing_behind(local_store):
    with local_store.receive() as incoming:
        os.dup2(os.open("/dev/full", os.O_WRONLY), incoming._file.fileno())
        with pytest.raises(DiskFull, match="disk is full"):
            incoming.write(DATA)
    assert list(local_store.scratch.iterdir()) == []
    assert list(local_store.backend.root.iterdir()) == []


def test_an_abandoned_upload_leaves_nothing_behind(local_store):
    with local_store.receive() as incoming:
        incoming.write(DATA)
    assert list(local_store.scratch.iterdir()) == []


def test_a_connection_that_ends_early_leaves_nothing_behind(local_store):
    async def broken():
        yield bytes(3 << 20)
        yield b"a little more"
        raise ClientDisconnect

    async def receive():
        with local_store.receive() as incoming:
            await fill(incoming, broken())

    with pytest.raises(UploadInterrupted, match="after 3145741 bytes"):
        asyncio.run(receive())
    assert list(local_store.scratch.iterdir()) == []


def test_a_disk_that_fills_up_in_mid_stream_says_so(local_store):
    async def endless():
        while True:
            yield bytes(1 << 20)

    async def receive():
        with local_store.receive() as incoming:
            os.dup2(os.open("/dev/full", os.O_WRONLY), incoming._file.fileno())
            await fill(incoming, endless())

    with pytest.raises(DiskFull):
        asyncio.run(receive())
    assert list(local_store.scratch.iterdir()) == []


def test_an_object_store_that_is_away_is_named(tmp_path, s3_url, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    away = open_store(Settings(data_dir=tmp_path, blob_url=s3_url))
    for use in (lambda: away.verify(SHA256), lambda: away.keep_bytes(b"x"), lambda: away.remove(SHA256)):
        with pytest.raises(Unavailable, match="object store"):
            use()
    assert list(away.scratch.iterdir()) == []


def test_what_a_killed_process_left_is_cleaned_up_a_day_later(tmp_path):
    store = open_store(Settings(data_dir=tmp_path))
    old, old_folder, young = store.scratch / "old", store.scratch / "intake-old", store.scratch / "young"
    old_folder.mkdir()
    (old_folder / "part").write_bytes(b"x")
    for path in (old, young):
        path.write_bytes(b"x")
    for path in (old, old_folder):
        os.utime(path, (time.time() - 90_000,) * 2)
    store.clean_up()
    assert list(store.scratch.iterdir()) == [young]


def test_a_damaged_blob_is_put_aside_never_served_and_healed_by_the_same_bytes(store):
    good, bad = store.keep_bytes(b"good"), store.keep_bytes(DATA)
    for times in (1, 2):
        damage(store, SHA256, DATA[:-1] + b"x")
        assert store.problem(SHA256, len(DATA)) == "sha256 differs"
        store.quarantine(SHA256)
        with pytest.raises(BlobCorrupt, match="kept aside"):
            store.verify(SHA256)
        assert store.problem(SHA256, len(DATA)) == "missing"
        assert [one.sha256 for one in store.backend.blobs()] == [good.sha256]
        assert [(one.sha256, one.size) for one in store.backend.quarantined()] == [(SHA256, len(DATA))] * times
        assert store.keep_bytes(DATA) == bad
        assert b"".join(store.read(SHA256)) == DATA
    damage(store, SHA256, b"short")
    assert store.problem(SHA256, len(DATA), quick=True) == f"5 bytes instead of {len(DATA)}"
    assert store.problem(good.sha256, 4) is None
    store.remove(SHA256)
    store.quarantine(SHA256)
    assert len(list(store.backend.quarantined())) == 2
