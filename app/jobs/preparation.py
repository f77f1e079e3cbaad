"""From a submission to all that is known before it is stored: base, data, resolution, transfer plan, hints."""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from sqlalchemy.orm import Session, sessionmaker

from app.artifacts.store import BlobStore
from app.datasets.service import facts
from app.db import reading
from app.engines import registry
from app.engines.base import Engine, Task
from app.errors import Invalid
from app.inheritance import inheritance
from app.jobs import bases, chosen, held_out, named_data, planning, subjects, tasks
from app.jobs.hints import hints
from app.jobs.retention import unknown_metric
from app.resolve import data_uses, resolve
from app.settings import Settings
from app.tables import Dataset
from app.wire.models import Inventory
from app.wire.problems import Problem
from app.wire.resolution import Check, CostHints, Resolution
from app.wire.submission import MAX_SEED, JobSubmit, Start
from app.wire.transfer import TransferPlan

MAX_STEPS = 2**53
"""Steps are counted in JSON numbers, which browsers read as 64-bit floats."""

HINT_WAIT_S = 0.5
"""A check that needs no plan waits no longer than this for the number of parameters."""


@dataclass(frozen=True)
class Prepared:
    """A submission that would run, or whose plan has yet to be made."""

    engine: Engine
    submit: JobSubmit
    resolution: Resolution
    datasets: Mapping[str, Dataset]
    """The dataset version that each reference in the config stands for."""
    base: bases.Found | None = None
    plan: TransferPlan | None = None
    inventory: Inventory | None = None
    """The tensors of its model, when they are known."""
    models: tuple[subjects.Subject, ...] = ()
    """The models that it works on, when it is no training."""
    group_id: int | None = None
    """The group whose replicas these are."""
    test_on: tuple[str, ...] = ()
    """What its last checkpoint will be measured on, with the versions that are meant."""

    @property
    def start(self) -> Start:
        """What it starts from, the base with the version that is meant."""
        start = self.submit.start
        return start.model_copy(update={"base": self.base.base.name}) if self.base else start

    @property
    def needs_plan(self) -> bool:
        """Whether it has to wait for its plan: a resumed training takes everything as it is, and has none."""
        return self.base is not None and self.submit.start.mode != "resume" and self.plan is None


def prepare(sessions: sessionmaker[Session], settings: Settings, store: BlobStore, submit: JobSubmit) -> Prepared:
    """Resolve a submission, and plan what it takes from its base.

    Waits for a worker where one is needed, for a few seconds and outside any transaction: `needs_plan` says whether
    that was too short. Stores nothing but a base model made of a job's checkpoint, and the order for a list of tensors.

    Raises:
        Invalid: with everything that is wrong, each with a pointer into the submission.
    """
    engine = find_engine(submit.engine)
    if task := tasks.find(engine, submit.kind):
        return _prepare_task(subjects.Places(sessions, settings, store, engine.name), engine, task, submit)
    base, problems = _find_base(sessions, settings, store, submit)
    with reading(sessions) as session:
        prepared = _resolve(session, engine, submit, base, problems)
    if not prepared.needs_plan:
        return prepared
    wanted = planning.listing(engine, prepared.resolution)
    errand = planning.ask(sessions, settings, wanted, settings.plan_wait_s)
    return prepared if errand is None else with_plan(prepared, planning.tensors(errand))


