"""The Celery message that tells a worker that an attempt waits. The database row is the truth, not this."""

TASK_NAME = "cairn.run_attempt"
"""Celery task name; called with positional arguments (job_id: int, attempt: int)."""


def queue_name(engine: str) -> str:
    """Celery queue that workers of `engine` listen on."""
    return f"cairn.{engine}"
