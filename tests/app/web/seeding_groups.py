"""A group of replicas with curves, an outlier and a failure, and a job that compared their models frame by frame."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from app.artifacts import service as blobs
from app.artifacts.store import BlobStore
from app.auth import AttemptIdentity
from app.jobs import metrics
from app.jobs.timeline import tell
from app.tables import Attempt, Job, JobFile, Worker
from app.tables.base import now
from app.wire.resolution import TwinFile, WeightCheck

STEPS = 600
FRAMES = 240
PEAK = 171
"""Frame on which the models disagree most."""


def curves(replica: int, steps: int, total: int, *, worse: float = 1.0) -> dict[str, "np.ndarray[Any, Any]"]:
    """Return a replica's curves, measured at every step; validation at every tenth."""
    generator = np.random.default_rng(replica)
    step = np.arange(1, steps + 1)
    fall = (1 + step / 20.0) ** -0.75

    def noisy(scale: float, floor: float) -> "np.ndarray[Any, Any]":
        return np.asarray((scale * fall + floor) * np.exp(generator.normal(0, 0.06, steps)) * worse)

    columns = {
        "step": step,
        "train/rmse_e": noisy(0.35, 0.006),
        "train/rmse_f": noisy(1.4, 0.031),
        "val/rmse_f": noisy(1.5, 0.036),
        "lr": 1e-3 * 0.1 ** (step / total),
    }
    columns["val/rmse_f"][step % 10 != 0] = np.nan
    return columns


def deviations() -> dict[str, "np.ndarray[Any, Any]"]:
    """Return deviations of the models by frame, with one large one."""
    generator = np.random.default_rng(3)
    average = 0.04 + 0.01 * generator.random(FRAMES)
    largest = average * (2.2 + 0.3 * generator.random(FRAMES))
    largest[PEAK - 1] = 0.4173
    virial = 0.01 + 0.002 * generator.random(FRAMES)
    return {
        "step": np.arange(1, FRAMES + 1),
        "devi/max_f": largest,
        "devi/avg_f": average,
        "devi/min_f": average * 0.3,
        "devi/max_v": virial * 2,
        "devi/avg_v": virial,
        "devi/min_v": virial * 0.2,
    }


def deviation_job(session: Session, store: BlobStore, replica: Job) -> Job:
    """Add a completed job of kind model-devi on the group of a replica, with its output file."""
    job = Job(
        name="deviation on water@2",
        kind="model-devi",
        engine=replica.engine,
        state="completed",
        submitted={"kind": "model-devi", "config": {"models": [f"group:{replica.group_id}"]}},
        resolved={"stride": 1},
        origins={"/stride": {"origin": "default"}},
        digest="de" * 32,
        seed=0,
        seeds={},
        determinism="seeded",
        group_id=replica.group_id,
        file_stem="deviation-water",
        checkpoint_policy={},
        step=FRAMES,
        total_steps=FRAMES,
        attempt=1,
        started_at=now(),
        ended_at=now(),
    )
    session.add(job)
    session.flush()
    blob = blobs.record_blob(session, store, store.keep_bytes(b"#       step         max_devi_v\n"))
    session.add(JobFile(job_id=job.id, name="model_devi.out", media_type="text/plain", blob_sha256=blob.sha256))
    tell(session, job.id, "completed", f"completed after {FRAMES} frames", attempt=1)
    return job


def execution(session: Session, job: Job, worker: Worker, state: str) -> Attempt:
    """Give a job its first execution."""
    attempt = Attempt(
        job_id=job.id,
        number=1,
        state=state,
        worker_id=worker.id,
        worker_name=worker.name,
        token_sha256=f"{job.id:064}",
        lease_expires_at=now(),
        started_at=now(),
    )
    session.add(attempt)
    session.flush()
    return attempt


def run(session: Session, encode: Any, job: Job, worker: Worker, columns: dict[str, Any], state: str) -> None:
    """Let a job have measured something."""
    attempt = execution(session, job, worker, "running" if state == "running" else "completed")
    job.attempt = 1
    session.flush()
    metrics.ingest(session, AttemptIdentity(attempt.id, job.id, 1), 0, encode(columns))
    job.state, job.step = state, int(columns["step"][-1])
    job.phase = "training" if state == "running" else None


def train_group(session: Session, store: BlobStore, encode: Any, jobs: Sequence[Job], worker: Worker) -> Job:
    """Let replicas have trained: the last is far off, the first goes on. Return the job that compared them."""
    for number, job in enumerate(jobs, 1):
        steps, state = (STEPS - 40, "running") if number == 1 else (STEPS, "completed")
        job.total_steps = STEPS
        run(session, encode, job, worker, curves(number, steps, STEPS, worse=3 if number == len(jobs) else 1), state)
    compared = deviation_job(session, store, jobs[0])
    run(session, encode, compared, worker, deviations(), "completed")
    return compared


def audited(session: Session, job: Job) -> None:
    """Put a seed audit on a job's timeline, and the check of its weights into its row."""
    verdicts = {"model.descriptor": "own-seed", "model.fitting_net": "own-seed", "model.type_embedding": "no-weights"}
    data = {
        name: {
            "key": f"/{name.replace('.', '/')}/seed",
            "seed": job.seeds.get(name, 7),
            "sha256": None if verdict == "no-weights" else f"{place:02x}" * 32,
            "verdict": verdict,
        }
        for place, (name, verdict) in enumerate(verdicts.items(), 160)
    }
    message = "Initial weights of 3 components checked: 2 decided by their own seeds alone, 1 without weights."
    tell(session, job.id, "audit", message, attempt=1, data=data)
    generators = {
        name: f"{place:02x}" * 32 for place, name in enumerate(("python", "numpy", "torch", "data order"), 170)
    }
    for step in (4000, 8000):
        told = {"step": step, "generators": generators}
        tell(session, job.id, "checkpoint", f"checkpoint of step {step}, 2 files, verified", attempt=1, data=told)
    job.weight_check = WeightCheck(
        identity=job.digest,
        policy="resume",
        twins={1: "completed"},
        checkpoints=[
            TwinFile(job=1, step=20_000, intact=False, problem="sha256 differs"),
            TwinFile(job=1, step=16_000, intact=True),
        ],
        decision="resume",
        summary="Found 2 checkpoints of an interrupted twin; step-20000 is corrupt (sha256 differs), continuing from step-16000.",
    ).model_dump(mode="json")
