"""Checks of `Start` against a base: which branch, which fitting net, whether it can be resumed."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.engines.base import Base
from app.engines.deepmd.base_layer import ONLY, branch_of, wanted_branch
from app.engines.deepmd.document import short
from app.engines.documents import malformed, pointer
from app.engines.starts import near, not_resumable, unreadable
from app.wire.problems import Problem
from app.wire.submission import Start

Json = Any


def check_resumable(base: Base) -> list[Problem]:
    """Return why a base cannot be resumed, if so."""
    facts = base.facts
    if facts.config is not None and facts.step is not None:
        return [] if _is_sound(facts.config) else [unreadable(base)]
    return [not_resumable(base)]


def check_sections(base: Base) -> list[Problem]:
    """Return why the model sections of a base cannot be read, if so: a file may say anything of itself."""
    damaged = any(malformed(branch.model) for branch in base.facts.branches)
    return [unreadable(base)] if damaged else []


def _is_sound(config: Mapping[str, Json]) -> bool:
    """Return whether a checkpoint's config has the sections that every resolved one has."""
    sections = [config.get(name) for name in ("model", "learning_rate", "training")]
    model = sections[0] if isinstance(sections[0], dict) else {}
    tasks = model.get("model_dict", {})
    sections += [tasks, model.get("shared_dict", {}), *(tasks.values() if isinstance(tasks, dict) else ())]
    return all(isinstance(section, dict) for section in sections) and not malformed(config)


def check_branches(base: Base, start: Start, tasks: Sequence[str]) -> list[Problem]:
    """Return what is wrong with `start.branch` for a training of these tasks (`[""]`: a single-task training)."""
    if tasks == [""]:
        return _check_single(base, start)
    if isinstance(start.branch, str) and start.branch not in ONLY:
        message = f"start.branch is {short(start.branch)}, but the training has the tasks {', '.join(tasks)}"
        hint = f'Write an object, branch of the base by task: {{"{tasks[0]}": "{start.branch}"}}.'
        return [_problem("wrong-type", "/branch", message, hint)]
    problems = _unknown_tasks(start.branch, tasks, "branch")
    for task in tasks:
        if branch_of(base.facts, start, task) is None:
            asked = wanted_branch(base.facts, start, task) or task
            mapped = isinstance(start.branch, dict) and task in start.branch
            at = pointer("branch", task) if mapped else "/branch"
            message = f"the task {task} has nothing to start from: {base.name} has no branch {short(asked)}"
            problems.append(_problem("unknown-branch", at, message, _branches(base, asked, task)))
    return problems


def _check_single(base: Base, start: Start) -> list[Problem]:
    if isinstance(start.branch, dict):
        message = "start.branch is an object, but the training has a single task"
        return [_problem("wrong-type", "/branch", message, _branches(base, None, ""))]
    if branch_of(base.facts, start, "") is not None:
        return []
    if start.branch in (None, *ONLY):
        message = f"{base.name} has {len(base.facts.branches)} branches; start.branch must say which to start from"
        return [_problem("missing-key", "/branch", message, _branches(base, None, ""))]
    message = f"{base.name} has no branch {short(start.branch)}"
    return [_problem("unknown-branch", "/branch", message, _branches(base, str(start.branch), ""))]


def _branches(base: Base, asked: str | None, task: str) -> str:
    names = [branch.name for branch in base.facts.branches]
    if names == [""]:
        return f'It has a single task: {{"{task}": ""}} names it.' if task else "It has a single task: leave it out."
    return f"{near(asked, names)}It has {', '.join(names)}."


def check_fitting(start: Start, tasks: Sequence[str]) -> list[Problem]:
    """Return what is wrong with `start.fitting` for a training of these tasks."""
    if isinstance(start.fitting, dict) and tasks == [""]:
        message = "start.fitting is an object, but the training has a single task"
        return [_problem("wrong-type", "/fitting", message, "Write reuse or new.")]
    return _unknown_tasks(start.fitting, tasks, "fitting")


def _unknown_tasks(mapping: Json, tasks: Sequence[str], key: str) -> list[Problem]:
    names = [name for name in mapping if name not in tasks] if isinstance(mapping, Mapping) else []
    return [
        _problem(
            "unknown-task",
            pointer(key, name),
            f"start.{key} names {short(name)}, which is no task of the training",
            f"{near(name, tasks)}The tasks are {', '.join(tasks)}.",
        )
        for name in names
    ]


def how_each_begins(base: Base, start: Start, tasks: Sequence[str]) -> dict[str, Json]:
    """Return by task the branch that it starts from and what becomes of its fitting net, however that was written."""
    found = {}
    for task in tasks:
        branch = branch_of(base.facts, start, task)
        fitting = start.fitting.get(task) if isinstance(start.fitting, dict) else start.fitting
        found[task] = {"branch": branch.name if branch else None, "fitting": fitting or "reuse"}
    return found


def _problem(code: str, at: str, message: str, hint: str) -> Problem:
    return Problem(code=code, message=message, pointer=at, hint=hint.strip())
