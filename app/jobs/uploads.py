"""Data files that come with a submission: they become datasets, and the config's paths become references to them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session, sessionmaker
from starlette.datastructures import UploadFile

from app.artifacts import waiting
from app.artifacts.backends import CHUNK_BYTES
from app.artifacts.store import BlobStore
from app.datasets.ingest import pack_upload
from app.datasets.service import facts, register
from app.db import transaction
from app.engines.base import DataUse, Engine
from app.engines.documents import lookup, parts
from app.errors import Invalid
from app.jobs import tasks
from app.settings import Settings
from app.wire.datasets import DatasetRef
from app.wire.problems import Problem
from app.wire.uploads import UploadedData

DataFile = UploadFile | UploadedData
"""One that came in the form, or in pieces before."""


@dataclass(frozen=True)
class Place:
    """Something a path may mean: a part of an upload, or the whole of it."""

    path: tuple[str, ...]
    ref: DatasetRef


def take_in(
    sessions: sessionmaker[Session], settings: Settings, store: BlobStore, files: Sequence[DataFile], engine: Engine
) -> list[Place]:
    """Make a dataset of each file and return what the config's paths may mean.

    Each is a transaction of its own: the data stay even when the config turns out to be wrong, and need not be sent again.
    Raises what reading the data raises, and UploadIncomplete.
    """
    places: list[Place] = []
    for file in files:
        file_name = file.filename or "data"
        with _on_disk(store, file) as path:
            packed = pack_upload(settings, store, engine, path, file_name)
            with transaction(sessions) as session:
                known = facts(register(session, store, dataset_name(file_name), packed, engine.name)[0])
        places += _places(DatasetRef(name=known.name, version=known.version), known.parts)
    return places


@contextmanager
def _on_disk(store: BlobStore, file: DataFile) -> Iterator[Path]:
    """Yield where a file lies in the store's scratch directory."""
    if isinstance(file, UploadedData):
        with waiting.used(store, file.upload) as (path, _):
            yield path
        return
    with store.receive() as incoming:
        while chunk := file.file.read(CHUNK_BYTES):
            incoming.write(chunk)
        incoming.finish()
        yield incoming.path


def dataset_name(file_name: str) -> str:
    """Return the name of the dataset that an upload becomes: its file name without ending, made fit to be a name."""
    stem = file_name.replace("\\", "/").rsplit("/", 1)[-1].lower()
    stem = re.sub(r"\.(tar|tgz|zip|tar\.[a-z0-9]+|[a-z0-9]+)$", "", stem)
    return re.sub(r"[^a-z0-9._-]+", "-", stem).strip("._-")[:60] or "upload"


def _places(whole: DatasetRef, systems: Sequence[str]) -> list[Place]:
    paths = {tuple(system.split("/")): whole.model_copy(update={"system": system}) for system in systems}
    above = {path[:length] for path in paths for length in range(1, len(path))}
    roots = [path for path in above if all(other[: len(path)] == path for other in paths)]
    names = {(whole.name,), *roots} - set(paths)
    return [Place(path, ref) for path, ref in paths.items()] + [Place(path, whole) for path in sorted(names)]


def refer(engine: Engine, kind: str, config: Mapping[str, Any], places: Sequence[Place]) -> dict[str, Any]:
    """Return a copy of a config whose paths are references to what was uploaded.

    A path means the place whose end it shares: `../data/water/` is the system `water`, wherever it lay before.

    Raises:
        Invalid: a path fits nothing that was uploaded, or two things equally well.
    """
    changed = deepcopy(dict(config))
    problems: list[Problem] = []
    for use in list(tasks.data_uses(engine, kind, config)):
        if use.ref is not None:
            continue
        fitting = _fitting(use.text, places)
        if len(fitting) == 1:
            _replace(changed, use.pointer, str(fitting[0]))
        else:
            problems.append(_unclear(use, fitting, places))
    if problems:
        raise Invalid(problems)
    return changed


def _fitting(text: str, places: Sequence[Place]) -> list[DatasetRef]:
    path = tuple(part for part in text.replace("\\", "/").split("/") if part not in ("", ".", ".."))
    scores = {index: _shared_end(path, place.path) for index, place in enumerate(places)}
    best = max(scores.values(), default=0.0)
    fitting = [places[index].ref for index, score in scores.items() if score == best and best > 0]
    return list({str(ref): ref for ref in fitting}.values())


def _shared_end(path: tuple[str, ...], other: tuple[str, ...]) -> float:
    """Return how many parts two paths share at the end if one ends with the other, a little more if they are equal."""
    shared = min(len(path), len(other))
    if not shared or path[-shared:] != other[-shared:]:
        return 0
    return shared + 0.5 * (path == other)


def _replace(document: Any, pointer: str, value: str) -> None:
    *above, last = parts(pointer)
    holder = lookup(document, "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in above))
    holder[int(last) if isinstance(holder, list) else last] = value


def _unclear(use: DataUse, fitting: Sequence[DatasetRef], places: Sequence[Place]) -> Problem:
    pointer = f"/config{use.pointer}"
    there_are = ", ".join(_shown(places))
    if fitting:
        message = f"{use.text!r} may mean {' or '.join(str(ref) for ref in fitting)}"
        return Problem(code="ambiguous-path", message=message, pointer=pointer, hint="Write one of these instead.")
    message = f"{use.text!r} is nothing of what was uploaded"
    return Problem(code="path-not-uploaded", message=message, pointer=pointer, hint=f"There is: {there_are}.")


def _shown(places: Sequence[Place]) -> Iterator[str]:
    names = list(dict.fromkeys(str(place.ref) for place in places))
    yield from names[:10]
    if len(names) > 10:
        yield f"… ({len(names) - 10} more)"
