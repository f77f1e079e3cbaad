"""The local cache: verified, atomic, shared, resumable, bounded."""

import hashlib
import io
import multiprocessing
import os
import tarfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.wire.worker import ArtifactView
from tests.worker.wire import Answer, Request, Wire, problem, serving
from worker import client, failures
from worker.cache import Cache, CorruptBlob

DATA = os.urandom(3_000_000)
SHA = hashlib.sha256(DATA).hexdigest()


class Blobs:
    """Answers like the server's blob routes; `cut_after` breaks the first downloads off."""

    def __init__(self, *blobs: bytes) -> None:
        self.blobs = {hashlib.sha256(blob).hexdigest(): blob for blob in blobs}
        self.cuts: list[int] = []

    def __call__(self, request: Request) -> Answer:
        data = self.blobs.get(request.path.rpartition("/")[2])
        if data is None:
            return problem(404, "not-found", "no such blob")
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        cut = self.cuts.pop(0) if self.cuts else None
        return Answer(206 if start else 200, data[start:], cut_after=cut)


@pytest.fixture
def wire() -> Iterator[Wire]:
    with serving() as running:
        running.answer = Blobs(DATA)
        yield running


@pytest.fixture
def api(wire: Wire) -> Iterator[client.Api]:
    with wire.api() as api:
        yield api


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", 1 << 30)


def archive(**files: bytes) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def test_a_blob_is_fetched_once(cache: Cache, api: client.Api, wire: Wire) -> None:
    for _ in range(2):
        with cache.blob(api, SHA) as path:
            assert path.read_bytes() == DATA
    assert len(wire.requests) == 1


def test_a_broken_download_goes_on_where_it_broke_off(cache: Cache, api: client.Api, wire: Wire) -> None:
    blobs = Blobs(DATA)
    blobs.cuts = [2_000_000]
    wire.answer = blobs
    with pytest.raises(client.Unreachable), cache.blob(api, SHA):
        pass
    with cache.blob(api, SHA) as path:
        assert path.read_bytes() == DATA
    start = int(wire.requests[1].headers["Range"][6:-1])
    assert 0 < start <= 2_000_000


def test_damage_on_the_local_disk_is_found_and_repaired(cache: Cache, api: client.Api, wire: Wire) -> None:
    with cache.blob(api, SHA) as path:
        pass
    path.write_bytes(b"x" + DATA[1:])
    with cache.blob(api, SHA) as path:
        assert path.read_bytes() == DATA
    assert len(wire.requests) == 2


def test_a_leftover_that_is_not_a_beginning_of_the_blob_is_thrown_away(
    cache: Cache, api: client.Api, wire: Wire
) -> None:
    (cache.root / "partial" / SHA).write_bytes(b"something else")
    with cache.blob(api, SHA) as path:
        assert path.read_bytes() == DATA


def test_a_server_whose_bytes_are_wrong_is_not_believed(cache: Cache, api: client.Api, wire: Wire) -> None:
    wire.answer = lambda _: Answer(200, DATA[:-1])
    with pytest.raises(CorruptBlob, match=SHA), cache.blob(api, SHA):
        pass
    assert not (cache.root / "blobs" / SHA).exists()


def test_what_the_server_does_not_have_is_refused(cache: Cache, api: client.Api) -> None:
    with pytest.raises(client.Refused, match="no such blob"), cache.blob(api, "0" * 64):
        pass


def test_a_dataset_is_unpacked_once_and_its_archive_dropped(cache: Cache, api: client.Api, wire: Wire) -> None:
    tar = archive(water__type_raw=b"0 1", water__set__coord=b"xyz")
    sha = hashlib.sha256(tar).hexdigest()
    wire.answer = Blobs(tar)
    assert not cache.has_tree(sha)
    for _ in range(2):
        with cache.tree(api, sha) as files:
            assert (files / "water/set/coord").read_bytes() == b"xyz"
    assert cache.has_tree(sha)
    assert len(wire.requests) == 1
    assert list((cache.root / "blobs").iterdir()) == []


