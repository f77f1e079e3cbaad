"""One attempt, from the claim to the report. All HTTP of an attempt is on this side; the trainer only writes files."""

import logging
import time
import traceback
from contextlib import ExitStack
from typing import Literal

from app.wire.jobs import Cause
from app.wire.worker import Claim, End, Heartbeat
from worker import client, verdict, workdir
from worker.cache import CorruptBlob
from worker.children import ForkserverDown, TrainerProcess
from worker.failures import is_disk_full
from worker.fate import Fate, Ordered
from worker.lease import Lease
from worker.prepare import CheckpointLost, prepare
from worker.rundir import RunDir, write_atomically
from worker.runtime import Runtime
from worker.shipper import Delivery, Shipper, Timeline
from worker.slots import Slot
from worker.throttle import Throttle
from worker.uploads import Uploads

log = logging.getLogger(__name__)

Failure = Literal["data", "killed", "library", "protocol"]

WATCH_S = 0.2
NOW_GRACE_S = 5.0
"""Seconds between `stop now` and the kill: enough to end a step and spool its metrics, not to write a checkpoint."""
HURRIED_S = 5.0
"""Seconds that deliveries may still take when the worker is told to go a second time."""


def supervise(runtime: Runtime, claim: Claim, slot: Slot) -> None:
    """Run a claimed attempt to its end. Leaves nothing behind: no process, no directory, no lease."""
    attempt = _Attempt(runtime, claim, slot)
    try:
        with workdir.fresh(runtime.settings.work_path, claim.job_id, claim.attempt) as run:
            attempt.carry_out(run)
    except workdir.RunDirInUse as error:
        attempt.end(attempt.interrupted("protocol", str(error)))
    except OSError as error:
        attempt.end(attempt.own_fault(error))


