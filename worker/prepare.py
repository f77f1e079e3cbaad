"""Fills a run directory: datasets, the checkpoint to continue from or the base to start from, models, artifacts; spec.json."""

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from app.engines import registry
from app.wire.worker import BaseGrant, CheckpointGrant, Claim, DatasetGrant, ModelGrant
from worker import client
from worker.cache import Cache, CorruptBlob
from worker.rundir import BaseSpec, ModelSpec, RunDir, RunSpec, link_or_copy, write_json

log = logging.getLogger(__name__)

Say = Callable[[str, str], None]


class CheckpointLost(Exception):
    """The checkpoint to continue from was damaged or removed since it was granted. There may be an older one."""


def prepare(
    api: client.Api, claim: Claim, cache: Cache, run: RunDir, threads: int | None, in_use: ExitStack, say: Say
) -> None:
    """Fetch all that a trainer needs. What it reads in place stays in the cache until `in_use` is closed.

    Raises:
        Unreachable: The API is away; call again, downloads go on where they broke off.
        CheckpointLost: The server has the checkpoint no more: ask it for another one.
        Refused: The server does not have what the job needs.
        CorruptBlob: The server's copy is damaged.
    """
    for dataset in claim.datasets:
        _link_dataset(api, dataset, cache, run, in_use, say)
    if claim.resume_from is not None:
        _place_checkpoint(api, claim.resume_from, cache, run)
    elif claim.base is not None:
        _place_base(api, claim.base, cache, run, say)
    for number, model in enumerate(claim.models):
        _place_model(api, number, model, cache, run)
    if claim.kind == "train":
        _place_artifacts(api, claim, cache, run)
    write_json(run.spec, _spec(claim, threads))


def _link_dataset(
    api: client.Api, dataset: DatasetGrant, cache: Cache, run: RunDir, in_use: ExitStack, say: Say
) -> None:
    link = run.data / f"{dataset.name}@{dataset.version}"
    if link.is_symlink():
        return
    known, started = cache.has_tree(dataset.blob_sha256), time.monotonic()
    tree = in_use.enter_context(cache.tree(api, dataset.blob_sha256))
    link.symlink_to(tree, target_is_directory=True)
    if not known:
        took = time.monotonic() - started
        say(
            "fetched",
            f"Dataset {dataset.name}@{dataset.version} ({dataset.size / 1e6:.1f} MB) fetched in {took:.1f} s.",
        )


def _place_checkpoint(api: client.Api, grant: CheckpointGrant, cache: Cache, run: RunDir) -> None:
    for file in grant.files:
        if file.role == "export":
            continue  # the same weights in less precision: nothing goes on from those
        try:
            with cache.blob(api, file.sha256) as path:
                link_or_copy(path, run.resume / file.name)
        except (client.Refused, CorruptBlob) as error:
            raise CheckpointLost(f"The checkpoint of step {grant.step} is lost: {error}") from error


def _place_base(api: client.Api, grant: BaseGrant, cache: Cache, run: RunDir, say: Say) -> None:
    started = time.monotonic()
    with cache.blob(api, grant.sha256) as path:
        link_or_copy(path, run.base / _file_name(grant))
    took = time.monotonic() - started
    say("fetched", f"Base model {grant.name} ({grant.size / 1e6:.1f} MB) here after {took:.1f} s.")


def _file_name(grant: BaseGrant) -> str:
    """Return the name of a base's file in the run directory, whatever its owner called it."""
    return f"base{Path(grant.file_name).suffix}"


def _place_model(api: client.Api, number: int, grant: ModelGrant, cache: Cache, run: RunDir) -> None:
    with cache.blob(api, grant.sha256) as path:
        link_or_copy(path, run.models / _model_name(number, grant))


def _model_name(number: int, grant: ModelGrant) -> str:
    """Return the name of a model's file in the run directory, whatever its owner called it."""
    return f"{number}{Path(grant.file_name).suffix}"


def _place_artifacts(api: client.Api, claim: Claim, cache: Cache, run: RunDir) -> None:
    engine = registry.get(claim.engine)
    if engine is None:
        raise client.Refused(0, "no-engine", f"This worker has no engine {claim.engine!r}.")
    digests = {f"{dataset.name}@{dataset.version}": dataset.digest for dataset in claim.datasets}
    for kind, key in engine.artifact_keys(claim.config, digests).items():
        view = cache.artifact(kind, key)
        if view is None:
            view = client.get_artifact(api, kind, key)
            if view is None:
                continue
            cache.remember_artifact(view)
        try:
            with cache.blob(api, view.blob_sha256) as path:
                link_or_copy(path, run.artifacts_in / f"{kind}-{key}")
        except (client.Refused, CorruptBlob) as error:
            # The trainer makes it again: slower, but right.
            log.warning("job=%s attempt=%s artifact %s-%s not used: %s", claim.job_id, claim.attempt, kind, key, error)


def _spec(claim: Claim, threads: int | None) -> RunSpec:
    shared = {name: getattr(claim, name) for name in RunSpec.model_fields if name in Claim.model_fields}
    shared["datasets"] = {f"{dataset.name}@{dataset.version}": dataset.digest for dataset in claim.datasets}
    resume_step = claim.resume_from.step if claim.resume_from is not None else None
    shared["base"] = shared["plan"] = None
    if claim.base is not None and claim.resume_from is None:
        shared["base"] = BaseSpec(name=claim.base.name, file_name=_file_name(claim.base), sha256=claim.base.sha256)
        shared["plan"] = claim.plan
    shared["models"] = [
        ModelSpec(name=grant.name, file_name=_model_name(number, grant), sha256=grant.sha256)
        for number, grant in enumerate(claim.models)
    ]
    return RunSpec(**shared, resume_step=resume_step, threads=threads)
