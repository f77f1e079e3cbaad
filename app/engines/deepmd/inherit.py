"""What a submission inherits from its base: one document in the form of a written-out config.

`init` and `finetune` inherit the model section of the branch that they start from, `resume` the whole config. A new
fitting net (`start.fitting`) inherits its architecture all the same: only its weights are new.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from app.engines.base import Base
from app.engines.deepmd.base_layer import NEVER_INHERITED, SELECTIONS, branch_of, translated
from app.engines.deepmd.check import check
from app.engines.deepmd.document import Way, dotted
from app.engines.deepmd.schema import tree
from app.engines.deepmd.starts import check_branches, check_fitting, check_resumable, check_sections, how_each_begins
from app.engines.deepmd.tasks import SHAREABLE, Expanded, expand, is_multi_task
from app.engines.documents import canonical, leaves, lookup, parts, pointer
from app.wire.problems import Notice, Problem
from app.wire.submission import Start

Json = Any


@dataclass
class Inherited:
    """The base's part of a config."""

    document: dict[str, Json] | None = None
    """In DeePMD-kit's present spelling, written out for all tasks; None: there is nothing to inherit."""
    passed_over: dict[str, Json] = field(default_factory=dict)
    """Values that the base has and that are never inherited, by pointer."""
    reordered: dict[str, list[str]] = field(default_factory=dict)
    """The submission's type map by pointer of every value that was translated into it."""
    untranslatable: list[str] = field(default_factory=list)
    """Pointers of values that the base has for its own elements and that the submission's new ones lack."""
    shared: dict[str, tuple[str, Json]] = field(default_factory=dict)
    """Of a resumed training: what its tasks share (`Expanded.shared`)."""
    types: frozenset[str] = frozenset()
    """Elements that the base knows."""
    beginning: dict[str, Json] = field(default_factory=dict)
    sections: tuple[str, ...] = ()
    """Which sections can be inherited at all."""
    is_lost: bool = False
    """There should be a base, but what it holds is not known: whatever is missing may come from there."""
    problems: list[Problem] = field(default_factory=list)
    """With pointers into `Start`."""
    warnings: list[Notice] = field(default_factory=list)


def inheritable(start: Start) -> tuple[str, ...]:
    """Return the sections that a config may leave out because a start mode inherits them."""
    if start.mode == "scratch":
        return ()
    return ("model", "learning_rate", "training") if start.mode == "resume" else ("model",)


def with_tasks(document: dict[str, Json], start: Start, base: Base | None) -> dict[str, Json]:
    """Return a submitted document of a resumed multi-task training with the tasks, and what they share, spelled out.

    Only names are filled in; values are inherited afterwards, like all others.
    """
    config = base.facts.config if base and start.mode == "resume" and not check_resumable(base) else None
    model = document.get("model")
    if not config or not is_multi_task(config) or not isinstance(model, dict):
        return document
    tasks, shared = model.get("model_dict", {}), model.get("shared_dict", {})
    if not isinstance(tasks, dict) or not isinstance(shared, dict):
        return document
    for name, branch in config["model"]["model_dict"].items():
        mine = tasks.setdefault(name, {})
        for key in SHAREABLE:
            if isinstance(mine, dict) and key not in mine and key not in model and _names_parts(branch.get(key)):
                mine[key] = deepcopy(branch[key])
    for name, part in config["model"].get("shared_dict", {}).items():
        shared.setdefault(name, {} if isinstance(part, dict) else deepcopy(part))
    return document | {"model": model | {"model_dict": tasks, "shared_dict": shared}}


def _names_parts(value: Json) -> bool:
    """Return whether a part of a task, or a member of its hybrid, is a name in `shared_dict`."""
    members = value.get("list") if isinstance(value, dict) else None
    return isinstance(value, str) or (isinstance(members, list) and any(isinstance(item, str) for item in members))


def inherit(expanded: Expanded, start: Start, base: Base | None) -> Inherited:
    """Return what a written-out submission inherits, before its own values are known to be right."""
    if start.mode == "scratch":
        return Inherited()
    if base is None:
        inherited = Inherited(is_lost=True)
    elif start.mode == "resume":
        inherited = _of_checkpoint(expanded, base)
    else:
        inherited = _of_branches(expanded, start, base)
    inherited.sections = inheritable(start)
    return inherited


def _of_checkpoint(expanded: Expanded, base: Base) -> Inherited:
    problems = check_resumable(base)
    if problems or base.facts.config is None:
        return Inherited(is_lost=True, problems=problems)
    whole = expand(deepcopy(base.facts.config))
    multi_task = is_multi_task(whole.value)
    if multi_task != is_multi_task(expanded.value):
        what = "several tasks" if multi_task else "a single task"
        message = f"{base.name} is a training of {what}, and a resumed training goes on as it is"
        hint = "Leave the model section out, or choose mode init or finetune."
        problem = Problem(code="contradicts-base", message=message, pointer="/mode", hint=hint)
        return Inherited(is_lost=True, problems=[problem])
    whole.value["model"].pop("shared_dict", None)
    _fill_numbers(whole.value["model"], base)
    inherited = Inherited(shared=whole.shared, types=_types(base))
    inherited.document = _current(whole.value, base, inherited.warnings, multi_task=multi_task)
    return inherited


def _fill_numbers(model: dict[str, Json], base: Base) -> None:
    """Put the numbers of neighbours that the trainer found in place of `auto`: the weights hold them."""
    for branch in base.facts.branches:
        section = model["model_dict"].get(branch.name) if "model_dict" in model else model
        for at, value in list(leaves(section)) if section else ():
            number = _find(branch.model, at)
            *path, key = parts(at)
            if key in SELECTIONS and isinstance(value, str) and isinstance(number, int | list):
                lookup(section, pointer(*path))[key] = number


