"""The Celery message that tells a worker that an attempt waits. The database row is the truth, not this."""

TASK_NAME = "cairn.run_attempt"
"""Celery task name; called with positional arguments (job_id: int, attempt: int, slots: int)."""


def queue_name(engine: str, slots: int = 1) -> str:
    """Celery queue of jobs for `engine` that take so many slots: only workers that have them listen on it."""
    return f"cairn.{engine}" if slots == 1 else f"cairn.{engine}.slots-{slots}"


ERRAND_TASK_NAME = "cairn.do_errand"
"""Celery task name; called with the positional argument (errand_id: int)."""


def errand_queue_name(engine: str) -> str:
    """Celery queue of errands for `engine`: apart from trainings, so that none waits for a free slot."""
    return f"cairn.errands.{engine}"