@pytest.mark.parametrize("harm", ["change", "remove", "add"])
def test_a_changed_dataset_is_unpacked_again(cache: Cache, api: client.Api, wire: Wire, harm: str) -> None:
    tar = archive(water__coord=b"xyz")
    sha = hashlib.sha256(tar).hexdigest()
    wire.answer = Blobs(tar)
    with cache.tree(api, sha) as files:
        pass
    if harm == "change":
        (files / "water/coord").write_bytes(b"abc")
    elif harm == "remove":
        (files / "water/coord").unlink()
    else:
        (files / "water/more").write_bytes(b"")
    with cache.tree(api, sha) as files:
        assert [(p.name, p.read_bytes()) for p in (files / "water").iterdir()] == [("coord", b"xyz")]


def test_an_archive_cannot_write_outside(cache: Cache, api: client.Api, wire: Wire, tmp_path: Path) -> None:
    tar = archive(**{"..__..__..__..__evil": b"x"})
    wire.answer = Blobs(tar)
    with pytest.raises(tarfile.OutsideDestinationError), cache.tree(api, hashlib.sha256(tar).hexdigest()):
        pass
    assert list(tmp_path.rglob("evil")) == []


def test_the_least_recently_used_goes_first_and_what_is_in_use_stays(tmp_path: Path, wire: Wire) -> None:
    blobs = [bytes([number]) * 1000 for number in range(4)]
    names = [hashlib.sha256(blob).hexdigest() for blob in blobs]
    wire.answer = Blobs(*blobs)
    cache = Cache(tmp_path / "cache", 2500)
    with wire.api() as api, ExitStack() as held:
        held.enter_context(cache.blob(api, names[0]))
        for age, name in enumerate(names[1:], start=1):
            with cache.blob(api, name):
                os.utime(cache.root / "locks" / f"blob-{name}", (age, age))
        present = {path.name for path in (cache.root / "blobs").iterdir()}
        assert present == {names[0], names[3]}


def test_many_threads_fetch_a_blob_once(cache: Cache, api: client.Api, wire: Wire) -> None:
    found: list[bytes] = []

    def use() -> None:
        with cache.blob(api, SHA) as path:
            found.append(path.read_bytes())

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [DATA] * 8
    assert len(wire.requests) == 1


def test_many_processes_fetch_a_blob_once(cache: Cache, wire: Wire) -> None:
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[bool] = context.Queue()
    processes = [context.Process(target=_fetch_elsewhere, args=(wire.url, cache.root, SHA, results)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [results.get(timeout=60) for _ in processes] == [True] * 3
    assert len(wire.requests) == 1


def _fetch_elsewhere(url: str, root: Path, sha: str, results: "multiprocessing.Queue[bool]") -> None:
    api = client.connect(url, "t")
    with api.http, Cache(root, 1 << 30).blob(api, sha) as path:
        results.put(hashlib.sha256(path.read_bytes()).hexdigest() == sha)


def test_an_artifact_is_remembered_and_a_broken_note_of_it_ignored(cache: Cache) -> None:
    view = ArtifactView(kind="statistics", key="cd", blob_sha256=SHA, size=3)
    cache.remember_artifact(view)
    assert cache.artifact("statistics", "cd") == view
    (cache.root / "artifacts" / "statistics-cd").write_bytes(b"{")
    assert cache.artifact("statistics", "cd") is None


def test_a_file_made_here_need_not_be_downloaded(cache: Cache, api: client.Api, wire: Wire, tmp_path: Path) -> None:
    (tmp_path / "made").write_bytes(DATA)
    cache.adopt(tmp_path / "made", SHA)
    with cache.blob(api, SHA) as path:
        assert path.read_bytes() == DATA
    assert wire.requests == []


def test_a_full_disk_is_told_as_such(cache: Cache, api: client.Api) -> None:
    (cache.root / "partial" / SHA).symlink_to("/dev/full")  # the kernel's own full disk
    with pytest.raises(OSError, match="No space left") as caught, cache.blob(api, SHA):
        pass
    assert failures.is_disk_full(caught.value)


def test_many_threads_remember_the_same_artifact(cache: Cache) -> None:
    """Two slots that meet the same data learn of its statistics at the same moment."""
    view = ArtifactView(kind="statistics", key="cd", blob_sha256="ab" * 32, size=1)
    barrier = threading.Barrier(8)
    failed: list[BaseException] = []

    def remember() -> None:
        barrier.wait()
        try:
            for _ in range(20):
                cache.remember_artifact(view)
        except OSError as error:
            failed.append(error)

    threads = [threading.Thread(target=remember) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert cache.artifact("statistics", "cd") == view
