"""A database full of content: datasets, and jobs in many states with metrics, logs, checkpoints and events."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy.orm import Session, sessionmaker

from app.artifacts import service as blobs
from app.artifacts.store import BlobStore, open_store
from app.auth import AttemptIdentity
from app.db import transaction
from app.engines.deepmd import ENGINE as DEEPMD
from app.jobs import logs, metrics, replicas, submission
from app.jobs.preparation import Prepared, prepare
from app.jobs.timeline import tell
from app.settings import Settings
from app.tables import Attempt, Checkpoint, CheckpointFile, Dataset, Job, LogChunk, Worker
from app.tables.base import now
from app.wire.datasets import DatasetSummary, Range, SystemSummary
from app.wire.submission import JobSubmit
from tests.app.web.seeding_groups import audited, train_group
from tests.app.web.seeding_models import add_models, plan

HOSTILE = '<script>document.title="owned"</script><img src=x onerror=alert(1)>'
STEPS = 20_000
BATCH = 5_000


@dataclass(frozen=True)
class Seeded:
    """Ids of what was made."""

    completed: int
    cancelled: int
    failed: int
    hostile: int
    queued: int
    running: int
    finetuned: int
    checking: int


@dataclass(frozen=True)
class SeededGroup:
    """Ids of a group, of its first replica, which runs, and of a job that compared its models."""

    group: int
    replica: int
    deviation: int


def seed_all(sessions: sessionmaker[Session], settings: Settings) -> Seeded:
    """Fill an empty database. All metrics are there, every step of them."""
    store = open_store(settings)
    at_once = settings.model_copy(update={"plan_wait_s": 0.0})
    with transaction(sessions) as session:
        add_dataset(session, store, "water", 1)
        add_dataset(session, store, "water", 2, warnings=["12 frames have forces above 50 eV/Å"])
        add_dataset(session, store, "copper-emt", 1, elements=("Cu",))
        add_models(session, store)

    def prepared(name: str, **options: Any) -> tuple[Prepared, submission.SubmitRequest]:
        document = {
            "engine": "deepmd",
            "config": config(options.pop("comment", "")),
            "name": name,
            "seed": 42,
            **options,
        }
        request = submission.SubmitRequest(document=document, digest=digest_of(name), key=None)
        return prepare(sessions, at_once, store, JobSubmit.model_validate(document)), request

    start_from = {"mode": "finetune", "base": "water@1"}
    submitted = [
        prepared("water, first try", tags=["water", "paper"]),
        prepared("water-too-slow", tags=["water"]),
        prepared("water-high-lr", tags=["water", "scan"]),
        prepared(HOSTILE[:120], tags=["<b>bold</b>"], comment=HOSTILE),
        prepared("water-waiting", priority=5),
        prepared("water-se-atten-long-run", tags=["water", "production"]),
        prepared("water-fine", config=finetune_config(), start=start_from, tags=["water"]),
        prepared("water-finer", config=finetune_config(), start=start_from),
    ]
    with transaction(sessions) as session:
        jobs = [submission.create(session, *one)[0] for one in submitted]
        live(session, store, jobs)
        return Seeded(*(job.id for job in jobs))


def seed_group(sessions: sessionmaker[Session], settings: Settings) -> SeededGroup:
    """Add a group of four replicas to a database that `seed_all` has filled: a worker is there, and data."""
    store = open_store(settings)
    document = {"engine": "deepmd", "config": config(), "name": "water-ensemble", "seed": 7, "replicas": 4}
    group = replicas.prepare(sessions, settings, store, JobSubmit.model_validate(document))
    with transaction(sessions) as session:
        worker = session.query(Worker).order_by(Worker.last_seen_at.desc()).first()
        assert worker is not None
        request = submission.SubmitRequest(document=document, digest=digest_of("group"), key=None)
        first, _ = replicas.create(session, group, request)
        assert first.group_id is not None
        members = session.query(Job).filter(Job.group_id == first.group_id).order_by(Job.replica).all()
        compared = train_group(session, store, encode, members, worker)
        return SeededGroup(first.group_id, first.id, compared.id)


def live(session: Session, store: BlobStore, jobs: Sequence[Job]) -> None:
    """Give jobs that were only submitted a past."""
    completed, cancelled, failed, hostile, _, running, finetuned, _ = jobs
    workers = [add_worker(session, "gpu-box:4711", gpus=2), add_worker(session, "login-node:99", silent=True)]
    finish(session, store, completed, workers[0], "completed", steps=STEPS)
    finish(session, store, cancelled, workers[0], "cancelled", steps=4200)
    finish(session, store, failed, workers[0], "failed", steps=1873, cause=NON_FINITE)
    cause = {**LIBRARY, "message": HOSTILE, "detail": HOSTILE}
    finish(session, store, hostile, workers[0], "failed", steps=50, cause=cause)
    start(session, store, running, workers[0], steps=12_345)
    finetuned.plan = plan().model_dump(mode="json")
    finish(session, store, finetuned, workers[0], "completed", steps=2000)
    tell(session, finetuned.id, "transfer", "61.1 % of 31,714 parameters come from water@1.", attempt=1)
    tell(
        session, finetuned.id, "fingerprint", "Weights after the transfer.", attempt=1, data={"sha256": digest_of("w")}
    )
    audited(session, running)
    session.flush()


NON_FINITE = {
    "failure": "non-finite",
    "message": "train/loss became nan at step 1873; the last good checkpoint is step 1000",
    "step": 1873,
    "hint": "Lower learning_rate.start_lr, or look for frames with very large forces.",
    "detail": None,
}
LIBRARY = {
    "failure": "library",
    "message": "RuntimeError: shape '[4, 192, 3]' is invalid for input of size 1152",
    "step": 50,
    "hint": None,
    "detail": 'Traceback (most recent call last):\n  File "trainer.py", line 12, in step\nRuntimeError: shape',
}
ENVIRONMENT = {
    "hardware": {"cpu": "AMD EPYC 7543 32-Core Processor", "cores": 32, "gpus": [{"name": "NVIDIA A100-SXM4-80GB"}]},
    "libraries": {"deepmd-kit": "3.2.0", "torch": "2.11.0+cu130", "numpy": "2.4.6"},
    "threads": {"OMP_NUM_THREADS": "2", "torch_intra_op": 2},
    "deterministic_algorithms": True,
    "code_version": "0.1.0",
}


def add_dataset(
    session: Session,
    store: BlobStore,
    name: str,
    version: int,
    *,
    elements: tuple[str, ...] = ("O", "H"),
    warnings: list[str] | None = None,
) -> Dataset:
    """Add a dataset version whose summary looks like a real one's; its archive is a few bytes."""
    blob = blobs.record_blob(session, store, store.keep_bytes(f"archive of {name}@{version}".encode() * 1000))
    row = Dataset(
        name=name,
        version=version,
        engine="deepmd",
        digest=digest_of(f"{name}@{version}"),
        blob_sha256=blob.sha256,
        size=blob.size * 700,
        source=f"upload {name}.tar.gz",
        summary=_summary(elements).model_dump(),
        warnings=warnings or [],
        created_at=now() - timedelta(days=9 - version),
    )
    session.add(row)
    session.flush()
    return row


