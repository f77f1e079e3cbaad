"""Whether an interrupted job is, bit for bit, the run that it would have been otherwise: what proves it, or why not. Pure.

Only what was recorded counts. A single execution cannot have been disturbed: there, exact means that it can be repeated.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from app.jobs.comparison import differing
from app.wire.comparison import Difference
from app.wire.jobs import Exactness
from app.wire.states import Verdict
from app.wire.submission import Determinism

Json = Any

Begin = Literal["scratch", "base", "weights", "checkpoint"]
"""What an execution began with.

scratch: nothing but seeds. base: tensors of a base, by a plan. weights: a base that is resumed, which may hold no more than
weights and optimizer. checkpoint: full state, the random generators as well; every file's SHA-256 was verified.
"""

HARMLESS = frozenset({"CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES"})
"""Variables that say which of several devices is used. What kind it is, is compared itself."""

NAMES = {
    "/cpu/vector": "vector units",
    "/libc": "the C library",
    "/torch/cuda": "CUDA",
    "/torch/cudnn": "cuDNN",
    "/torch/cpu_capability": "CPU capability",
    "/code": "code version",
}
"""What people call a place in an environment, where its last word is not it."""


@dataclass(frozen=True)
class Execution:
    """An execution as far as it matters here."""

    name: str
    """`execution 2`, or of a job that this one continues `execution 2 of job 17`."""
    start_step: int
    begin: Begin | None
    """None: it was not recorded."""
    environment: Mapping[str, Json] | None
    inexact: Sequence[str] = ()
    """What the execution itself has found wrong with what it went on from, in words."""


@dataclass(frozen=True)
class History:
    """All that is known of a job, those that it continues included."""

    level: Determinism
    start_step: int
    """Where its first execution began: 0, unless it resumes a base."""
    draws_weights: bool
    """Whether any weights are drawn from seeds: not when it resumes a base, or trains nothing."""
    audit: str | None
    """What the seed audit found, in words; None: it was not recorded."""
    executions: Sequence[Execution]
    """Oldest first."""
    verdicts: Mapping[int, Verdict]
    """How the job compares with those that ran the same spec, by job."""
    trains: bool = True


def exactness(history: History) -> Exactness | None:
    """Return whether a job is exact; None before its first execution."""
    counting = _counting(history.executions)
    if not counting:
        return None
    repeated = [f"{_ran_again(job)}: identical" for job, said in history.verdicts.items() if said == "identical"]
    diverged = [f"{_ran_again(job)}: not identical" for job, said in history.verdicts.items() if said == "diverged"]
    reasons = [
        *_inexact_level(history.level, counting),
        *_inexact_beginnings(history.start_step, counting),
        *_inexact_moves(counting),
        *(f"{execution.name}: {words.removesuffix('.')}" for execution in counting for words in execution.inexact),
        *_unaudited(history),
    ]
    derived = [] if reasons else list(_proof(history, counting))
    if repeated and not diverged:  # seen is more than derived
        return Exactness(exact=True, proof=[*repeated, *derived])
    reasons += diverged
    return Exactness(exact=not reasons, reasons=reasons, proof=repeated if reasons else derived)


def _counting(executions: Sequence[Execution]) -> list[Execution]:
    """Return the executions of which something is left: the next one began later than they did."""
    counting: list[Execution] = []
    for execution in executions:
        while counting and counting[-1].start_step >= execution.start_step:
            counting.pop()
        counting.append(execution)
    return counting


def _ran_again(job: int) -> str:
    return f"job {job} ran the same from its frozen spec"


def _inexact_level(level: Determinism, executions: Sequence[Execution]) -> Iterator[str]:
    """Say which executions may have computed in another order each time."""
    if level == "fast":
        yield "the determinism level is fast, which allows operations that add in another order each time; strict does not"
        return
    for execution in executions:
        if execution.environment is None:
            yield f"it is not recorded what {execution.name} ran on"
        elif why := _loose(level, execution.environment):
            yield f"{execution.name} ran {why}"


def _loose(level: Determinism, environment: Mapping[str, Json]) -> str | None:
    """Return how an execution ran, if not so that its operations have one order."""
    if _at(environment, "determinism", "deterministic_algorithms") is True:
        return None
    if level == "strict":
        return "without a record that only deterministic algorithms were allowed"
    if gpus := _gpus(environment):
        return f"on {gpus[0]} at level seeded, which allows operations that add in another order each time; strict does not"
    threads = _at(environment, "torch", "threads")
    if threads == 1:
        return None
    on = f"on {threads} threads" if threads else "on an unknown number of threads"
    return f"{on} at level seeded, where some operations may add in another order each time; strict fixes it"


def _inexact_beginnings(start_step: int, executions: Sequence[Execution]) -> Iterator[str]:
    for execution in executions:
        where = f"{execution.name} went on from step {execution.start_step}"
        if execution.start_step <= start_step or execution.begin == "checkpoint":
            continue
        if execution.begin is None:
            yield f"{where}, and it is not recorded from what"
        else:
            yield f"{where} without the state of the random generators"


def _inexact_moves(executions: Sequence[Execution]) -> Iterator[str]:
    known = [execution for execution in executions if execution.environment is not None]
    for before, after in pairwise(known):
        for difference in differing(_decisive(before.environment or {}), _decisive(after.environment or {})):
            yield _in_words(before.name, after.name, difference)


def _decisive(environment: Mapping[str, Json]) -> dict[str, Json]:
    """Return what of an environment can change bits: neither the host's name nor how much memory it has."""
    torch = {**_section(environment, "torch")}
    torch.pop("interop_threads", None)  # for operators that run beside each other, which a training has none of
    return {
        "python": environment.get("python"),
        "libc": str(environment.get("platform", "")).partition("-with-")[2],
        "cpu": {key: _at(environment, "cpu", key) for key in ("model", "vector")},
        "gpus": [
            {key: gpu.get(key) for key in ("name", "capability", "driver")} for gpu in environment.get("gpus", ())
        ],
        "libraries": _section(environment, "libraries"),
        "torch": torch,
        "determinism": _section(environment, "determinism"),
        "ranks": _at(environment, "ranks", "count"),
        "variables": {k: v for k, v in _section(environment, "variables").items() if k not in HARMLESS},
        "code": environment.get("code"),
    }


