"""Whether every seed arrives: the initial weights of a component are decided by its own seed and by nothing else."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from app.engines.seeds import derive
from worker.failures import TrainingFailure

Digests = Mapping[str, str | None]
"""SHA-256 of the initial weights by component; None: it has no weights."""

Build = Callable[[Mapping[str, int]], Digests]
"""Builds the model anew by these seeds, with all global generators in another state than when the training's own was built."""

Verdict = Literal["own-seed", "no-weights", "from-base"]
"""own-seed: decided by its seed alone. no-weights: there is nothing to draw. from-base: all its weights are the base's."""

_HINT = (
    "Nothing was trained, since this job could not be repeated. Choose another type for this part of the model, or report "
    "it with the library's version."
)


@dataclass(frozen=True)
class Component:
    """A part of a model that has a seed of its own."""

    name: str
    key: str
    """JSON pointer of its seed in the resolved config."""
    seed: int


@dataclass(frozen=True)
class Finding:
    """What was found about a component."""

    key: str
    seed: int
    sha256: str | None
    verdict: Verdict


Findings = dict[str, Finding]
"""By name of the component."""


def examine(components: Mapping[str, Component], initial: Digests, build: Build) -> Findings:
    """Return what is found about components whose `initial` weights are those that the training has.

    Raises:
        TrainingFailure: A seed does not decide the weights of its component, or decides those of another one.
    """
    seeds = {name: component.seed for name, component in components.items()}
    again = build(seeds)
    for name, component in components.items():
        if again[name] != initial[name]:
            raise _not_decided(component, initial[name], again[name])
    found: Findings = {}
    for name, component in components.items():
        if initial[name] is not None:
            _change(component, components, again, build({**seeds, name: derive(component.seed, "audit")}))
        verdict: Verdict = "no-weights" if initial[name] is None else "own-seed"
        found[name] = Finding(component.key, component.seed, initial[name], verdict)
    return found


def from_base(component: Component) -> Finding:
    """Return the finding about a component that is not looked at: none of its weights is drawn."""
    return Finding(component.key, component.seed, None, "from-base")


def _change(component: Component, components: Mapping[str, Component], before: Digests, after: Digests) -> None:
    """Raise TrainingFailure unless changing the seed of `component` changed its weights and no others."""
    if after[component.name] == before[component.name]:
        message = (
            f"The seed of {component.name} ({component.key} = {component.seed}) does not reach its weights: with another "
            f"seed they are the same (SHA-256 {_short(after[component.name])})."
        )
        raise TrainingFailure("configuration", message, hint=_HINT)
    for name, other in components.items():
        if name != component.name and after[name] != before[name]:
            message = (
                f"The weights of {name} do not depend on its own seed ({other.key} = {other.seed}) alone: changing that of "
                f"{component.name} ({component.key} = {component.seed}) changed them, too (SHA-256 {_short(before[name])} "
                f"before, {_short(after[name])} after)."
            )
            raise TrainingFailure("configuration", message, hint=_HINT)


def _not_decided(component: Component, first: str | None, second: str | None) -> TrainingFailure:
    message = (
        f"The initial weights of {component.name} are not decided by its seed ({component.key} = {component.seed}): built "
        "twice from it, with the global random generators in two states, they are not the same "
        f"(SHA-256 {_short(first)} and {_short(second)})."
    )
    return TrainingFailure("configuration", message, hint=_HINT)


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "of nothing"


def in_words(findings: Findings) -> tuple[str, dict[str, Any]]:
    """Return findings for the timeline, and the same as data."""
    verdicts = [finding.verdict for finding in findings.values()]
    data = {name: asdict(finding) for name, finding in findings.items()}
    parts = [
        f"{count} {words}"
        for words, count in (
            ("decided by their own seeds alone", verdicts.count("own-seed")),
            ("without weights", verdicts.count("no-weights")),
            ("taken from the base", verdicts.count("from-base")),
        )
        if count
    ]
    return f"Initial weights of {len(verdicts)} components checked: {', '.join(parts)}.", data