def _of_branches(expanded: Expanded, start: Start, base: Base) -> Inherited:
    multi_task = is_multi_task(expanded.value)
    branches = expanded.value["model"]["model_dict"] if multi_task else {}
    if multi_task and "model" in expanded.broken:
        return Inherited(is_lost=True)
    tasks = list(branches) if multi_task else [""]
    problems = [*check_sections(base), *check_branches(base, start, tasks), *check_fitting(start, tasks)]
    found = {task: branch_of(base.facts, start, task) for task in tasks}
    models = {task: {**branch.model, "type_map": branch.type_map} for task, branch in found.items() if branch}
    if len(models) < len(tasks) or any(problem.code == "unreadable-base" for problem in problems):
        return Inherited(is_lost=True, problems=problems)
    section: Json = {"model_dict": models} if multi_task else models[""]
    inherited = Inherited(problems=problems, types=_types(base), beginning=how_each_begins(base, start, tasks))
    document = _current({"model": section}, base, inherited.warnings, multi_task=multi_task)
    inherited.document = _stripped(document, "", inherited.passed_over)
    return inherited


def _types(base: Base) -> frozenset[str]:
    return frozenset(name for branch in base.facts.branches for name in branch.type_map)


def _current(document: dict[str, Json], base: Base, warnings: list[Notice], *, multi_task: bool) -> dict[str, Json]:
    """Return a base's document in today's spelling; what today's DeePMD-kit does not know is left out, aloud."""
    checked = check(tree(multi_task=multi_task), document, way=Way())
    for problem in checked.problems:
        if problem.code != "missing-key":
            message = f"{base.name} has {dotted(problem.pointer or '')}, which is not inherited: {problem.message}"
            warnings.append(Notice(code="not-inherited", message=message))
    return checked.value


def _stripped(value: Json, at: str, passed_over: dict[str, Json]) -> Json:
    """Return a model section without what is never inherited; that goes to `passed_over`."""
    if isinstance(value, list):
        return [_stripped(item, at + pointer(index), passed_over) for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    passed_over |= {at + pointer(key): member for key, member in value.items() if key in NEVER_INHERITED}
    return {
        key: _stripped(member, at + pointer(key), passed_over)
        for key, member in value.items()
        if key not in NEVER_INHERITED
    }


def translate(inherited: Inherited, explicit: Mapping[str, Json]) -> None:
    """Turn the model section that is inherited into the type maps that a submission gives, in place.

    Not that of a resumed training, which keeps its own.
    """
    document = inherited.document if inherited.sections == ("model",) and inherited.document else {}
    section, asked = document.get("model"), explicit.get("model")
    if not isinstance(section, dict) or not isinstance(asked, dict):
        return
    if "model_dict" not in section:
        document["model"] = _translate(section, asked, "/model", inherited)
        return
    for task, model in section["model_dict"].items():
        own = asked.get("model_dict", {}).get(task)
        if isinstance(own, dict):
            section["model_dict"][task] = _translate(model, own, pointer("model", "model_dict", task), inherited)


def _translate(model: dict[str, Json], explicit: Mapping[str, Json], at: str, inherited: Inherited) -> dict[str, Json]:
    wanted, known = explicit.get("type_map"), model.get("type_map")
    if not isinstance(wanted, list) or not _is_type_map(wanted) or not isinstance(known, list):
        return model
    changed = translated(model, wanted)
    # The base's own map stays beside the submission's as what it is: a candidate that lost.
    changed["type_map"] = known
    for place in _differing(model, changed):
        inherited.reordered[at + place] = wanted
    inherited.untranslatable += [
        at + place
        for place, value in leaves(model)
        if place.endswith("/sel") and isinstance(value, list) and _find(changed, place) is None
    ]
    return changed


def _is_type_map(value: list[Json]) -> bool:
    return all(isinstance(name, str) for name in value) and len(set(value)) == len(value)


def _differing(one: Json, other: Json, at: str = "") -> list[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        return [place for key in other if key in one for place in _differing(one[key], other[key], at + pointer(key))]
    if isinstance(one, list) and isinstance(other, list) and any(isinstance(item, dict) for item in other):
        pairs = enumerate(zip(one, other, strict=True))
        return [place for index, (left, right) in pairs for place in _differing(left, right, at + pointer(index))]
    return [] if one == other else [at]


def check_shared(inherited: Inherited, shared: Mapping[str, tuple[str, Json]], base: Base | None) -> None:
    """Refuse a part that tasks share when the branches that they start from do not agree on it."""
    if inherited.document is None or inherited.sections != ("model",) or base is None:
        return
    for name in sorted({name for name, _ in shared.values()}):
        places = [at for at, (part, _) in shared.items() if part == name and not at.endswith("/type_map")]
        values = {canonical(_find(inherited.document, at)) for at in places}
        if len(values) > 1:
            tasks = ", ".join(dict.fromkeys(parts(at)[2] for at in places))
            message = f"model.shared_dict.{name} is shared by {tasks}, but their branches of {base.name} differ in it"
            hint = "Choose branches that agree, or write the part out for each task instead of sharing it."
            inherited.problems.append(Problem(code="branches-differ", message=message, pointer="/branch", hint=hint))


def _find(document: Json, at: str) -> Json:
    try:
        return lookup(document, at)
    except (LookupError, TypeError, ValueError):
        return None
