"""Jobs of another kind than train: what their submission may say, and what it resolves to."""

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from pydantic import ValidationError

from app.engines import registry
from app.engines.base import DatasetFacts, DataUse, Engine, EngineResolution, Model, Task
from app.engines.documents import canonical, malformed
from app.errors import Invalid
from app.resolve import below, check_origins, missing_data
from app.tables import Job
from app.validation import problems_of
from app.wire.models import GroupRef
from app.wire.problems import Notice, Problem
from app.wire.resolution import Resolution
from app.wire.submission import JobSubmit

_OF_TRAININGS = {
    "start": "starts from no base",
    "checkpoints": "has no models to keep",
    "resources": "runs in one process",
    "test_on": "has no checkpoints to test",
    "test_at": "has no checkpoints to test",
    "test_every": "has no checkpoints to test",
}
"""Keys of a submission that only trainings have a use for, and why."""


def find(engine: Engine, kind: str) -> Task | None:
    """Return what an engine does for jobs of a kind; None for trainings. Raises Invalid when it does not do it."""
    task = engine.tasks.get(kind)
    if task is None and kind != "train":
        there_are = ", ".join(["train", *engine.tasks])
        message = f"{engine.name} has no jobs of kind {kind}"
        raise Invalid([Problem(code="unknown-kind", message=message, pointer="/kind", hint=f"There is: {there_are}.")])
    return task


def data_uses(engine: Engine, kind: str, config: Mapping[str, Any]) -> Iterable[DataUse]:
    """Yield every place of a config that names data, whatever kind of job it is for. Survives a malformed config."""
    task = engine.tasks.get(kind)
    return task.data_uses(config) if task else engine.data_uses(config)


def unit(job: Job) -> str:
    """Return what a step of a job is."""
    task = registry.task(job.engine, job.kind)
    return task.unit if task else "step"


def amount(job: Job) -> str:
    """Return in words what is to be done, and from which seed, if anything is drawn: `10 frames`."""
    seed = f", seed {job.seed}" if job.seeds or job.kind == "train" else ""
    steps = (
        f"{job.total_steps} {unit(job)}{'' if job.total_steps == 1 else 's'}"
        if job.total_steps
        else f"as many {unit(job)}s as the data make"
    )
    return f"{steps}{seed}"


def file_stem(engine: Engine, kind: str, name: str, config: Mapping[str, Any], seed: int, digest: str) -> str:
    """Return the start of the names of a job's files, safe as a file name."""
    if kind == "train":
        return engine.file_stem(name, config, seed, digest)
    safe = re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-._")[:60].rstrip("-._") or "job"
    return f"{safe}-{kind}-{digest[:6]}"


def validated(task: Task, submit: JobSubmit) -> dict[str, Any]:
    """Return a submitted config that fits the kind's document, without its defaults.

    Raises:
        Invalid: with all that does not fit, and what of the submission only trainings have a use for.
    """
    problems = [*_only_for_trainings(task, submit), *below("/config", malformed(submit.config))]
    try:
        document = task.document.model_validate(submit.config)
    except ValidationError as error:
        problems += below("/config", problems_of(error.errors(include_url=False)))
    if problems:
        raise Invalid(problems)
    return document.model_dump(mode="json", exclude_unset=True)


def _only_for_trainings(task: Task, submit: JobSubmit) -> Iterator[Problem]:
    level = task.determinism
    if level and "determinism" in submit.model_fields_set and submit.determinism != level:
        message = f"jobs of kind {submit.kind} always run at level {level}, not {submit.determinism}"
        yield Problem(code="fixed-determinism", message=message, pointer="/determinism", hint="Remove it.")
    if submit.on_existing in ("resume", "fail"):
        message = f"a job of kind {submit.kind} trains nothing: only a training goes on from another job's checkpoints"
        hint = "Say `reuse` to be answered with the same job when it is here already."
        yield Problem(code="only-for-trainings", message=message, pointer="/on_existing", hint=hint)
    for key, why in _OF_TRAININGS.items():
        if getattr(submit, key) != JobSubmit.model_fields[key].get_default(call_default_factory=True):
            message = f"a job of kind {submit.kind} trains nothing: it {why}"
            yield Problem(code="only-for-trainings", message=message, pointer=f"/{key}", hint="Remove it.")


def resolve(
    engine: Engine,
    task: Task,
    submit: JobSubmit,
    config: Mapping[str, Any],
    *,
    uses: Sequence[DataUse],
    datasets: Mapping[str, DatasetFacts],
    models: Mapping[str, Sequence[Model]],
    root_seed: int,
    known: Collection[str],
) -> Resolution | list[Problem]:
    """Complete a validated config, or return everything that is wrong with it. As `app.resolve.resolve`: pure."""
    problems = list(missing_data(uses, datasets, known, None))
    answer = task.resolve(config, root_seed=root_seed, datasets=datasets, models=models)
    problems += below("/config", answer.problems)
    if submit.seed is not None and not answer.seeds:
        message = f"a job of kind {submit.kind} draws nothing at random, so it has no seed"
        problems.append(Problem(code="no-seed", message=message, pointer="/seed", hint="Remove it."))
    if problems:
        return problems
    check_origins(answer)
    return Resolution(
        config=answer.config,
        origins=answer.origins,
        digest=_identity(engine, submit.kind, answer, datasets, models),
        seed=root_seed if answer.seeds else 0,
        seeds=answer.seeds,
        total_steps=answer.total_steps,
        warnings=[*below("/config", answer.warnings), *_uneven(models)],
    )


def _identity(
    engine: Engine,
    kind: str,
    answer: EngineResolution,
    datasets: Mapping[str, DatasetFacts],
    models: Mapping[str, Sequence[Model]],
) -> str:
    """Return the SHA-256 of all that decides what comes out: equal digests mean the same numbers."""
    decides = {
        "engine": engine.name,
        "library": f"{engine.library} {version(engine.library)}",
        "kind": kind,
        "config": answer.config,
        "seeds": answer.seeds,
        "datasets": {f"{facts.name}@{facts.version}": facts.digest for facts in datasets.values()},
        "models": {model.name: model.sha256 for found in models.values() for model in found},
    }
    return hashlib.sha256(canonical(decides).encode()).hexdigest()


def _uneven(models: Mapping[str, Sequence[Model]]) -> Iterator[Notice]:
    """Say which groups stand at unequal steps: their newest checkpoints are not trained equally long."""
    for text, found in models.items():
        steps = {model.name: model.name.rpartition("@")[2] for model in found}
        if GroupRef.parse(text) is not None and len(set(steps.values())) > 1:
            message = f"{text} stands for checkpoints of unequal steps: {', '.join(steps)}"
            hint = f"{text}@STEP takes the same step of every replica."
            yield Notice(code="unequal-steps", message=message, pointer="/config", hint=hint)