def _summary(elements: tuple[str, ...]) -> DatasetSummary:
    systems = [
        SystemSummary(
            name=f"md-{kelvin}K",
            atoms=64 * (len(elements) + 1),
            frames=frames,
            elements={element: 64 * (index + 1) for index, element in enumerate(elements)},
            type_map=list(elements),
            labels=["energy", "force", "virial"],
        )
        for kelvin, frames in ((300, 1200), (330, 800), (600, 400), (1000, 80))
    ]
    generator = np.random.default_rng(7)
    forces = np.abs(generator.normal(0, 1.7, 50_000))
    return DatasetSummary(
        systems=systems,
        frames=sum(system.frames for system in systems),
        atoms=sum(system.frames * system.atoms for system in systems),
        elements=sorted(elements),
        type_map=list(elements),
        energy_per_atom_ev=Range(low=-155.9812, high=-155.7012),
        force_ev_per_angstrom=Range(low=-9.21, high=9.47),
        virial_per_atom_ev=Range(low=-1.2, high=1.9),
        extra={
            "energy_per_atom_histogram": _histogram(generator.normal(-155.85, 0.04, 2480)),
            "force_histogram": _histogram(forces),
            "per_system": {
                system.name: {"energy_per_atom_ev": [-155.98, -155.7], "force_ev_per_angstrom": [-9.2, 9.4]}
                for system in systems
            },
        },
    )