def _in_words(before: str, after: str, found: Difference) -> str:
    if found.pointer == "/cpu/model" or (found.pointer.startswith("/gpus/") and found.pointer.endswith("/name")):
        return f"{after} ran on {found.right or 'no such device'}, {before} on {found.left or 'no such device'}"
    name = next((words for at, words in NAMES.items() if found.pointer.startswith(at)), found.pointer.split("/")[-1])
    return f"{after} ran with {name} {_value(found.right)}, {before} with {_value(found.left)}"


def _value(value: Json) -> str:
    return "none" if value in (None, "") else str(value)


def _unaudited(history: History) -> Iterator[str]:
    if history.draws_weights and history.audit is None:
        yield "no seed audit is recorded, so that it is not known whether every seed arrives"


def _proof(history: History, executions: Sequence[Execution]) -> Iterator[str]:
    environment = executions[0].environment or {}
    device = (_gpus(environment) or [_at(environment, "cpu", "model") or "an unnamed CPU"])[0]
    threads = _at(environment, "torch", "threads")
    ranks = _at(environment, "ranks", "count")
    if _at(environment, "determinism", "deterministic_algorithms") is True:
        count = f"{threads} thread" + ("" if threads == 1 else "s")
        each = f" each of {ranks} ranks" if ranks else ""
        yield f"only deterministic algorithms were allowed (level {history.level}; {device}, {count}{each})"
    else:
        one = f"one thread of each of {ranks} ranks" if ranks else "one thread"
        yield f"{one} on {device} computes in one order (level {history.level})"
    if ranks:
        backend = _at(environment, "ranks", "backend")
        yield f"the weights of all {ranks} ranks were compared at the start and at every checkpoint (sums by {backend})"
    if len(executions) == 1:
        yield "it ran in one execution, so that there was nothing to restore: exact means that it can be repeated"
    else:
        steps = ", ".join(str(execution.start_step) for execution in executions[1:])
        yield (
            f"{len(executions)} executions: each went on from a checkpoint of the full state whose SHA-256 was verified "
            f"(steps {steps})"
        )
        yield "all of them ran on the same hardware, threads, libraries, variables and code"
    if history.audit is not None:
        yield history.audit.removesuffix(".")
    elif history.trains:
        yield f"no weights were drawn: it resumes step {history.start_step} of its base"


def _gpus(environment: Mapping[str, Json]) -> list[str]:
    return [str(gpu.get("name")) for gpu in environment.get("gpus", ())]


def _section(environment: Mapping[str, Json], name: str) -> Mapping[str, Json]:
    section = environment.get(name)
    return section if isinstance(section, Mapping) else {}


def _at(environment: Mapping[str, Json], section: str, key: str) -> Json:
    return _section(environment, section).get(key)
