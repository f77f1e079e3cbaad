"""A submission and its data become a complete config whose every leaf says where it came from. Pure: no I/O, no state."""

import difflib
import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import TypeVar

from app.engines.base import Base, DatasetFacts, DataUse, Engine, EngineResolution
from app.engines.documents import canonical, leaves, malformed
from app.wire.problems import Notice, Problem
from app.wire.resolution import Resolution
from app.wire.submission import JobSubmit, Start

P = TypeVar("P", bound=Problem)


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

    `datasets` maps the text of each reference (`data_uses`) to what it stands for; a reference that is absent does not
    exist. `known` are the names of all datasets, to suggest a near one. A `base` that the submission names but that is
    not given is reported by the caller: the answer is then a list, possibly empty, of what else is wrong. Pointers of
    problems and warnings are into the submission: `/config/…`, `/start/…`, `/seed`.
    """
    problems = below("/config", malformed(submit.config))
    if problems:
        return problems
    start = submit.start
    problems = [*_start_problems(start, engine, base), *_seed_problems(submit, base), *_rank_problems(submit, base)]
    base = base if base and start.mode != "scratch" and base.facts.engine == engine.name else None
    kept = _kept_seed(start, base)
    root_seed = root_seed if kept is None else kept
    problems += missing_data(data_uses(engine, submit, base), datasets, known, base)
    ranks = submit.resources.gpus
    answer = engine.resolve(submit.config, root_seed=root_seed, datasets=datasets, start=start, base=base, ranks=ranks)
    problems += below("/start", answer.start_problems) + below("/config", answer.problems)
    if problems or (base is None and start.mode != "scratch"):
        return problems
    check_origins(answer)
    return Resolution(
        config=answer.config,
        origins=answer.origins,
        digest=identity(engine, answer, datasets, start, base, ranks),
        seed=root_seed,
        seeds=answer.seeds,
        total_steps=answer.total_steps,
        warnings=[*_of_base(base), *below("/config", answer.warnings), *_larger_steps(ranks)],
    )


def data_uses(engine: Engine, submit: JobSubmit, base: Base | None) -> list[DataUse]:
    """Return every data reference of a submission, with pointers into it.

    A resumed training inherits its data: what of them the submission does not name itself is listed too, with
    `/start/base` for a pointer.
    """
    own = list(engine.data_uses(submit.config))
    uses = [replace(use, pointer=f"/config{use.pointer}") for use in own]
    config = base.facts.config if base and submit.start.mode == "resume" else None
    named = {_section(use) for use in own}
    inherited = engine.data_uses(config) if config else ()
    return uses + [replace(use, pointer=_OF_BASE) for use in inherited if _section(use) not in named]


_OF_BASE = "/start/base"


def _section(use: DataUse) -> str:
    """Return the place of the list that a reference stands in, or its own."""
    head, _, last = use.pointer.rpartition("/")
    return head if last.isdigit() else use.pointer


def below(head: str, problems: Iterable[P]) -> list[P]:
    """Turn pointers into a part of the submission into pointers into the submission."""
    return [
        problem if problem.pointer is None else problem.model_copy(update={"pointer": head + problem.pointer})
        for problem in problems
    ]


def _start_problems(start: Start, engine: Engine, base: Base | None) -> Iterator[Problem]:
    if start.mode in _TAKES_NO:
        why, keys, hint = _TAKES_NO[start.mode]
        for key in keys:
            value = getattr(start, key)
            if value not in (None, [], {}, "reuse", ""):
                message = f"start.mode {start.mode} {why}, so it has no start.{key}"
                yield Problem(code="contradiction", message=message, pointer=f"/start/{key}", hint=hint)
    if start.mode == "scratch":
        return
    if not start.base:
        message = f"start.mode {start.mode} needs start.base: what to start from"
        hint = "Name a base model, such as water or water@3, or a checkpoint of a job: job:17 or job:17@4000."
        yield Problem(code="missing-key", message=message, pointer="/start", hint=hint)
    if base and base.facts.engine != engine.name:
        message = f"{base.name} is a model of {base.facts.engine}, but the submission is for {engine.name}"
        hint = f"Choose a base of {engine.name}, or engine: {base.facts.engine}."
        yield Problem(code="wrong-engine", message=message, pointer=_OF_BASE, hint=hint)


def _of_base(base: Base | None) -> Iterator[Notice]:
    """Yield what the owner of a job should know of how the tensors of its base were named."""
    if base is None:
        return
    for notice in base.facts.warnings:
        if notice.code == "unwrapped":
            yield notice.model_copy(update={"message": f"{base.name}: {notice.message}", "pointer": _OF_BASE})


_TAKES_NO = {
    "scratch": (
        "starts from seeds alone", ("base", "branch", "fitting", "allow"), "Choose mode init or finetune, or remove it."
    ),
    "resume": (
        "takes its checkpoint as it is", ("branch", "fitting", "allow"), "Remove it, or choose mode init or finetune."
    ),
}  # fmt: skip
"""Why a mode has no use for some keys of `Start`, which, and what to do."""


def _seed_problems(submit: JobSubmit, base: Base | None) -> Iterator[Problem]:
    kept = _kept_seed(submit.start, base)
    if submit.start.mode == "resume" and submit.replicas > 1:
        message = (
            f"replicas is {submit.replicas}, but a resumed training keeps its seeds: all would be the same training"
        )
        hint = "Resume it once, or choose mode init for new trainings from these weights."
        yield Problem(code="equal-replicas", message=message, pointer="/replicas", hint=hint)
        return
    if base and kept is not None and submit.seed not in (None, kept):
        message = f"seed is {submit.seed}, but {base.name} was trained with {kept}: a resumed training keeps its seed"
        hint = "Leave it out, or choose mode init for a new training from these weights."
        yield Problem(code="contradicts-base", message=message, pointer="/seed", hint=hint)


def _kept_seed(start: Start, base: Base | None) -> int | None:
    """Return the root seed that a resumed training keeps, if there is one."""
    return base.facts.seed if base and start.mode == "resume" else None


def _rank_problems(submit: JobSubmit, base: Base | None) -> Iterator[Problem]:
    """A checkpoint holds the generators of each rank, and the order of the data counts them."""
    gpus = submit.resources.gpus
    if base is None or submit.start.mode != "resume" or base.facts.ranks == gpus:
        return
    trained = f"{base.name} was trained with {base.facts.ranks}"
    message = f"resources.gpus is {gpus}, but {trained}: a resumed training goes on with as many"
    hint = f"Ask for {base.facts.ranks}, or choose mode init for a new training from these weights."
    yield Problem(code="contradicts-base", message=message, pointer="/resources/gpus", hint=hint)


def _larger_steps(ranks: int) -> Iterator[Notice]:
    """Say what several ranks change, once: nobody scales the learning rate behind its owner's back."""
    if ranks > 1:
        what = f"each step takes {ranks} batches, one for each GPU, and the mean of their gradients"
        message = f"{what}; the learning rate stays as it is written"
        hint = "For the same number of epochs train for fewer steps, perhaps at a higher learning rate."
        yield Notice(code="larger-steps", message=message, pointer="/resources/gpus", hint=hint)


