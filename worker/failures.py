"""From an exception to the cause that a job's page shows."""

import errno
import re
import traceback

from app.wire.jobs import Cause

_DATA_PHASES = frozenset({"data", "neighbours", "statistics"})
_WRONG_VALUES = (ValueError, TypeError, KeyError, IndexError, NotImplementedError, AssertionError)
_DETAIL_CHARS = 8000
_NOT_DETERMINISTIC = re.compile(r"^(\S+) does not have a deterministic implementation")
"""How torch refuses an operation under `torch.use_deterministic_algorithms` (aten/src/ATen/Context.cpp)."""


class TrainingFailure(Exception):
    """An end that the trainer understands: its class, what happened and what to do."""

    def __init__(
        self, failure: str, message: str, *, hint: str | None = None, step: int | None = None, detail: str | None = None
    ) -> None:
        super().__init__(message)
        self.cause = Cause.model_validate(
            {"failure": failure, "message": message, "hint": hint, "step": step, "detail": detail}
        )


def cause_of(error: BaseException, phase: str, step: int | None = None) -> Cause:
    """Return why a training ended with `error` while in `phase`, after `step` steps."""
    if isinstance(error, TrainingFailure):
        detail = error.cause.detail or _detail(error)
        return error.cause.model_copy(update={"step": error.cause.step or step, "detail": detail})
    if isinstance(error, OSError) and is_disk_full(error):
        message = f"No space left for {error.filename or 'the run directory'} while in phase {phase!r}."
        return Cause(
            failure="disk-full", message=message, step=step, hint="Free disk space on the worker, then resume."
        )
    if is_out_of_memory(error):
        hint = "Lower the batch size or use a worker with more memory."
        return Cause(failure="out-of-memory", message=_first_line(error), step=step, hint=hint, detail=_detail(error))
    if operation := _NOT_DETERMINISTIC.match(str(error)):
        message = f"The operation {operation[1]} has no deterministic implementation, which level strict asks for."
        hint = "Submit it with `determinism: seeded`, or without the part of the model that needs this operation."
        return Cause(failure="configuration", message=message, step=step, hint=hint, detail=_detail(error))
    return Cause.model_validate(
        {
            "failure": _class_by_phase(error, phase),
            "message": _first_line(error),
            "step": step,
            "detail": _detail(error),
        }
    )


def is_disk_full(error: OSError) -> bool:
    """Tell whether there is no room left: full disk or quota."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an allocation failed, on the device or on the host."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error)
    words = ("out of memory", "can't allocate memory", "Cannot allocate memory", "std::bad_alloc")
    return isinstance(error, RuntimeError | OSError) and any(word in text for word in words)


def _class_by_phase(error: BaseException, phase: str) -> str:
    if type(error).__module__.startswith("dargs"):
        return "configuration"
    if phase in _DATA_PHASES and isinstance(error, (*_WRONG_VALUES, OSError, RuntimeError)):
        return "data"
    if phase == "model" and isinstance(error, _WRONG_VALUES):
        return "configuration"
    return "library"


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _detail(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))[-_DETAIL_CHARS:]