def _histogram(values: "np.ndarray[Any, Any]") -> dict[str, Any]:
    counts, edges = np.histogram(values, bins=40)
    return {"counts": counts.tolist(), "edges": edges.tolist()}


def add_worker(session: Session, name: str, *, gpus: int = 0, silent: bool = False) -> Worker:
    """Add a worker, heard of just now or an hour ago."""
    row = Worker(
        id=digest_of(name)[:32],
        name=name,
        host=name.split(":")[0],
        engines={"deepmd": "3.2.0"},
        versions={"torch": "2.11.0"},
        gpus=[
            {
                "index": index,
                "name": "NVIDIA A100-SXM4-80GB",
                "memory_bytes": 80 * 2**30,
                "memory_used_bytes": (60 - 58 * index) * 2**30,
                "utilisation": 97 - 97 * index,
            }
            for index in range(gpus)
        ],
        slots=max(gpus, 1),
        busy_slots=0 if silent else 1,
        last_seen_at=now() - timedelta(hours=1 if silent else 0),
    )
    session.add(row)
    session.flush()
    return row


def config(comment: str = "") -> dict[str, Any]:
    """Return the example config, for the dataset `water`."""
    document: dict[str, Any] = json.loads(DEEPMD.examples([])[""])
    document["training"]["training_data"]["systems"] = ["dataset:water@2"]
    return {"_comment": comment, **document} if comment else document


def finetune_config() -> dict[str, Any]:
    """Return a config that says only what changes."""
    whole = config()
    model = {"descriptor": {"rcut": 6.5}}
    return {"model": model, **{key: whole[key] for key in ("learning_rate", "loss", "training")}}


def start(session: Session, store: BlobStore, job: Job, worker: Worker, *, steps: int) -> Attempt:
    """Make a job look as if a worker had been at it for a while: metrics, log, checkpoints, events."""
    begun = now() - timedelta(seconds=steps / 20)
    job.state, job.attempt, job.phase, job.started_at, job.steps_per_s = "running", 1, "training", begun, 20.4
    job.created_at, job.step = begun - timedelta(seconds=8), steps
    attempt = Attempt(
        job_id=job.id,
        number=1,
        state="running",
        worker_id=worker.id,
        worker_name=worker.name,
        token_sha256=digest_of(f"token {job.id}"),
        lease_expires_at=now() + timedelta(days=1),
        environment=ENVIRONMENT,
        started_at=begun,
    )
    session.add(attempt)
    session.flush()
    tell(session, job.id, "claimed", f"claimed by {worker.name}", attempt=1)
    tell(session, job.id, "phase", "statistics", attempt=1)
    tell(session, job.id, "phase", "training", attempt=1)
    add_log(session, attempt, steps)
    add_metrics(session, attempt, steps, job.total_steps)
    for step in range(1000 if steps < 4000 else 4000, steps + 1, 4000):
        add_checkpoint(session, store, job, step, at=begun + timedelta(seconds=step / 20))
    return attempt


def finish(
    session: Session, store: BlobStore, job: Job, worker: Worker, state: str, *, steps: int, cause: Any = None
) -> None:
    """Make a job look as if it had ended."""
    attempt = start(session, store, job, worker, steps=steps)
    ended = now() - timedelta(hours=2)
    shift = ended - now()
    job.state, job.phase, job.steps_per_s, job.cause = state, None, None, cause
    job.created_at, job.started_at, job.ended_at = job.created_at + shift, attempt.started_at + shift, ended
    attempt.state, attempt.cause, attempt.ended_at, attempt.started_at = state, cause, ended, attempt.started_at + shift
    tell(session, job.id, state, cause["message"] if cause else f"{state} after {steps} steps", attempt=1)


def add_log(session: Session, attempt: Attempt, steps: int) -> None:
    """Add a log in the trainer's manner, with one hostile line."""
    lines = [f"[2026-01-01 12:00:00] step {step:>7}  rmse_e 1.2e-03  rmse_f 4.5e-02" for step in range(0, steps, 100)]
    data = "\n".join([*lines, HOSTILE, "the last line", ""]).encode()
    session.add(LogChunk(attempt_id=attempt.id, start=0, data=data))
    attempt.log_size = len(data)


