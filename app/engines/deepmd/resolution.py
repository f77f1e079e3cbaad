"""From a submitted `input.json` to the config that is trained, with the origin of every value."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any, TypeVar

from dargs.dargs import ArgumentError

from app.engines.base import Base, DatasetFacts, EngineResolution
from app.engines.deepmd.base_layer import NEVER_INHERITED
from app.engines.deepmd.check import Checked, check
from app.engines.deepmd.data import settle_data
from app.engines.deepmd.document import Way, given, nearest, short
from app.engines.deepmd.draft import Draft, place
from app.engines.deepmd.inherit import Inherited, check_shared, inherit, inheritable, translate, with_tasks
from app.engines.deepmd.layering import Layered, layered
from app.engines.deepmd.migrate import Migrated, migrate
from app.engines.deepmd.model_checks import check_models
from app.engines.deepmd.ranges import check_ranges
from app.engines.deepmd.resume import check_kept, check_length_beyond, is_kept, warn_of_another_run
from app.engines.deepmd.schedule import check_losses, check_schedule, settle_schedule
from app.engines.deepmd.schema import tree
from app.engines.deepmd.seeds import plant
from app.engines.deepmd.steps import check_length, settle_length
from app.engines.deepmd.support_checks import check_support
from app.engines.deepmd.tasks import Expanded, expand, fold, is_multi_task
from app.engines.documents import leaves, lookup, parts, pointer
from app.engines.starts import check_allow
from app.wire.problems import Problem
from app.wire.resolution import LosingCandidate, Origin
from app.wire.submission import Start

Json = Any
Kind = TypeVar("Kind", bound=Problem)


def resolve(
    config: Mapping[str, Json],
    *,
    root_seed: int,
    datasets: Mapping[str, DatasetFacts],
    start: Start,
    base: Base | None,
    ranks: int,
) -> EngineResolution:
    """Complete a submitted config, or say everything that is wrong with it: explicit over base over default."""
    base = None if start.mode == "scratch" else base
    migrated = migrate(config, inherited=inheritable(start))
    expanded = expand(with_tasks(migrated.value, start, base))
    inherited = inherit(expanded, start, base)
    draft, layers = _layered(config, migrated, expanded, inherited, base)
    for at, note in migrated.computed.items():
        draft.changed[at] = draft.origin(at).model_copy(update={"note": note})
    if not inherited.is_lost:
        inherited.problems += check_allow(start, draft.config, draft.way)
    _check_inheritance(draft, layers, inherited, expanded, start)
    check_support(draft)
    check_ranges(draft)
    check_models(draft)
    check_schedule(draft)
    check_losses(draft)
    check_length(draft)
    found = settle_data(draft, datasets)
    if draft.problems or inherited.problems or inherited.is_lost or found is None:
        return _refused(draft, inherited)
    steps = settle_length(draft, found, ranks)
    settle_schedule(draft, steps)
    if start.mode == "resume" and base is not None:
        check_length_beyond(draft, steps, base)
        warn_of_another_run(draft, steps, base, inherited.document or {})
    if draft.problems:
        return _refused(draft, inherited)
    kept = base.facts.seeds if start.mode == "resume" and base else None
    return _finished(draft, expanded, inherited, root_seed, steps, kept)


def _way(migrated: Migrated, expanded: Expanded) -> Way:
    way = Way()
    way.add(migrated.moves, migration=True)
    way.add(expanded.moves, migration=False)
    way.add({at: pointer("model", "shared_dict", name) for at, (name, _) in expanded.shared.items()}, migration=False)
    return way


def _layered(
    config: Mapping[str, Json], migrated: Migrated, expanded: Expanded, inherited: Inherited, base: Base | None
) -> tuple[Draft, Layered]:
    """Return what was right in a submission over its base over the defaults, with what was wrong."""
    multi_task = is_multi_task(expanded.value)
    way = _way(migrated, expanded)
    broken = migrated.broken | expanded.broken | {"nvnmd"}
    checked = check(tree(multi_task=multi_task), expanded.value, broken=broken, way=way, base=inherited.document)
    draft = Draft(config, {}, way, base=base, multi_task=multi_task)
    _collect(draft, migrated, expanded, checked, inherited)
    way.add(checked.moves, migration=True)
    translate(inherited, checked.value)
    check_shared(inherited, expanded.shared, base)
    layers = layered(
        checked.value, inherited, base, lambda at: given(config, way.back(at).pointer), multi_task=multi_task
    )
    draft.config, draft.candidates = layers.merged.document, layers.merged.candidates
    draft.notes = _notes(inherited)
    draft.base_types = inherited.types if base else None
    return draft, layers


def _notes(inherited: Inherited) -> dict[str, str]:
    notes = {at: f"reordered for type_map [{', '.join(types)}]" for at, types in inherited.reordered.items()}
    for at in inherited.passed_over:
        notes[at] = f"the base's is never inherited: {NEVER_INHERITED[parts(at)[-1]]}"
    return notes


def _check_inheritance(draft: Draft, layers: Layered, inherited: Inherited, expanded: Expanded, start: Start) -> None:
    """Say where the base ends, what it could not know, and what of a resumed training may not be another."""
    if draft.base is None or inherited.document is None:
        return
    if start.mode == "resume":
        check_kept(draft, layers, (expanded.shared, inherited.shared))
    else:
        _check_numbers(draft, layers, inherited)
    for at, why in layers.ended.items():
        if start.mode != "resume" or not is_kept(at):
            count = sum(1 for _ in leaves(lookup(inherited.document, at.removesuffix("/type"))))
            message = f"{why}: the {count} values that {draft.base.name} has there do not apply"
            draft.warn("not-inherited", place(draft.config, at), message)
    for at, value in layers.automatic.items():
        if isinstance(value, str):
            number, *losing = draft.candidates[at]
            note = f"{short(value)} stands for the {short(number.value)} of {draft.base.name}"
            draft.changed[at] = Origin(origin="derived", source=draft.base.sha256, note=note, losing=losing)


def _check_numbers(draft: Draft, layers: Layered, inherited: Inherited) -> None:
    """Refuse new elements whose number of neighbours nobody gave, where a descriptor counts each element's."""
    assert draft.base is not None
    for at in inherited.untranslatable:
        path = place(draft.config, at)
        if not layers.is_ended(at) and draft.source(*path) is None:
            message = f"is needed: {draft.base.name} counts the neighbours of each element, and type_map has new ones"
            hint = 'Write one number of neighbours for each element of type_map, or "auto" to have them counted.'
            draft.refuse("missing-key", path, message, hint)


