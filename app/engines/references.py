"""Data references of a config: where they stand, and how one without a version is pinned."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from app.engines.base import DatasetFacts, DataUse
from app.engines.documents import pointer
from app.wire.datasets import DatasetRef

Json = Any


def named(path: Sequence[str], value: Json) -> Iterator[DataUse]:
    """Yield every data reference of the text or list at `path`."""
    if isinstance(value, str):
        yield DataUse(pointer(*path), value, DatasetRef.parse(value))
    for index, text in enumerate(value if isinstance(value, list) else []):
        if isinstance(text, str):
            yield DataUse(pointer(*path, index), text, DatasetRef.parse(text))


def newest(ref: DatasetRef, facts: DatasetFacts) -> list[str]:
    """Return what is to be said of a reference that names no version; nothing of one that does."""
    return [f"version {facts.version} of {facts.name} is the newest"] if ref.version is None else []


def digests(texts: Sequence[str], datasets: Mapping[str, DatasetFacts]) -> str:
    """Return the datasets that references stand for, with the begin of their digests, as an origin's source."""
    used = {datasets[text].name: datasets[text] for text in texts}
    return ", ".join(f"{facts.name}@{facts.version} sha256 {facts.digest[:12]}" for facts in used.values())
