"""The worker's content-addressed cache: blobs, unpacked datasets, and which blob an artifact is.

```
CACHE/blobs/SHA256            bytes, verified when they arrived and again at every use
CACHE/trees/SHA256/files/…    an unpacked dataset; tree.json beside it lists every file's size and time
CACHE/artifacts/KIND-KEY      the server's ArtifactView
CACHE/partial/SHA256          a download under way, continued where it broke off
CACHE/locks/NAME              flock: exclusive while an entry is made or removed, shared while it is used
```
Several workers may share one cache: everything is renamed into place under an exclusive lock.
"""

import fcntl
import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app.wire.worker import ArtifactView
from worker import blobs, client
from worker.rundir import write_atomically


class CorruptBlob(Exception):
    """What the server sent does not hash to what was asked for, twice."""


class Cache:
    """A bounded local cache. Safe across threads and processes."""

    def __init__(self, root: Path, limit_bytes: int) -> None:
        self.root = root
        self.limit_bytes = limit_bytes
        for name in ("blobs", "trees", "artifacts", "partial", "locks"):
            (root / name).mkdir(parents=True, exist_ok=True)

    @contextmanager
    def blob(self, api: client.Api, sha256: str) -> Iterator[Path]:
        """Yield the path of a verified blob, fetched when needed, that stays while the context is open.

        Raises:
            Unreachable: The download broke off; the next call continues it.
            Refused: The server does not have it.
            CorruptBlob: The server's bytes have another digest.
        """
        path = self.root / "blobs" / sha256
        with self._in_use(f"blob-{sha256}", lambda: _verified(path, sha256), lambda: self._fetch(api, sha256, path)):
            yield path

    @contextmanager
    def tree(self, api: client.Api, sha256: str) -> Iterator[Path]:
        """Yield the directory into which the archive `sha256` is unpacked. Raises as `blob` does."""
        root = self.root / "trees" / sha256
        with self._in_use(f"tree-{sha256}", lambda: _tree_intact(root), lambda: self._unpack(api, sha256, root)):
            yield root / "files"

    def has_tree(self, sha256: str) -> bool:
        """Return whether the archive is unpacked here already."""
        return (self.root / "trees" / sha256 / "tree.json").exists()

    def artifact(self, kind: str, key: str) -> ArtifactView | None:
        """Return what the server once said about an artifact."""
        try:
            return ArtifactView.model_validate_json((self.root / "artifacts" / f"{kind}-{key}").read_bytes())
        except (OSError, ValueError):
            return None

    def remember_artifact(self, view: ArtifactView) -> None:
        """Keep the server's word about an artifact: it never changes."""
        name = f"{view.kind}-{view.key}"
        with self._lock(f"artifact-{name}", fcntl.LOCK_EX):
            write_atomically(self.root / "artifacts" / name, view.model_dump_json().encode())

    def adopt(self, source: Path, sha256: str) -> None:
        """Take in a file made here, by hard link, so that this host need not download it again."""
        path = self.root / "blobs" / sha256
        with self._lock(f"blob-{sha256}", fcntl.LOCK_EX), suppress(OSError):  # another file system: no link, no gain
            path.hardlink_to(source)
        self.trim()

    def trim(self, keep: str = "") -> None:
        """Remove what was not used for the longest time until the cache fits its limit. What is in use stays."""
        entries = sorted(self._entries())
        excess = sum(size for _, size, _, _ in entries) - self.limit_bytes
        for _, size, name, path in entries:
            if excess <= 0:
                return
            excess -= size if name != keep and self._evict(name, path) else 0

    @contextmanager
    def _in_use(self, name: str, is_good: Callable[[], bool], make: Callable[[], None]) -> Iterator[None]:
        """Hold a shared lock on an entry that is good; make it first, under an exclusive one, when it is not."""
        for _ in range(4):
            with self._lock(name, fcntl.LOCK_SH):
                if is_good():
                    os.utime(self.root / "locks" / name)
                    yield
                    break
            # A shared lock cannot be raised in one step, so everything is checked again under the exclusive one
            # (another worker may have made the entry) and once more under the next shared one (a trim may have run).
            with self._lock(name, fcntl.LOCK_EX):
                if not is_good():
                    make()
            self.trim(keep=name)
        else:
            raise CorruptBlob(f"Cache entry {self.root}/…/{name} changes as soon as it is made: is the disk failing?")
        self.trim()

    @contextmanager
    def _lock(self, name: str, mode: int) -> Iterator[int]:
        descriptor = os.open(self.root / "locks" / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, mode)
            yield descriptor
        finally:
            os.close(descriptor)

    def _fetch(self, api: client.Api, sha256: str, path: Path) -> None:
        partial = self.root / "partial" / sha256
        for _ in range(2):
            _download(api, sha256, partial)
            if digest(partial) == sha256:
                _sync(partial)
                partial.replace(path)
                return
            partial.unlink()
        raise CorruptBlob(f"The server's blob {sha256} hashes to something else: `cairn verify` finds out why.")

    def _unpack(self, api: client.Api, sha256: str, root: Path) -> None:
        scratch = root.with_name(f".new-{sha256}")
        for leftover in (root, scratch):
            shutil.rmtree(leftover, ignore_errors=True)
        with self.blob(api, sha256) as archive, tarfile.open(archive) as tar:
            tar.extractall(scratch / "files", filter="data")
        write_atomically(scratch / "tree.json", json.dumps(_listing(scratch / "files")).encode())
        scratch.rename(root)
        # The archive has done its work; the tree is what trainings read.
        self._evict(f"blob-{sha256}", self.root / "blobs" / sha256)

    def _entries(self) -> Iterator[tuple[float, int, str, Path]]:
        """Yield last use, bytes, lock name and path of every entry."""
        for kind, folder in (("blob", "blobs"), ("blob", "partial"), ("tree", "trees")):
            for path in (self.root / folder).iterdir():
                name = f"{kind}-{path.name}"
                with suppress(OSError, ValueError):
                    used = (self.root / "locks" / name).stat().st_mtime
                    yield used, _size(path), name, path

    def _evict(self, name: str, path: Path) -> bool:
        try:
            with self._lock(name, fcntl.LOCK_EX | fcntl.LOCK_NB):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        except OSError:
            return False
        return True


def _download(api: client.Api, sha256: str, partial: Path) -> None:
    have = partial.stat().st_size if partial.exists() else 0
    try:
        with blobs.get(api, sha256, have) as (start, chunks), partial.open("ab" if start else "wb") as file:
            for chunk in chunks:
                file.write(chunk)
                if api.hurry.is_set():
                    raise client.Unreachable("download abandoned")
    except client.Refused as error:
        if error.status != 416:  # 416: all of it is here already
            raise


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verified(path: Path, sha256: str) -> bool:
    return path.exists() and digest(path) == sha256


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _listing(files: Path) -> dict[str, tuple[int, int]]:
    """Return size and modification time by path: what a tree looked like when it was unpacked."""
    found = {}
    for path in sorted(files.rglob("*")):
        if path.is_file():
            stat = path.stat()
            found[str(path.relative_to(files))] = (stat.st_size, stat.st_mtime_ns)
    return found


def _tree_intact(root: Path) -> bool:
    try:
        listed = json.loads((root / "tree.json").read_bytes())
    except (OSError, ValueError):
        return False
    return bool(listed == {name: list(what) for name, what in _listing(root / "files").items()})


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(size for size, _ in json.loads((path / "tree.json").read_bytes()).values())
    return path.stat().st_size