def _collect(draft: Draft, migrated: Migrated, expanded: Expanded, checked: Checked, inherited: Inherited) -> None:
    """Take over what earlier stages found, with places in the submitted config, each thing once."""
    reported = {problem.pointer for problem in expanded.problems}
    others = [problem for problem in checked.problems if problem.pointer not in reported]
    for problem in [*migrated.problems, *_back(draft, [*expanded.problems, *others])]:
        if problem not in draft.problems:
            draft.problems.append(problem)
    draft.warnings += [*migrated.warnings, *_back(draft, expanded.warnings), *inherited.warnings]


def _back(draft: Draft, problems: Iterable[Kind]) -> list[Kind]:
    return [
        problem.model_copy(update={"pointer": nearest(draft.submitted, draft.way.back(problem.pointer or "").pointer)})
        for problem in problems
    ]


def _refused(draft: Draft, inherited: Inherited) -> EngineResolution:
    """Return what is wrong. What is missing may come from the base, so it is no mistake as long as that is unknown."""
    lost = inherited.is_lost
    problems = [
        problem
        for problem in draft.problems
        if not (lost and problem.code == "missing-key" and problem.message.startswith(inherited.sections))
    ]
    return EngineResolution(
        {}, {}, {}, 0, problems=problems, warnings=draft.warnings, start_problems=inherited.problems
    )


def _finished(
    draft: Draft, expanded: Expanded, inherited: Inherited, root_seed: int, steps: int, kept: Mapping[str, int] | None
) -> EngineResolution:
    problem = _final_check(draft.config)
    if problem:
        draft.problems.append(problem)
        return _refused(draft, inherited)
    origins = _with_choices(draft)
    config = deepcopy(draft.config)
    origins = _folded(config, origins, expanded, draft)
    seeds = plant(config, origins, root_seed, kept)
    warnings = sorted(draft.warnings, key=lambda notice: notice.pointer or "")
    return EngineResolution(config, origins, seeds, steps, warnings=warnings, beginning=inherited.beginning)


def _final_check(config: dict[str, Json]) -> Problem | None:
    """Ask DeePMD-kit itself about the complete config: whatever it would say at the start of a training, it says here."""
    multi_task = is_multi_task(config)
    try:
        tree(multi_task=multi_task).check_value(deepcopy(config), strict=True)
    except (ArgumentError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        return Problem(
            code="invalid", message=f"DeePMD-kit refuses this input: {error}", pointer="", hint="See its documentation."
        )
    return None


def _with_choices(draft: Draft) -> dict[str, Origin]:
    """Return all origins; a variant chosen by an older name (`se_a`) is marked as migrated."""
    origins = draft.origins()
    for at, value in leaves(draft.config):
        origin = origins[at]
        source = draft.way.back(at).pointer
        if origin.origin == "explicit" and isinstance(value, str):
            written = _lookup(draft.submitted, source)
            if isinstance(written, str) and written != value and at.endswith("/type"):
                losing = [LosingCandidate(origin="explicit", value=written), *origin.losing]
                origins[at] = Origin(origin="migrated", source=source, note=f"written as {written}", losing=losing)
    return origins


def _lookup(submitted: Mapping[str, Json], at: str) -> Json:
    try:
        return lookup(submitted, at)
    except (LookupError, TypeError, ValueError):
        return None


def _folded(config: dict[str, Json], origins: dict[str, Origin], expanded: Expanded, draft: Draft) -> dict[str, Origin]:
    """Fold shared parts of a config, in place, and return the origins at their new places."""
    places = fold(config, expanded.shared)
    kept: dict[str, Origin] = {}
    for at, origin in origins.items():
        if at.startswith("/model/shared_dict/"):
            continue  # as submitted: the completed part that a task holds takes its place
        home = next((place for place in sorted(places, key=len, reverse=True) if _is_below(at, place)), None)
        if home is None:
            kept[at] = origin
        else:
            moved = places[home] + at[len(home) :]
            kept.setdefault(
                moved, origin.model_copy(update={"source": None if origin.source == moved else origin.source})
            )
            kept[home] = Origin(origin="explicit") if given(draft.submitted, home) else _of_base(draft)
    return {at: kept[at] for at, _ in leaves(config)}


def _of_base(draft: Draft) -> Origin:
    """Return the origin of a name in `shared_dict` that a resumed training has from its base."""
    assert draft.base is not None
    return Origin(origin="base", source=draft.base.sha256, note=draft.base.name)


def _is_below(at: str, place: str) -> bool:
    return at == place or at.startswith(place + "/")
