"""A submission and its data become a complete config whose every leaf says where it came from. Pure: no I/O, no state."""

import difflib
import hashlib
from collections.abc import Collection, Iterator, Mapping
from importlib.metadata import version

from app.engines.base import Base, DatasetFacts, DataUse, Engine, EngineResolution
from app.engines.documents import canonical, leaves, malformed
from app.wire.jobs import JobSubmit, Resolution, Start
from app.wire.problems import Problem


def resolve(
    engine: Engine,
    submit: JobSubmit,
    *,
    datasets: Mapping[str, DatasetFacts],
    root_seed: int,
    known: Collection[str] = (),
    base: Base | None = None,
) -> Resolution | list[Problem]:
    """Complete a submitted config, or return everything that is wrong with it.

    `datasets` maps the text of each reference in the config (`engine.data_uses`) to what it stands for; a reference
    that is absent does not exist. `known` are the names of all datasets, to suggest a near one. Pointers of problems
    and warnings are into `submit.config`.
    """
    problems = malformed(submit.config)
    if problems:
        return problems
    problems = list(_missing_data(engine.data_uses(submit.config), datasets, known))
    answer = engine.resolve(submit.config, root_seed=root_seed, datasets=datasets, start=submit.start, base=base)
    problems += answer.problems
    if problems:
        return problems
    check_origins(answer)
    return Resolution(
        config=answer.config,
        origins=answer.origins,
        digest=identity(engine, answer, datasets, submit.start, base),
        seed=root_seed,
        seeds=answer.seeds,
        total_steps=answer.total_steps,
        warnings=answer.warnings,
    )


def identity(
    engine: Engine, answer: EngineResolution, datasets: Mapping[str, DatasetFacts], start: Start, base: Base | None
) -> str:
    """Return the SHA-256 of all that decides what a training becomes: equal digests mean the same training.

    That is the resolved config, the seeds that are not part of it, the content of the data, what the weights start
    from, and the engine with its library's version. Names, tags and priority do not count.
    """
    return hashlib.sha256(
        canonical(
            {
                "engine": engine.name,
                "library": f"{engine.library} {version(engine.library)}",
                "config": answer.config,
                "seeds": answer.seeds,
                "datasets": {f"{facts.name}@{facts.version}": facts.digest for facts in datasets.values()},
                "start": _beginning(start, base),
            }
        ).encode()
    ).hexdigest()


def _beginning(start: Start, base: Base | None) -> dict[str, object]:
    """Return what of a start decides the first weights. What may differ (`allow`) does not: the config shows what does."""
    if base is None:
        return {"mode": start.mode}
    return {"mode": start.mode, "base": base.sha256, "branch": start.branch, "fitting": start.fitting}


def check_origins(answer: EngineResolution) -> None:
    """Assert that every leaf of the resolved config has exactly one origin, and that nothing else has one."""
    found = {at for at, _ in leaves(answer.config)}
    assert found == set(answer.origins), (
        f"leaves without origin: {sorted(found - set(answer.origins))}; "
        f"origins without leaf: {sorted(set(answer.origins) - found)}"
    )


def _missing_data(
    uses: Iterator[DataUse], datasets: Mapping[str, DatasetFacts], known: Collection[str]
) -> Iterator[Problem]:
    for use in uses:
        if use.ref is None:
            yield _not_a_reference(use)
        elif use.text not in datasets:
            yield _unknown_dataset(use.ref.name, use, known)


def _not_a_reference(use: DataUse) -> Problem:
    name = _suggested_name(use.text)
    return Problem(
        code="data-not-a-dataset",
        message=f"{use.text!r} at {use.pointer} is not a dataset of this server; files are never read by path",
        pointer=use.pointer,
        hint=f"Upload it once with `cairn dataset add PATH --name {name}` and write dataset:{name} here.",
    )


def _suggested_name(text: str) -> str:
    stem = text.rstrip("/").rsplit("/", 1)[-1].lower()
    kept = "".join(character if character.isascii() and character.isalnum() else "-" for character in stem)
    return kept.strip("-")[:40] or "NAME"


def _unknown_dataset(name: str, use: DataUse, known: Collection[str]) -> Problem:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if name in known:
        hint = f"`cairn dataset show {name}` lists its versions; without @VERSION the newest is taken."
    elif near:
        hint = "Did you mean " + " or ".join(f"dataset:{other}" for other in near) + "?"
    else:
        hint = f"Upload it first: `cairn dataset add PATH --name {name}`."
    return Problem(
        code="unknown-dataset",
        message=f"{use.text} at {use.pointer}: there is no such dataset{' version' if name in known else ''}",
        pointer=use.pointer,
        hint=hint,
    )