def add_metrics(session: Session, attempt: Attempt, steps: int, total: int) -> None:
    """Add every step's metrics, in batches as a worker sends them."""
    identity = AttemptIdentity(attempt.id, attempt.job_id, attempt.number)
    columns = curves(steps, total)
    for seq, first in enumerate(range(0, steps, BATCH)):
        part = {key: values[first : first + BATCH] for key, values in columns.items()}
        metrics.ingest(session, identity, seq, encode(part))


def curves(steps: int, total: int) -> dict[str, "np.ndarray[Any, Any]"]:
    """Return curves that look like a training: falling, noisy, validation at every hundredth step."""
    generator = np.random.default_rng(steps)
    step = np.arange(1, steps + 1)
    fall = (1 + step / 150.0) ** -0.75

    def noisy(scale: float, floor: float) -> "np.ndarray[Any, Any]":
        return np.asarray((scale * fall + floor) * np.exp(generator.normal(0, 0.28, steps)))

    columns = {
        "step": step,
        "train/loss": noisy(90, 0.15),
        "train/rmse_e": noisy(0.35, 0.0006),
        "train/rmse_f": noisy(1.4, 0.031),
        "val/rmse_e": noisy(0.38, 0.0009),
        "val/rmse_f": noisy(1.5, 0.036),
        "lr": 1e-3 * (1e-3) ** (step // 500 * 500 / total),
        "perf/step_s": 0.049 * np.exp(generator.normal(0, 0.05, steps)),
    }
    for key in ("val/rmse_e", "val/rmse_f"):
        columns[key][step % 100 != 0] = np.nan
    return columns


def encode(part: dict[str, "np.ndarray[Any, Any]"]) -> bytes:
    """Return a batch of metrics as a worker sends it: what was not measured is null."""
    import pyarrow as pa

    keys = [key for key in part if key != "step"]
    arrays = [pa.array(part["step"], pa.int64())]
    arrays += [pa.array(part[key], pa.float64(), mask=np.isnan(part[key])) for key in keys]
    batch = pa.record_batch(arrays, names=["step", *keys])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def add_checkpoint(session: Session, store: BlobStore, job: Job, step: int, *, at: datetime) -> None:
    """Add a registered checkpoint of two small files."""
    files = [
        CheckpointFile(name=name, role=role, blob_sha256=blob.sha256, blob=blob)
        for name, role in ((f"{job.file_stem}-step{step}.pt", "checkpoint"), (f"step{step}.state", "state"))
        for blob in [blobs.record_blob(session, store, store.keep_bytes(f"{name} of job {job.id}".encode() * 4000))]
    ]
    session.add(
        Checkpoint(job_id=job.id, attempt=1, step=step, fingerprint=digest_of(str(step)), files=files, created_at=at)
    )
    tell(session, job.id, "checkpoint", f"checkpoint of step {step}, 2 files, verified", attempt=1, data={"step": step})


def digest_of(text: str) -> str:
    """Return a SHA-256 to stand for something."""
    return hashlib.sha256(text.encode()).hexdigest()


def advance(session: Session, job_id: int, step: int, *, with_metrics: bool = False) -> None:
    """Let a job make progress, as heartbeats and metrics do."""
    job = session.get_one(Job, job_id)
    attempt = session.query(Attempt).filter(Attempt.job_id == job_id).one_or_none()
    if with_metrics and attempt is not None:
        part = {key: values[job.step :] for key, values in curves(step, job.total_steps).items()}
        metrics.ingest(session, AttemptIdentity(attempt.id, job_id, 1), 1000, encode(part))
    job.step = step
    job.version += 1


def add_log_line(session: Session, job_id: int, line: str) -> None:
    """Add a line to the end of a job's log."""
    attempt = session.query(Attempt).filter(Attempt.job_id == job_id).one()
    logs.append(session, AttemptIdentity(attempt.id, job_id, 1), attempt.log_size, f"{line}\n".encode())
    session.get_one(Job, job_id).version += 1
