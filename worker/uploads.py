"""Uploads checkpoints, files and artifacts in the background, and keeps the run directory small."""

import hashlib
import logging
import mimetypes
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from app.wire.checkpoints import CheckpointFile
from app.wire.retention import Candidate, kept
from app.wire.submission import CheckpointPolicy
from app.wire.worker import ArtifactPut, CheckpointPut, JobFilePut
from worker import blobs, client
from worker.cache import Cache, digest
from worker.rundir import Manifest, RunDir
from worker.throttle import Throttle

log = logging.getLogger(__name__)

KEEP_LOCALLY = 2
"""Newest registered checkpoints that stay on the worker's disk, and of those that wait what is never skipped."""
DELIVERY_CHECK_S = 0.05
UPLOADS_OF_A_BLOB = 3
_GONE = frozenset({"blob-missing", "blob-corrupt"})
"""What the server says of a blob that was swept away, or damaged, between its upload and its registration."""

Say = Callable[[str, str], None]


@dataclass
class Uploads:
    """What one attempt has uploaded. `policy` is the server's retention as last heard: what it does not keep is skipped."""

    api: client.Api
    run: RunDir
    cache: Cache
    policy: CheckpointPolicy
    label: str
    say: Say
    registered: set[int] = field(default_factory=set)
    refused: dict[int, str] = field(default_factory=dict)
    """Checkpoints the server would not have, and why: by step."""
    refused_files: dict[str, str] = field(default_factory=dict)
    """Files that the server would not have, and why: by name."""
    throttle: Throttle = field(default_factory=Throttle)
    _artifacts: set[str] = field(default_factory=set)
    _said_full: set[int] = field(default_factory=set)
    _files: set[str] = field(default_factory=set)

    def upload(self) -> bool:
        """Upload artifacts, files and the oldest waiting checkpoint; return whether another one waits."""
        for path in sorted(self.run.artifacts_out.glob("[!.]*")):
            if path.name not in self._artifacts:
                self._upload_artifact(path)
                self._artifacts.add(path.name)
        for path in sorted(self.run.files.glob("[!.]*")):
            if path.name not in self._files:
                self._upload_file(path)
                self._files.add(path.name)
        waiting = self._worth_uploading()
        if waiting:
            self._upload_with_room(waiting[0])
            self._prune()
        return len(waiting) > 1

    def _worth_uploading(self) -> list[int]:
        """Return the steps that wait, without those that the server's retention would delete as soon as they arrived."""
        waiting = self._waiting()
        if len(waiting) <= KEEP_LOCALLY:  # no policy keeps fewer
            return waiting
        self._ask_for_policy()
        wanted = kept([Candidate(step, step, _manifest(self.run, step).metrics) for step in waiting], self.policy)
        for step in (step for step in waiting if step not in wanted):
            # Faster written than uploaded.
            log.warning("%s checkpoint of step %d skipped: newer ones wait", self.label, step)
            self._remove(step)
        return [step for step in waiting if step in wanted]

    def _ask_for_policy(self) -> None:
        """Hear which checkpoints the job keeps now: people change that while it runs.

        While nobody answers, what was heard last decides; checkpoints must not fill this disk until the server is back.
        """
        try:
            self.policy = client.policy(self.api)
        except client.Unreachable as error:
            log.warning("%s goes by the retention it was last told: %s", self.label, error)

    def _upload_with_room(self, step: int) -> None:
        try:
            self._upload_checkpoint(step)
        except client.ServerFull as error:
            if step not in self._said_full:
                self._said_full.add(step)
                self.say("warning", f"The checkpoint of step {step} waits on the worker and is sent again: {error}")
            raise

    def keep_newest(self) -> None:
        """Put the newest registered checkpoint into the cache: the job may well go on right here."""
        for step in [step for step in _steps(self.run) if step in self.registered][-1:]:
            for name, about in _manifest(self.run, step).files.items():
                self.cache.adopt(self.run.checkpoints / f"step-{step}" / name, about["sha256"])

    def _waiting(self) -> list[int]:
        return [step for step in _steps(self.run) if step not in self.registered and step not in self.refused]

    def _upload_artifact(self, path: Path) -> None:
        kind, _, key = path.name.rpartition("-")
        sha256 = digest(path)
        try:
            self._upload_blob(sha256, path)
            message = ArtifactPut(blob_sha256=sha256, size=path.stat().st_size)
            self.cache.remember_artifact(client.put_artifact(self.api, kind, key, message))
        except client.Refused as error:
            # Only the next job on this data pays for it.
            log.warning("%s artifact %s refused: %s", self.label, path.name, error)
            return
        self.cache.adopt(path, sha256)

    def _upload_file(self, path: Path) -> None:
        sha256 = digest(path)
        with path.open("rb") as file:
            md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        size, media_type = path.stat().st_size, _media_type(path)
        try:
            self._upload_blob(sha256, path)
            message = JobFilePut(name=path.name, media_type=media_type, sha256=sha256, md5=md5, size=size)
            self._register(partial(client.file, self.api, message), partial(self._upload_blob, sha256, path))
        except client.Refused as error:
            self.refused_files[path.name] = str(error)
            log.error("%s file %s refused: %s", self.label, path.name, error)  # noqa: TRY400
            self.say("warning", f"The file {path.name} was not kept: {error}")
            return
        log.info("%s file %s registered (%.1f MB)", self.label, path.name, size / 1e6)

    def _upload_checkpoint(self, step: int) -> None:
        manifest = _manifest(self.run, step)
        reported = list(self.run.metrics.glob("[!.]*.arrow"))
        files = [CheckpointFile(name=name, **about) for name, about in manifest.files.items()]
        try:
            self._upload_files(step, files)
            self._wait_for_delivery(reported)
            message = CheckpointPut(
                step=step,
                files=files,
                metrics=manifest.metrics,
                fingerprint=manifest.fingerprint,
                generators=manifest.generators,
            )
            self._register(partial(client.checkpoint, self.api, message), partial(self._upload_files, step, files))
        except (client.Refused, FileNotFoundError) as error:
            self.refused[step] = str(error)
            log.error("%s checkpoint of step %d refused: %s", self.label, step, error)  # noqa: TRY400
            self.say("warning", f"The checkpoint of step {step} was not kept: {error}")
            return
        self.registered.add(step)
        size = sum(file.size for file in files)
        log.info("%s checkpoint of step %d registered (%.1f MB)", self.label, step, size / 1e6)

    def _upload_files(self, step: int, files: list[CheckpointFile]) -> None:
        for file in files:
            self._upload_blob(file.sha256, self.run.checkpoints / f"step-{step}" / file.name)

    def _register(self, register: Callable[[], object], upload: Callable[[], None]) -> None:
        """Register what was uploaded; it is sent again when the server has lost some of it meanwhile.

        The same bytes may belong to another job, whose retention removes them at this moment.
        """
        for left in reversed(range(UPLOADS_OF_A_BLOB)):
            try:
                register()
            except client.Refused as error:
                if error.code not in _GONE or not left:
                    raise
                upload()
            else:
                return

    def _wait_for_delivery(self, batches: list[Path]) -> None:
        """Wait until the shipper has delivered these batches of metrics.

        A job goes on from its newest registered checkpoint and never repeats the steps before it: if their metrics
        were still here when this worker dies, they would be lost. (The trainer spools them before the manifest.)
        """
        while any(path.exists() for path in batches):
            if self.api.hurry.wait(DELIVERY_CHECK_S):
                raise client.Unreachable("abandoned before its metrics were delivered")

    def _upload_blob(self, sha256: str, path: Path) -> None:
        blobs.put(
            self.api, sha256, path, lambda count: self.throttle.take(count, self.api.hurry), self.throttle.chunk_bytes
        )

    def _prune(self) -> None:
        done = [step for step in _steps(self.run) if step in self.registered]
        for step in done[:-KEEP_LOCALLY]:
            self._remove(step)

    def _remove(self, step: int) -> None:
        directory = self.run.checkpoints / f"step-{step}"
        # The manifest first: a directory without it is no checkpoint, whatever happens in between.
        (directory / "manifest.json").unlink(missing_ok=True)
        shutil.rmtree(directory, ignore_errors=True)


def _media_type(path: Path) -> str:
    """Return what kind of file it is, by its name; `.out` is what programs of the field call their tables."""
    known = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return "text/plain; charset=utf-8" if path.suffix == ".out" else known


def _steps(run: RunDir) -> list[int]:
    """Return the steps of all whole checkpoints, ascending."""
    return sorted(_complete(run))


def _complete(run: RunDir) -> Iterator[int]:
    for manifest in run.checkpoints.glob("step-*/manifest.json"):
        number = manifest.parent.name.removeprefix("step-")
        if number.isdigit():
            yield int(number)


def _manifest(run: RunDir, step: int) -> Manifest:
    return Manifest.model_validate_json((run.checkpoints / f"step-{step}" / "manifest.json").read_bytes())