def _prepare_task(places: subjects.Places, engine: Engine, task: Task, submit: JobSubmit) -> Prepared:
    config = tasks.validated(task, submit)
    submit = submit.model_copy(update={"determinism": task.determinism or submit.determinism})
    named = [replace(use, pointer=f"/config{use.pointer}") for use in task.model_uses(config)]
    uses = [replace(use, pointer=f"/config{use.pointer}") for use in task.data_uses(config)]
    found, problems = subjects.find(places, named)
    with reading(places.sessions) as session:
        datasets = named_data.find(session, uses)
        answer = tasks.resolve(
            engine,
            task,
            submit,
            config,
            uses=uses,
            datasets={text: facts(row) for text, row in datasets.items()},
            models=subjects.by_reference(subjects.with_data(session, engine, found) if task.relaxed else found),
            root_seed=_root_seed(submit),
            known=named_data.names(session),
        )
    problems += [*(answer if isinstance(answer, list) else ()), *named_data.foreign(engine, uses, datasets)]
    if isinstance(answer, list) or problems:
        raise Invalid(problems)
    chosen = tuple(chain.from_iterable(found[use.text] for use in named))
    return Prepared(engine, submit, answer, datasets, models=chosen, group_id=subjects.group_of(named))


def _root_seed(submit: JobSubmit) -> int:
    return submit.seed if submit.seed is not None else secrets.randbelow(MAX_SEED + 1)


def with_plan(prepared: Prepared, tensors: Inventory | Problem) -> Prepared:
    """Return a prepared submission with its plan, made for a model of these tensors. Raises Invalid."""
    assert prepared.base is not None
    if isinstance(tensors, Problem):
        raise Invalid([tensors])
    resolution = prepared.resolution
    answer = prepared.engine.plan(resolution.config, resolution.origins, prepared.start, prepared.base.base, tensors)
    if isinstance(answer, list):
        raise Invalid(answer)
    return replace(prepared, plan=answer, inventory=tensors)


def seeded_anew(prepared: Prepared, submit: JobSubmit) -> Prepared:
    """Return what was prepared as another submission that differs in its seed: data, base and plan stay as they are."""
    assert submit.seed is not None
    answer = resolve(
        prepared.engine,
        submit,
        datasets={text: facts(row) for text, row in prepared.datasets.items()},
        root_seed=submit.seed,
        base=prepared.base.base if prepared.base else None,
    )
    assert not isinstance(answer, list), "a seed makes no config wrong"
    answer.warnings += held_out.overlaps(prepared.engine, prepared.test_on, "/test_on", answer.config)
    return replace(prepared, submit=submit, resolution=answer)


def _find_base(
    sessions: sessionmaker[Session], settings: Settings, store: BlobStore, submit: JobSubmit
) -> tuple[bases.Found | None, list[Problem]]:
    """Return the base of a submission, or what is wrong with it: the rest is looked at all the same."""
    if submit.start.mode == "scratch" or not submit.start.base:
        return None, []
    try:
        return bases.find(sessions, settings, store, submit.start.base, submit.engine), []
    except Invalid as error:
        return None, error.problems


def _resolve(
    session: Session, engine: Engine, submit: JobSubmit, found: bases.Found | None, problems: list[Problem]
) -> Prepared:
    base = found.base if found else None
    uses = data_uses(engine, submit, base)
    datasets = named_data.find(session, uses)
    answer = resolve(
        engine,
        submit,
        datasets={text: facts(row) for text, row in datasets.items()},
        root_seed=_root_seed(submit),
        known=named_data.names(session),
        base=base,
    )
    problems = [*problems, *(answer if isinstance(answer, list) else ()), *named_data.foreign(engine, uses, datasets)]
    if isinstance(answer, list) or problems:
        raise Invalid(problems)
    if answer.total_steps > MAX_STEPS:
        message = f"{answer.total_steps} steps are more than any training has"
        raise Invalid([Problem(code="out-of-range", message=message, pointer="/config")])
    best = submit.checkpoints.keep_best
    if problem := unknown_metric(engine, submit.kind, answer.config, best, "/checkpoints/keep_best"):
        raise Invalid([problem])
    test_on = settle_held_out(session, engine, submit.test_on, "/test_on", answer.config)
    if problems := list(_refused_steps(engine, submit, answer, found)):
        raise Invalid(problems)
    answer.warnings += held_out.overlaps(engine, test_on, "/test_on", answer.config)
    return Prepared(engine, submit, answer, datasets, found, test_on=tuple(test_on))


