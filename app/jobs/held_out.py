"""Data that a training's last checkpoint is to be measured on by itself: whether that will work, said before it begins."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from app.engines.base import DatasetFacts, DataUse, Engine, Model, Task
from app.errors import Invalid
from app.resolve import missing_data
from app.wire.datasets import DatasetRef
from app.wire.problems import Problem

ITSELF = "this training"


def measuring(engine: Engine) -> tuple[str, Task] | None:
    """Return the kind of job with which an engine measures models on data, the first if it has several."""
    return next(((kind, task) for kind, task in engine.tasks.items() if task.report is not None), None)


def uses(texts: Sequence[str], place: str) -> list[DataUse]:
    """Return the references as places of a submission."""
    return [DataUse(f"{place}/{index}", text, DatasetRef.parse(text)) for index, text in enumerate(texts)]


def settle(
    engine: Engine,
    named: Sequence[DataUse],
    *,
    config: Mapping[str, Any],
    datasets: Mapping[str, DatasetFacts],
    known: Collection[str],
) -> list[str]:
    """Return the references with the versions that are meant, for a training of this resolved config.

    Raises:
        Invalid: with everything for which its model could not be measured on them, as far as its config tells.
    """
    kind = measuring(engine)
    if kind is None and named:
        message = f"{engine.name} has no jobs that measure a model on data"
        raise Invalid([Problem(code="unknown-kind", message=message, pointer=named[0].pointer, hint="Remove it.")])
    problems = list(missing_data(named, datasets, known, None))
    if kind is not None:
        problems += [one for use in named if use.text in datasets for one in _refused(kind[1], use, config, datasets)]
    if problems:
        raise Invalid(problems)
    return [_pinned(use, datasets[use.text]) for use in named]


def _refused(
    task: Task, use: DataUse, config: Mapping[str, Any], datasets: Mapping[str, DatasetFacts]
) -> Iterator[Problem]:
    itself = {ITSELF: [Model(ITSELF, "", config=config)]}
    asked = {"models": [ITSELF], "data": [use.text]}
    answer = task.resolve(asked, root_seed=0, datasets=datasets, models=itself)
    for problem in answer.problems:
        yield problem.model_copy(update={"pointer": use.pointer})


def _pinned(use: DataUse, facts: DatasetFacts) -> str:
    assert use.ref is not None, "what is no reference was refused"
    return str(use.ref.model_copy(update={"version": facts.version}))