class _Attempt:
    def __init__(self, runtime: Runtime, claim: Claim, slot: Slot) -> None:
        self.runtime = runtime
        self.claim = claim
        self.slot = slot
        self.label = f"job={claim.job_id} attempt={claim.attempt}"
        self.fate = Fate(runtime.shutdown)
        self.ordered = Ordered(self.fate)
        self.api = runtime.api.for_attempt(claim, self.fate.abandon)
        self.timeline = Timeline(claim.next_event_seq)
        self.start_step = claim.resume_from.step if claim.resume_from else 0
        self.phase: str | None = "fetching"
        """What the supervisor does now; None while the trainer speaks for itself."""

    def carry_out(self, run: RunDir) -> None:
        log.info("%s claimed: %s, %s", self.label, self.claim.job_name, self._start())
        shipper = Shipper(self.api, run, self.timeline, self.label)
        uploads = Uploads(
            self.api, run, self.runtime.cache, self.claim.checkpoints, self.label, self.timeline.put,
            throttle=Throttle(self.runtime.settings.upload_bytes_per_s),
        )  # fmt: skip
        ship = Delivery(f"ship {self.label}", shipper.ship, self.fate, shipper.pace.pause_s)
        upload = Delivery(f"upload {self.label}", uploads.upload, self.fate)
        with Lease(self.api, self.claim, self.fate, lambda: self._describe(run)), ExitStack() as in_use:
            ship.start()
            upload.start()
            proposal = self._run(run, in_use)
            uploads.throttle.lift()
            self._flush(ship, upload)
            if self.fate.broken is not None:
                proposal = self.interrupted("library", f"The worker failed, not the training: {self.fate.broken}")
            proposal = _without_lost_output(proposal, uploads)
            if proposal.outcome == "interrupted":
                uploads.keep_newest()
            self.end(proposal)

    def _run(self, run: RunDir, in_use: ExitStack) -> End:
        """Prepare and train; whatever goes wrong becomes the end to propose."""
        try:
            if not self._prepare(run, in_use):
                return self._stopped_before()
            return self._train(run)
        except CheckpointLost as error:
            return self.interrupted("data", str(error))
        except (client.Refused, CorruptBlob) as error:
            return self._failed("data", str(error))
        except client.AttemptSuperseded as error:
            self.fate.supersede(str(error))
            return self._stopped_before()
        except ForkserverDown as error:
            return self._stopped_before() if self.fate.order else self.interrupted("killed", str(error))
        except Exception as error:  # noqa: BLE001 - an attempt must end, whatever we did wrong
            return self.own_fault(error)

    def _prepare(self, run: RunDir, in_use: ExitStack) -> bool:
        """Fetch until it is all here; return False when the attempt was stopped meanwhile."""
        pause_s = 0.5
        api = self.runtime.api.for_attempt(self.claim, self.ordered)
        while self.fate.order is None:
            try:
                prepare(api, self.claim, self.runtime.cache, run, self.runtime.threads, in_use, self.timeline.put)
            except client.Unreachable as error:
                log.warning("%s fetching is interrupted, goes on in %.1f s: %s", self.label, pause_s, error)
                self.ordered.wait(pause_s)
                pause_s = min(5.0, pause_s * 2)
            else:
                return self.fate.order is None
        return False

    def _train(self, run: RunDir) -> End:
        self.phase = "starting"
        trainer = self.runtime.forkserver.spawn(self.runtime.entry, run.root, self.slot.environment, self.ordered)
        log.info("%s trainer pid=%s started", self.label, trainer.pid)
        self.phase = None
        try:
            self._watch(run, trainer)
        finally:
            if not trainer.exited.is_set():
                trainer.kill()
        self.phase = "shipping"
        log.info("%s trainer pid=%s gone, exit code %s", self.label, trainer.pid, trainer.exit_code)
        return verdict.judge(run, trainer.exit_code, self.fate, self.start_step)

    def _watch(self, run: RunDir, trainer: TrainerProcess) -> None:
        """Wait for the trainer's end, and pass orders on: a signal first, after the grace the kill."""
        obeyed: str | None = None
        kill_at = float("inf")
        while not trainer.wait(WATCH_S):
            order = self.fate.order
            if self.fate.superseded is not None or self.fate.shutdown.hurried.is_set():
                trainer.kill()
            elif order is not None and order != obeyed:
                log.info("%s telling the trainer to stop (%s): %s", self.label, order, self._why())
                kill_at = time.monotonic() + self._tell(run, trainer, order)
                obeyed = order
            if time.monotonic() > kill_at:
                log.warning("%s the trainer did not stop in time and is killed", self.label)
                self.timeline.put("warning", "The trainer did not stop in time and was killed.")
                trainer.kill()
                kill_at = float("inf")

    def _tell(self, run: RunDir, trainer: TrainerProcess, order: str) -> float:
        """Tell the trainer how to stop; return the seconds it has for it."""
        if order == "now":
            write_atomically(run.stop, b"now", durable=False)  # read while empty it would say something else
            return NOW_GRACE_S
        trainer.stop()
        return self.runtime.settings.stop_grace_s

    def _flush(self, *deliveries: Delivery) -> None:
        """Deliver what is left. Without limit while the worker stays: an API that is away comes back.

        When a delivery broke, what another one waits for may never come: a checkpoint waits for its metrics.
        """
        for delivery in deliveries:
            delivery.finish()
        deadline = self._deadline()
        for delivery in deliveries:
            while not delivery.wait(WATCH_S) and time.monotonic() < deadline:
                deadline = min(deadline, self._deadline(), self._broken_deadline())
        if time.monotonic() >= deadline:
            log.warning("%s not everything could be delivered", self.label)
            self.fate.abandon.set()

    def _deadline(self) -> float:
        if self.fate.shutdown.hurried.is_set():
            return time.monotonic() + HURRIED_S
        if self.fate.shutdown.requested.is_set():
            return time.monotonic() + self.runtime.settings.flush_s
        return float("inf")

    def _broken_deadline(self) -> float:
        patience_s = self.runtime.settings.flush_s if self.fate.broken is not None else float("inf")
        return time.monotonic() + patience_s

    def end(self, proposal: End) -> None:
        """Propose the end until the server has heard it, or does not want to."""
        deadline, pause_s = self._deadline(), 0.5
        while self.fate.superseded is None:
            try:
                answer = client.end(self.api, proposal)
            except client.AttemptSuperseded as error:
                self.fate.supersede(str(error))
            except client.Refused as error:
                log.error("%s end refused: %s", self.label, error)  # noqa: TRY400
                return
            except client.Unreachable as error:
                deadline = min(deadline, self._deadline())
                if time.monotonic() >= deadline:
                    log.warning("%s ended as %s, untold: %s", self.label, proposal.outcome, error)
                    return
                time.sleep(pause_s)
                pause_s = min(5.0, pause_s * 2)
            else:
                cause = f" ({proposal.cause.message})" if proposal.cause else ""
                log.info("%s ended as %s%s, the job is %s", self.label, proposal.outcome, cause, answer.job_state)
                return
        log.info("%s superseded, dropped: %s", self.label, self.fate.superseded)

    def _describe(self, run: RunDir) -> Heartbeat:
        said = verdict.status(run, self.phase or "starting", self.start_step)
        return said.model_copy(update={"phase": self.phase}) if self.phase is not None else said

    def _start(self) -> str:
        return f"from step {self.start_step}" if self.start_step else "from the start"

    def _why(self) -> str:
        if self.fate.stop is not None:
            return self.fate.stop.reason or "the server wants it"
        if self.fate.broken is not None:
            return self.fate.broken
        return "this worker shuts down"

    def _stopped_before(self) -> End:
        """Return the end of an attempt that was stopped before its trainer started."""
        outcome: Literal["stopped", "interrupted"] = "stopped" if self.fate.stop is not None else "interrupted"
        return End(outcome=outcome, step=self.start_step)

    def _failed(self, failure: Failure, message: str, detail: str | None = None) -> End:
        cause = Cause(failure=failure, message=message, detail=detail)
        return End(outcome="failed", step=self.start_step, cause=cause)

    def own_fault(self, error: Exception) -> End:
        """Return the end of an attempt that met a full disk or a mistake of this worker's."""
        if isinstance(error, OSError) and is_disk_full(error):
            where = str(error.filename or self.runtime.settings.work_path)
            return End(outcome="failed", step=self.start_step, cause=verdict.disk_full(where))
        log.error("%s the supervisor itself failed", self.label, exc_info=error)
        message = f"The worker failed, not the training: {type(error).__name__}: {error}"
        return self._failed("library", message, "".join(traceback.format_exception(error))[-4000:])

    def interrupted(self, failure: Failure, message: str) -> End:
        cause = Cause(failure=failure, message=message)
        return End(outcome="interrupted", step=self.start_step, cause=cause)


def _without_lost_output(proposal: End, uploads: Uploads) -> End:
    """A job whose last checkpoint or whose files did not arrive is not completed: it goes on from what did."""
    lost = [
        f"The last checkpoint was not kept: {why}" for step, why in uploads.refused.items() if step == proposal.step
    ]
    lost += [f"The file {name} was not kept: {why}" for name, why in uploads.refused_files.items()]
    if proposal.outcome != "completed" or not lost:
        return proposal
    cause = Cause(failure="data", message=lost[0], step=proposal.step)
    return End(outcome="interrupted", step=proposal.step, cause=cause)