def _refused_steps(
    engine: Engine, submit: JobSubmit, answer: Resolution, found: bases.Found | None
) -> Iterator[Problem]:
    interval = submit.checkpoints.every_steps or engine.checkpoint_interval(answer.config)
    start = (found.base.facts.step or 0) if found and submit.start.mode == "resume" else 0
    when = chosen.Writing(interval, start, answer.total_steps)
    return chosen.refused(
        chosen.Chosen.of_submission(submit), submit.test_on, when, "/test_at", "/test_every", "/test_on"
    )


def settle_held_out(
    session: Session, engine: Engine, texts: Sequence[str], place: str, config: Mapping[str, Any]
) -> list[str]:
    """Return what a training of this resolved config is to be measured on, with the versions that are meant.

    Raises:
        Invalid: with everything for which its model cannot be; pointers are below `place`.
    """
    named = held_out.uses(texts, place)
    uses = [one.use for one in named]
    datasets = named_data.find(session, uses)
    if problems := list(named_data.foreign(engine, uses, datasets)):
        raise Invalid(problems)
    found = {text: facts(row) for text, row in datasets.items()}
    return held_out.settle(engine, named, config=config, datasets=found, known=named_data.names(session))


def find_engine(name: str) -> Engine:
    """Return an engine by name. Raises Invalid with the names there are."""
    engine = registry.get(name)
    if engine is None:
        there_are = ", ".join(engine.name for engine in registry.ENGINES)
        message = f"there is no engine {name!r}"
        raise Invalid(
            [Problem(code="unknown-engine", message=message, pointer="/engine", hint=f"There is: {there_are}.")]
        )
    return engine


def checked(sessions: sessionmaker[Session], settings: Settings, prepared: Prepared) -> Check:
    """Say what a prepared submission would become, and what it would take."""
    base, resolution = prepared.base, prepared.resolution
    name, sha256 = (base.base.name, base.base.sha256) if base else (None, None)
    return Check(
        **dict(resolution),
        engine=prepared.engine.name,
        start=prepared.start,
        base=name,
        base_sha256=sha256,
        plan=prepared.plan,
        plan_pending=_why_pending(sessions, settings, prepared),
        inheritance=inheritance(resolution, name, sha256),
        hints=_hints(sessions, settings, prepared),
    )


def _why_pending(sessions: sessionmaker[Session], settings: Settings, prepared: Prepared) -> str | None:
    if not prepared.needs_plan:
        return None
    with reading(sessions) as session:
        return planning.why_pending(session, settings, prepared.engine.name)


def _hints(sessions: sessionmaker[Session], settings: Settings, prepared: Prepared) -> CostHints:
    datasets = [facts(row) for row in {row.id: row for row in prepared.datasets.values()}.values()]
    if prepared.submit.kind != "train":
        return hints(prepared.engine, prepared.submit.kind, prepared.resolution, datasets, None)
    tensors = prepared.inventory
    if prepared.base is None:
        tensors = _listed(sessions, settings, prepared)
    found = hints(prepared.engine, "train", prepared.resolution, datasets, tensors)
    if prepared.base is not None and prepared.start.mode == "resume":
        # The checkpoints to come are like the one that it goes on from.
        update = {"parameters": prepared.base.base.facts.parameters, "checkpoint_bytes": prepared.base.row.size}
        return found.model_copy(update=update)
    return found


def _listed(sessions: sessionmaker[Session], settings: Settings, prepared: Prepared) -> Inventory | None:
    """Return the tensors of a model that needs no plan, if a worker lists them at once."""
    wanted = planning.listing(prepared.engine, prepared.resolution)
    errand = planning.ask(sessions, settings, wanted, min(HINT_WAIT_S, settings.plan_wait_s))
    found = planning.tensors(errand) if errand else None
    return found if isinstance(found, Inventory) else None