def identity(
    engine: Engine,
    answer: EngineResolution,
    datasets: Mapping[str, DatasetFacts],
    start: Start,
    base: Base | None,
    ranks: int,
) -> str:
    """Return the SHA-256 of all that decides what a training becomes: equal digests mean the same training.

    That is the resolved config, the seeds that are not part of it, the content of the data, what the weights start
    from, how many ranks share a step, and the engine with its library's version. Names, tags and priority do not count.
    """
    decides: dict[str, object] = {
        "engine": engine.name,
        "library": f"{engine.library} {version(engine.library)}",
        "config": answer.config,
        "seeds": answer.seeds,
        "datasets": {f"{facts.name}@{facts.version}": facts.digest for facts in datasets.values()},
        "start": _beginning(answer, start, base),
    }
    if ranks > 1:  # a single process has the identity that it always had
        decides["ranks"] = ranks
    return hashlib.sha256(canonical(decides).encode()).hexdigest()


def _beginning(answer: EngineResolution, start: Start, base: Base | None) -> dict[str, object]:
    """Return what of a start decides the first weights. What may differ (`allow`) does not: the config shows what does."""
    if base is None:
        return {"mode": start.mode}
    return {"mode": start.mode, "base": base.sha256, "tasks": answer.beginning}


def check_origins(answer: EngineResolution) -> None:
    """Assert that every leaf of the resolved config has exactly one origin, and that nothing else has one."""
    found = {at for at, _ in leaves(answer.config)}
    assert found == set(answer.origins), (
        f"leaves without origin: {sorted(found - set(answer.origins))}; "
        f"origins without leaf: {sorted(set(answer.origins) - found)}"
    )


def missing_data(
    uses: Iterable[DataUse], datasets: Mapping[str, DatasetFacts], known: Collection[str], base: Base | None
) -> Iterator[Problem]:
    """Yield what is wrong with references that stand for nothing in `datasets`; `known` are the names of all."""
    for use in uses:
        if use.ref is None:
            yield _not_a_reference(use)
        elif use.text not in datasets and use.pointer == _OF_BASE and base:
            yield _lost_dataset(use, base)
        elif use.text not in datasets:
            yield _unknown_dataset(use.ref.name, use, known)


def _lost_dataset(use: DataUse, base: Base) -> Problem:
    message = f"{base.name} was trained with {use.text}, which this server does not have"
    hint = "Add it under this name, or name other data in the config."
    return Problem(code="unknown-dataset", message=message, pointer=use.pointer, hint=hint)


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
