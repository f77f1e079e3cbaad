"""The Celery message that tells a worker that an attempt waits. The database row is the truth, not this."""

TASK_NAME = "cairn.run_attempt"
"""Celery task name; called with positional arguments (job_id: int, attempt: int)."""


def queue_name(engine: str) -> str:
    """Celery queue that workers of `engine` listen on."""
    return f"cairn.{engine}"


ERRAND_TASK_NAME = "cairn.do_errand"
"""Celery task name; called with the positional argument (errand_id: int)."""


def errand_queue_name(engine: str) -> str:
    """Celery queue of errands for `engine`: apart from trainings, so that none waits for a free slot."""
    return f"cairn.errands.{engine}"
