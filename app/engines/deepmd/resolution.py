"""From a submitted `input.json` to the config that is trained, with the origin of every value."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any, TypeVar

from dargs.dargs import ArgumentError

from app.engines.base import Base, DatasetFacts, EngineResolution
from app.engines.deepmd.check import Checked, check
from app.engines.deepmd.data import settle_data
from app.engines.deepmd.document import Way, nearest
from app.engines.deepmd.draft import Draft
from app.engines.deepmd.migrate import Migrated, migrate
from app.engines.deepmd.model_checks import check_models
from app.engines.deepmd.ranges import check_ranges
from app.engines.deepmd.schedule import check_losses, check_schedule, settle_schedule
from app.engines.deepmd.schema import defaults, tree
from app.engines.deepmd.seeds import plant
from app.engines.deepmd.steps import check_length, settle_length
from app.engines.deepmd.support_checks import check_support
from app.engines.deepmd.tasks import Expanded, expand, fold, is_multi_task
from app.engines.documents import leaves, lookup, pointer
from app.engines.layers import Layer, Merged, merge
from app.wire.jobs import LosingCandidate, Origin, Start
from app.wire.problems import Notice, Problem

Json = Any
Kind = TypeVar("Kind", bound=Problem)


def resolve(
    config: Mapping[str, Json], *, root_seed: int, datasets: Mapping[str, DatasetFacts], start: Start, base: Base | None
) -> EngineResolution:
    """Complete a submitted config, or say everything that is wrong with it."""
    migrated = migrate(config)
    expanded = expand(migrated.value)
    way = _way(migrated, expanded)
    multi_task = is_multi_task(expanded.value)
    broken = migrated.broken | expanded.broken | {"nvnmd"}
    checked = check(tree(multi_task=multi_task), expanded.value, broken=broken, way=way)
    merged = _layered(checked, multi_task=multi_task)
    draft = Draft(config, merged.document, way, merged.candidates)
    _collect(draft, migrated, expanded, checked)
    way.add(checked.moves, migration=True)
    for at, note in migrated.computed.items():
        draft.changed[at] = draft.origin(at).model_copy(update={"note": note})
    check_support(draft)
    check_ranges(draft)
    check_models(draft)
    check_schedule(draft)
    check_losses(draft)
    check_length(draft)
    found = settle_data(draft, datasets)
    if draft.problems or found is None:
        return _refused(draft)
    steps = settle_length(draft, found)
    settle_schedule(draft, steps)
    return _refused(draft) if draft.problems else _finished(draft, expanded, root_seed, steps)


def _way(migrated: Migrated, expanded: Expanded) -> Way:
    way = Way()
    way.add(migrated.moves, migration=True)
    way.add(expanded.moves, migration=False)
    way.add({at: pointer("model", "shared_dict", name) for at, (name, _) in expanded.shared.items()}, migration=False)
    return way


def _layered(checked: Checked, *, multi_task: bool) -> Merged:
    """Return what was right in a document over DeePMD-kit's defaults. A base model's config goes between the two."""
    explicit = Layer("explicit", checked.value)
    return merge([explicit, Layer("default", defaults(explicit.document, multi_task=multi_task))])


def _collect(draft: Draft, migrated: Migrated, expanded: Expanded, checked: Checked) -> None:
    """Take over what earlier stages found, with places in the submitted config, each thing once."""
    reported = {problem.pointer for problem in expanded.problems}
    others = [problem for problem in checked.problems if problem.pointer not in reported]
    for problem in [*migrated.problems, *_back(draft, [*expanded.problems, *others])]:
        if problem not in draft.problems:
            draft.problems.append(problem)
    draft.warnings += [*migrated.warnings, *_back(draft, expanded.warnings)]


def _back(draft: Draft, problems: Iterable[Kind]) -> list[Kind]:
    return [
        problem.model_copy(update={"pointer": nearest(draft.submitted, draft.way.back(problem.pointer or "").pointer)})
        for problem in problems
    ]


def _refused(draft: Draft) -> EngineResolution:
    return EngineResolution({}, {}, {}, 0, problems=draft.problems, warnings=draft.warnings)


def _finished(draft: Draft, expanded: Expanded, root_seed: int, steps: int) -> EngineResolution:
    problem = _final_check(draft.config)
    if problem:
        draft.problems.append(problem)
        return _refused(draft)
    origins = _with_choices(draft)
    config = deepcopy(draft.config)
    origins = _folded(config, origins, expanded)
    seeds = plant(config, origins, root_seed)
    return EngineResolution(config, origins, seeds, steps, warnings=_sorted(draft.warnings))


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


def _folded(config: dict[str, Json], origins: dict[str, Origin], expanded: Expanded) -> dict[str, Origin]:
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
            kept[home] = Origin(origin="explicit")
    return {at: kept[at] for at, _ in leaves(config)}


def _is_below(at: str, place: str) -> bool:
    return at == place or at.startswith(place + "/")


def _sorted(warnings: list[Notice]) -> list[Notice]:
    return sorted(warnings, key=lambda notice: notice.pointer or "")
