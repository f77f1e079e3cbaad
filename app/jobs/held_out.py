"""Data that a training's last checkpoint is to be measured on by itself: whether that will work, said before it begins."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.engines.base import DatasetFacts, DataUse, Engine, Model, Task
from app.engines.documents import dotted
from app.errors import Invalid
from app.resolve import missing_data
from app.wire.datasets import DatasetRef
from app.wire.problems import Notice, Problem

ITSELF = "this training"


@dataclass(frozen=True)
class HeldOut:
    """Data that a training is measured on, and which of its tasks."""

    head: str | None
    """None: the training has one model only."""
    use: DataUse

    def text(self, data: str) -> str:
        """Return how such an entry is written that names these data."""
        return data if self.head is None else f"{self.head}={data}"


def measuring(engine: Engine) -> tuple[str, Task] | None:
    """Return the kind of job with which an engine measures models on data, the first if it has several."""
    return next(((kind, task) for kind, task in engine.tasks.items() if task.report is not None), None)


def uses(texts: Sequence[str], place: str) -> list[HeldOut]:
    """Return the entries of a submission: `dataset:NAME`, or `TASK=dataset:NAME` of a training of several tasks."""
    return [_read(text, f"{place}/{index}") for index, text in enumerate(texts)]


def _read(text: str, pointer: str) -> HeldOut:
    head, mark, name = text.partition("=dataset:")
    if not mark or text.startswith("dataset:"):
        return HeldOut(None, DataUse(pointer, text, DatasetRef.parse(text)))
    data = f"dataset:{name}"
    return HeldOut(head, DataUse(pointer, data, DatasetRef.parse(data)))


def asked(models: Sequence[str], one: HeldOut) -> dict[str, Any]:
    """Return the config of a job that measures models of a training on the data."""
    head = {} if one.head is None else {"head": one.head}
    return {"models": list(models), "data": [one.use.text], **head}


def settle(
    engine: Engine,
    named: Sequence[HeldOut],
    *,
    config: Mapping[str, Any],
    datasets: Mapping[str, DatasetFacts],
    known: Collection[str],
) -> list[str]:
    """Return the entries with the versions that are meant, for a training of this resolved config.

    Raises:
        Invalid: with everything for which its model could not be measured on them, as far as its config tells.
    """
    kind = measuring(engine)
    if kind is None and named:
        message = f"{engine.name} has no jobs that measure a model on data"
        raise Invalid([Problem(code="unknown-kind", message=message, pointer=named[0].use.pointer, hint="Remove it.")])
    problems = list(missing_data([one.use for one in named], datasets, known, None))
    if kind is not None:
        there = [one for one in named if one.use.text in datasets]
        problems += [problem for one in there for problem in _refused(kind[1], one, config, datasets)]
    if problems:
        raise Invalid(problems)
    return [one.text(_pinned(one.use, datasets[one.use.text])) for one in named]


def _refused(
    task: Task, one: HeldOut, config: Mapping[str, Any], datasets: Mapping[str, DatasetFacts]
) -> Iterator[Problem]:
    itself = {ITSELF: [Model(ITSELF, "", config=config)]}
    answer = task.resolve(asked([ITSELF], one), root_seed=0, datasets=datasets, models=itself)
    place = one.use.pointer
    for problem in answer.problems:
        _, _, words = problem.message.partition(" ")  # it begins with a place in the config of such a job
        hint = f"Write TASK={one.use.text}." if problem.code == "missing-head" else problem.hint
        yield problem.model_copy(update={"message": f"{dotted(place)} {words}", "pointer": place, "hint": hint})


def overlaps(engine: Engine, texts: Sequence[str], place: str, config: Mapping[str, Any]) -> Iterator[Notice]:
    """Yield which of the entries, with their versions, name data that a training of this resolved config is trained on."""
    trained = [use.ref for use in engine.data_uses(config) if use.ref is not None and not use.validates]
    for one in uses(texts, place):
        if one.use.ref is not None and any(_overlap(one.use.ref, ref) for ref in trained):
            message = f"{dotted(one.use.pointer)} names {one.use.text}, which is also trained on"
            yield Notice(code="overlap", message=message, pointer=one.use.pointer, hint="Test on data held back.")


def _overlap(one: DatasetRef, other: DatasetRef) -> bool:
    if (one.name, one.version) != (other.name, other.version):
        return False
    first, second = (f"{ref.system}/" if ref.system else "" for ref in (one, other))
    return first.startswith(second) or second.startswith(first)


def _pinned(use: DataUse, facts: DatasetFacts) -> str:
    assert use.ref is not None, "what is no reference was refused"
    return str(use.ref.model_copy(update={"version": facts.version}))
