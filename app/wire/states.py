"""The kinds and states of jobs, and what comparing two of them says."""

from typing import Annotated, Literal

from pydantic import Field

JobKind = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,15}$")]
"""train, or what else the engine does (`EngineView.tasks`): an unknown kind is refused with the names there are."""

JobState = Literal["checking", "queued", "running", "stopping", "paused", "completed", "failed", "cancelled"]

FINAL_STATES: frozenset[str] = frozenset({"completed", "failed", "cancelled"})
"""States in which a job is over. Only a retry, which somebody has to ask for, leaves failed and cancelled."""

Verdict = Literal["identical", "identical-so-far", "diverged", "not-comparable"]
"""What comparing two runs bit for bit says.

identical: both ended at the same step, and all that both recorded is equal. identical-so-far: the same, but one goes on
or ended earlier. diverged: a metric or a fingerprint differs. not-comparable: nothing was recorded of the same step.
"""
