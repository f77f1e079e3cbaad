"""How an attempt ended, in the words of the protocol: from what the trainer left behind to the proposed end state."""

import shutil
import signal
from typing import Literal

from app.wire.jobs import Cause
from app.wire.worker import End, Heartbeat
from worker.fate import Fate
from worker.process import NO_ROOM
from worker.rundir import Result, RunDir, Status

_TAIL_BYTES = 4000
_FULL_BYTES = 1 << 20
_CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE}
_HINT_KILLED = (
    "Somebody sent the signal, or the kernel's out-of-memory killer did: look for 'Out of memory' in the host's `dmesg`. "
    "If it was memory, use fewer slots or a smaller batch."
)


def judge(run: RunDir, exit_code: int | None, fate: Fate, start_step: int) -> End:
    """Return the end to propose for a trainer that is gone. `exit_code` None: nobody knows, its forkserver died."""
    total_steps = status(run, "", start_step).total_steps
    return _ended(run, exit_code, fate, start_step).model_copy(update={"total_steps": total_steps})


def _ended(run: RunDir, exit_code: int | None, fate: Fate, start_step: int) -> End:
    result = _result(run)
    if result is not None:
        return _by_result(result, fate)
    step = status(run, "", start_step).step
    if fate.order is not None:
        # It was told to go and went, or was killed because it did not: what it saved before counts.
        return End(outcome=_stopped(fate), step=step)
    if exit_code == NO_ROOM or _disk_is_full(run):
        return End(outcome="failed", step=step, cause=disk_full(str(run.root), step))
    outcome, cause = died(run, exit_code, step)
    return End(outcome=outcome, step=step, cause=cause)


def died(
    run: RunDir, exit_code: int | None, step: int, who: str = "The trainer"
) -> tuple[Literal["interrupted", "failed"], Cause]:
    """Return how a process ended that left no word: killed, which another try may not meet again, or of its own doing."""
    if exit_code is None or (exit_code < 0 and -exit_code not in _CRASHES):
        return "interrupted", _killed(exit_code, step, who)
    return "failed", _crashed(run, exit_code, step, who)


def status(run: RunDir, phase: str, step: int) -> Heartbeat:
    """Return where the trainer says it stands, or the given phase and step while it has said nothing."""
    try:
        said = Status.model_validate_json(run.status.read_bytes())
    except (OSError, ValueError):
        return Heartbeat(phase=phase, step=step)
    step = max(step, said.step)
    return Heartbeat(phase=said.phase, step=step, total_steps=said.total_steps, steps_per_s=said.steps_per_s)


def disk_full(where: str, step: int | None = None) -> Cause:
    """Return the cause for a worker without disk space."""
    return Cause(
        failure="disk-full",
        message=f"The worker's disk is full ({where}).",
        step=step,
        hint="Free space there, or lower CAIRN_CACHE_BYTES; then retry the job: its last checkpoint is good.",
    )


def _result(run: RunDir) -> Result | None:
    try:
        return Result.model_validate_json(run.result.read_bytes())
    except (OSError, ValueError):
        return None


def _by_result(result: Result, fate: Fate) -> End:
    if result.outcome == "stopped":
        return End(outcome=_stopped(fate), step=result.step, cause=result.cause)
    return End(outcome=result.outcome, step=result.step, cause=result.cause)


def _stopped(fate: Fate) -> Literal["stopped", "interrupted"]:
    """The server asked for it, or else this worker has to go."""
    return "stopped" if fate.stop is not None else "interrupted"


def _killed(exit_code: int | None, step: int, who: str) -> Cause:
    by = "with its forkserver" if exit_code is None else f"by {_name(-exit_code)}"
    return Cause(failure="killed", message=f"{who} was killed {by} after step {step}.", step=step, hint=_HINT_KILLED)


def _crashed(run: RunDir, exit_code: int, step: int, who: str) -> Cause:
    how = f"crashed with {_name(-exit_code)}" if exit_code < 0 else f"ended with exit code {exit_code}"
    return Cause(
        failure="library",
        message=f"{who} {how} after step {step} without saying why.",
        step=step,
        hint="The end of its log says where it was.",
        detail=_tail(run),
    )


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _tail(run: RunDir) -> str | None:
    try:
        with run.log.open("rb") as file:
            file.seek(max(0, run.log.stat().st_size - _TAIL_BYTES))
            return file.read().decode(errors="replace") or None
    except OSError:
        return None


def _disk_is_full(run: RunDir) -> bool:
    return shutil.disk_usage(run.root).free < _FULL_BYTES
