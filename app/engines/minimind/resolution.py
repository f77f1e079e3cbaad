"""From a submitted config to the one that is trained, with the origin of every value."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from app.engines.base import Base, DatasetFacts, EngineResolution
from app.engines.documents import leaves
from app.engines.draft import Draft
from app.engines.layers import Layer, merge
from app.engines.minimind.check import check
from app.engines.minimind.checks import check_model, check_training, mark_idle, settle_sizes
from app.engines.minimind.data import data_uses, settle_data
from app.engines.minimind.inherit import Inherited, document, inherit
from app.engines.minimind.keys import KEYS, defaults, nested
from app.engines.minimind.migrate import migrate
from app.engines.minimind.resume import check_resumed
from app.engines.minimind.seeds import plant
from app.engines.minimind.vocabulary import settle_tokenizer
from app.engines.starts import check_allow
from app.engines.ways import Way
from app.wire.resolution import LosingCandidate, Origin
from app.wire.submission import Start

Json = Any


def resolve(
    config: Mapping[str, Json], *, root_seed: int, datasets: Mapping[str, DatasetFacts], start: Start, base: Base | None
) -> EngineResolution:
    """Complete a submitted config, or say everything that is wrong with it: explicit over base over default."""
    base = None if start.mode == "scratch" else base
    migrated = migrate(config)
    way = Way()
    way.add(migrated.moves, migration=True)
    draft = Draft(config, {}, way, problems=migrated.problems, warnings=migrated.warnings, base=base)
    explicit = check(draft, migrated.value)
    inherited = inherit(start, base, explicit)
    if inherited.is_lost:
        return _refused(draft, inherited)
    undecided = _layer(draft, explicit, inherited)
    inherited.problems += check_allow(start, draft.config, way)
    is_complete = all(use.text in datasets for use in data_uses(draft.config))
    _settle(draft, datasets, start)
    if start.mode == "resume" and base is not None and not draft.problems:
        check_resumed(draft, base)
    if draft.problems or inherited.problems or not is_complete:
        return _refused(draft, inherited)
    return _finished(draft, inherited, undecided, root_seed)


def _layer(draft: Draft, explicit: Mapping[str, Json], inherited: Inherited) -> list[str]:
    """Merge what was submitted, inherited and MiniMind's defaults; return the places that were submitted as null.

    Null leaves a value that can be derived to the base, or to what it is derived from.
    """
    undecided = [at for at, value in explicit.items() if value is None and KEYS[at].is_derived]
    decided = {at: value for at, value in explicit.items() if at not in undecided}
    stage = explicit.get("/stage") or inherited.values.get("/stage") or KEYS["/stage"].default
    sha256 = draft.base.sha256 if draft.base else None
    layers = [
        Layer("explicit", nested(decided)),
        Layer("base", document(inherited), sha256),
        Layer("default", defaults(stage)),
    ]
    merged = merge(layers)
    draft.config, draft.candidates = merged.document, merged.candidates
    return undecided


def _settle(draft: Draft, datasets: Mapping[str, DatasetFacts], start: Start) -> None:
    settle_sizes(draft)
    settle_tokenizer(draft, datasets, start.mode)
    settle_data(draft, datasets)
    check_model(draft)
    check_training(draft)
    mark_idle(draft)


def _refused(draft: Draft, inherited: Inherited) -> EngineResolution:
    return EngineResolution(
        {},
        {},
        {},
        0,
        problems=draft.problems,
        warnings=[*draft.warnings, *inherited.warnings],
        start_problems=inherited.problems,
    )


def _finished(draft: Draft, inherited: Inherited, undecided: list[str], root_seed: int) -> EngineResolution:
    seeds = plant(draft, root_seed)
    origins = draft.origins()
    for at in undecided:
        origins[at] = _with_null(origins[at])
    config = nested(deepcopy(dict(leaves(draft.config))))
    warnings = sorted([*draft.warnings, *inherited.warnings], key=lambda notice: notice.pointer or "")
    steps = config["training"]["max_steps"] or 0
    return EngineResolution(config, origins, seeds, steps, warnings=warnings)


def _with_null(origin: Origin) -> Origin:
    """Return an origin with the null that was submitted among what lost."""
    return origin.model_copy(update={"losing": [LosingCandidate(origin="explicit", value=None), *origin.losing]})
