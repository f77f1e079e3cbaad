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

_NO_MEMORY = ("out of memory", "DefaultCPUAlloc", "Cannot allocate memory", "std::bad_alloc", "_ALLOC_FAILED")
"""What allocators say: CUDA's, torch's on the host, the operating system's, C++'s; cuBLAS and cuDNN in their status.

Where not a byte is left, torch's own message breaks off after these fifteen characters: a string of C++ holds no more
without memory of its own.
"""

_WANTED = re.compile(r"tried to allocate (\d+) bytes")
"""How torch says on the host what it wanted; on a GPU it says it in GiB itself."""


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
            failure="disk-full", message=message, step=step, hint="Free disk space on the worker, then retry the job."
        )
    if is_out_of_memory(error):
        return _out_of_memory(error, phase, step)
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


def _out_of_memory(error: BaseException, phase: str, step: int | None) -> Cause:
    """Return the cause of a failed allocation. Before there is a batch, a smaller one would not help."""
    less = "the model's layers or their number" if phase == "model" else "the batch size"
    wanted = _WANTED.search(str(error))
    size = f" It wanted {int(wanted[1]) / (1 << 30):.1f} GiB at once." if wanted else ""
    return Cause(
        failure="out-of-memory",
        message=f"Out of memory in phase {phase}.{size} {_first_line(error)}",
        step=step,
        hint=f"Lower {less}, or use a worker with more memory.",
        detail=_detail(error),
    )


def is_disk_full(error: OSError) -> bool:
    """Tell whether there is no room left: full disk or quota."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an allocation failed, on the device or on the host."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error)
    return isinstance(error, RuntimeError | OSError) and any(word in text for word in _NO_MEMORY)


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
