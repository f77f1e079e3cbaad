"""Seeds as the lines of a table, with what the seed audit found, and the log of the random generators' states."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from app.wire.jobs import Event


@dataclass(frozen=True)
class SeedRow:
    """One seed of a job."""

    name: str
    """Of the component: `model.descriptor`, `data.order`."""
    seed: int
    """The seed in force."""
    key: str | None = None
    """JSON pointer of the seed in the resolved config, if it was audited."""
    sha256: str | None = None
    """Digest of the component's initial weights; None where it has none of its own."""
    verdict: str | None = None
    """What the audit says: a key of `words.AUDIT_WORDS`; None: it has no weights to look at, or nothing was audited."""


@dataclass(frozen=True)
class GeneratorRow:
    """States of the random generators at one checkpoint."""

    step: int
    """Step of the checkpoint."""
    attempt: int | None
    """Execution that wrote it."""
    digests: Mapping[str, str]
    """SHA-256 of the state, by generator."""


def rows(seeds: Mapping[str, int], audit: Event | None) -> list[SeedRow]:
    """Return the seeds of a job, the audited ones first, in the order in which the audit names them."""
    findings = audit.data if audit else {}
    audited = [
        SeedRow(name, found.get("seed", 0), found.get("key"), found.get("sha256"), found.get("verdict"))
        for name, found in findings.items()
        if isinstance(found, dict)
    ]
    return [*audited, *(SeedRow(name, seed) for name, seed in seeds.items() if name not in findings)]


def generator_rows(checkpoints: Iterable[Event]) -> list[GeneratorRow]:
    """Return the states that checkpoints' events tell of; those without any are left out."""
    found = ((event, event.data.get("generators")) for event in checkpoints)
    return [
        GeneratorRow(event.data.get("step", 0), event.attempt, digests)
        for event, digests in found
        if isinstance(digests, dict) and digests
    ]


def generators(logged: Sequence[GeneratorRow]) -> list[str]:
    """Return the names of all generators of a log, in the order in which they first appear."""
    return list(dict.fromkeys(name for row in logged for name in row.digests))
