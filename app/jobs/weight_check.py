"""What follows from the jobs that train the same as a new submission: an ordered decision, and its reasons in words. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from app.errors import Conflict
from app.wire.jobs import of_all
from app.wire.resolution import TwinFile, WeightCheck
from app.wire.states import JobState
from app.wire.submission import OnExisting

Role = Literal["completed", "live", "paused", "interrupted"]


@dataclass(frozen=True)
class Twin:
    """Another job of the same identity, as far as the decision depends on it."""

    job: int
    state: JobState
    step: int
    total_steps: int
    checkpoints: int = 0
    """How many it has."""
    newest: int | None = None
    """The step of the newest of them."""
    group: int | None = None
    files: tuple[TwinFile, ...] = ()
    """Those that were hashed again, newest first."""

    @property
    def role(self) -> Role:
        """What it counts as: a completed job whose last weights are damaged can only be gone on from."""
        if self.state == "completed":
            return "interrupted" if self.files and not self.files[0].intact else "completed"
        if self.state in ("failed", "cancelled"):
            return "interrupted"
        return "paused" if self.state == "paused" else "live"

    @property
    def words(self) -> str:
        """The job and where it stands: `job 17, failed at step 4200 of 10000`."""
        where = "after" if self.state == "completed" else "at"
        return f"job {self.job}, {self.state} {where} step {of_all(self.step, self.total_steps)}"


def decide(identity: str, policy: OnExisting | None, twins: Sequence[Twin]) -> WeightCheck:
    """Return what becomes of a submission that some jobs, newest first, are twins of."""
    check = WeightCheck(
        identity=identity,
        policy=policy,
        twins={twin.job: twin.state for twin in twins},
        checkpoints=[file for twin in twins for file in twin.files],
        decision="scratch",
        summary="No other job trains the same.",
    )
    standing = _standing(twins)
    best = _best(twins)
    if not twins:
        return check
    if policy == "new":
        return _decided(check, "scratch", None, f"{_all(twins)}. From the start all the same, as asked.")
    if policy == "fail":
        return _decided(check, "refused", standing or twins[0], f"{_all(twins)}.")
    if standing is not None:
        return _about_standing(check, standing, twins)
    if policy == "reuse":
        return _decided(check, "scratch", None, f"{_all(twins)}, so there is nothing to reuse: from the start.")
    if best is None:
        early = next((twin for twin in twins if twin.files), twins[0])
        return _decided(check, "scratch", None, f"{_found(early, twins)}: from the start.")
    chosen = next(twin for twin in twins if twin.job == best.job)
    decided = _decided(check, "resume", chosen, _resumed(chosen, best, twins))
    return decided.model_copy(update={"step": best.step})


def _about_standing(check: WeightCheck, twin: Twin, twins: Sequence[Twin]) -> WeightCheck:
    """Return what becomes of a submission whose training is done, or is somebody's already."""
    if check.policy is None or twin.role == "paused":
        return _decided(check, "refused", twin, f"{_all(twins, first=twin)}.")
    goes_on = "" if twin.role == "completed" else ", and goes on"
    return _decided(check, "reuse", twin, f"{_all(twins, first=twin)}{goes_on}: it is the answer.")


def _decided(
    check: WeightCheck, decision: Literal["scratch", "resume", "reuse", "refused"], twin: Twin | None, words: str
) -> WeightCheck:
    summary = words[0].upper() + words[1:]
    return check.model_copy(update={"decision": decision, "twin": twin and twin.job, "summary": summary})


def _standing(twins: Sequence[Twin]) -> Twin | None:
    """Return the newest twin that is completed; else one that is on its way, else one that is paused."""
    return next((twin for role in ("completed", "live", "paused") for twin in twins if twin.role == role), None)


def _best(twins: Sequence[Twin]) -> TwinFile | None:
    """Return the newest good checkpoint of those that ended early; of several of one step that of the newest job."""
    good = [file for twin in twins if twin.role == "interrupted" for file in twin.files if file.intact]
    return max(good, key=lambda file: (file.step, file.job), default=None)


def _all(twins: Sequence[Twin], first: Twin | None = None) -> str:
    """Name the twins, one of them with where it stands: `job 17, …, is the same training (so are jobs 15, 12)`."""
    first = first or twins[0]
    others = [str(twin.job) for twin in twins if twin is not first]
    more = f" (and so {'is job' if len(others) == 1 else 'are jobs'} {', '.join(others)})" if others else ""
    return f"{first.words}, is the same training{more}"


def _found(twin: Twin, twins: Sequence[Twin]) -> str:
    """Say what was found of a twin that ended early, and name every checkpoint that is not good."""
    kind = "a completed" if twin.state == "completed" else "an interrupted"
    number = f"{twin.checkpoints} checkpoint{'' if twin.checkpoints == 1 else 's'}"
    found = f"found {number if twin.checkpoints else 'no checkpoint'} of {kind} twin ({twin.words})"
    damaged = [file for other in twins for file in other.files if not file.intact]
    return found + "".join(f"; {_place(file, twin)} is {in_words(file)}" for file in damaged)


def _place(file: TwinFile, twin: Twin) -> str:
    return f"step-{file.step}" if file.job == twin.job else f"step-{file.step} of job {file.job}"


def in_words(file: TwinFile) -> str:
    """Return what is wrong with a checkpoint: `missing`, `corrupt (sha256 differs)`."""
    return "missing" if file.problem == "missing" else f"corrupt ({file.problem})"


def _resumed(twin: Twin, best: TwinFile, twins: Sequence[Twin]) -> str:
    found = _found(twin, twins)
    if all(file.intact for other in twins for file in other.files):
        return f"{found}; step-{best.step} is intact, continuing from it."
    return f"{found}, continuing from step-{best.step}."


def refusal(check: WeightCheck) -> Conflict:
    """Return the error of a submission that was refused because of a twin: what there is, and the four choices."""
    assert check.twin is not None, "a refusal is about a job"
    advice = (
        f"`cairn resume {check.twin}` lets it go on. Or choose" if check.twins[check.twin] == "paused" else "Choose"
    )
    return Conflict(
        check.summary,
        code="twin-exists",
        pointer="/on_existing",
        hint=f"{advice} with on_existing (`--on-existing …`): {CHOICES}.",
    )


CHOICES = (
    "reuse takes the job that is there, resume goes on from its newest good checkpoint (one that is completed or runs is "
    "the answer itself), new trains from the start all the same, fail always refuses"
)
