"""The one Celery task: the doorbell."""

import logging
from functools import partial

from celery import Celery

from app.wire.doorbell import TASK_NAME
from worker.runtime import Runtime
from worker.supervisor import supervise

log = logging.getLogger(__name__)


def register(app: Celery, runtime: Runtime) -> None:
    """Let `app` answer doorbells with this runtime."""

    def ring(job_id: int, attempt: int, slots: int = 1) -> None:
        answer_doorbell(runtime, job_id, attempt, slots)

    app.task(name=TASK_NAME, ignore_result=True, acks_late=False)(ring)


def answer_doorbell(runtime: Runtime, job_id: int, attempt: int, slots: int) -> None:
    """Claim the job and see its attempt through; do nothing when it is not to be had."""
    still_waits = partial(runtime.should_wait, job_id, attempt)
    try:
        with runtime.slots.take(runtime.shutdown.requested, slots, still_waits) as slot:
            claim = runtime.claim(job_id, attempt, slots) if slot is not None else None
            if claim is None or slot is None:
                return
            runtime.slots.trim(slot, claim.ranks)  # a more urgent job may take fewer
            with runtime.supervising(claim.attempt_id):
                supervise(runtime, claim, slot)
    finally:
        runtime.on_free_slot()  # also after a message that was about nothing: the next one may be about something
