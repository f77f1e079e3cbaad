"""Neighbour and data statistics: computed once per artifact key, then loaded, with the same bits either way."""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from deepmd.pt.model.model.model import BaseModel
from deepmd.pt.utils.update_sel import UpdateSel
from deepmd.utils.data_system import get_data

from app.engines.documents import leaves, lookup, pointer
from worker.engines.base import Context
from worker.engines.deepmd.config import DeepmdConfig

NEIGHBOURS, STATISTICS = "neighbours", "statistics"
"""Artifact kinds, named by `app.engines.deepmd.naming.artifact_keys`. The first is a JSON object, the second a zip of one HDF5 file per task."""

Measured = dict[str, list[Any]]
"""By measurement (`TASK/rcut/mixed`): the smallest distance in Å and the largest number of neighbours, per type."""


def resolve_neighbours(config: DeepmdConfig, context: Context, key: str | None) -> dict[str, float]:
    """Measure neighbours, put numbers in place of `sel: "auto"` and return the smallest distance (Å) of each task."""
    path = context.artifact(NEIGHBOURS, key) if key else None
    measured: Measured = json.loads(path.read_bytes()) if path else {}
    known = len(measured)
    before = {task: config.model(task) for task in config.tasks}
    after, closest = {}, {}
    for task in config.tasks:
        with _remembering(measured, task):
            after[task], closest[task] = _update_sel(config, task)
    _agree(before, after, config.shared_links or {})
    for task in config.tasks:
        config.set_model(task, after[task])
        place = pointer("model", "model_dict", task) if config.is_multi_task else "/model"
        _report_resolved(context, before[task], after[task], place, task)
    if key and len(measured) > known:
        context.keep(NEIGHBOURS, key, json.dumps(measured, sort_keys=True).encode())
    return closest


def _update_sel(config: DeepmdConfig, task: str) -> tuple[dict[str, Any], float]:
    model, section = config.model(task), config.data(task)["training_data"]
    # The data is opened only when something has to be measured.
    data = _Lazy(lambda: get_data(section, 0, model["type_map"], None))
    # DeePMD changes nested sections in place; the caller compares before with after.
    copy = json.loads(json.dumps(model))
    after, closest = BaseModel.update_sel(data, model["type_map"], copy)
    return after, closest


def _agree(before: Mapping[str, Any], after: Mapping[str, Any], links: Mapping[str, Any]) -> None:
    """Give a part that tasks share one number for every "auto", in place: the largest that one of them needs.

    DeePMD-kit counts for each task by itself; one descriptor then has statistics of two lengths, or divides by two
    numbers.
    """
    for link in links.values():
        places = [(item["model_key"], _place(item["shared_type"])) for item in link["links"]]
        task, at = places[0]
        for path, value in list(leaves(lookup(before[task], at))):
            if _is_auto(value):
                found = [lookup(after[other], where + path) for other, where in places]
                largest = np.max(found, axis=0).tolist()
                for other, where in places:
                    holder, _, key = (where + path).rpartition("/")
                    lookup(after[other], holder)[key] = largest


def _place(shared_type: str) -> str:
    """Return where in a model section something is shared, which DeePMD-kit calls `descriptor_hybrid_1`."""
    part, _, member = shared_type.partition("_hybrid_")
    return f"/{part}/list/{member}" if member else f"/{part}"


def _is_auto(value: Any) -> bool:
    return isinstance(value, str) and value.split(":")[0] == "auto"


class _Lazy:
    """DeePMD's data system, opened at the first use."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make, self._made = make, None

    def __getattr__(self, name: str) -> Any:
        if self._made is None:
            self._made = self._make()
        return getattr(self._made, name)


@contextmanager
def _remembering(measured: Measured, task: str) -> Iterator[None]:
    """Let DeePMD look its neighbour measurements up in `measured`, and add those that are missing."""
    original = UpdateSel.get_nbor_stat

    def lookup(self: Any, data: Any, type_map: Any, rcut: float, mixed_type: bool = False) -> tuple[float, Any]:
        name = f"{task}/{float(rcut)!r}/{'mixed' if mixed_type else 'typed'}"
        if name not in measured:
            distance, counts = original(self, data, type_map, rcut, mixed_type=mixed_type)
            measured[name] = [float(distance), np.asarray(counts).tolist()]
        distance, counts = measured[name]
        return distance, np.asarray(counts)

    with mock.patch.object(UpdateSel, "get_nbor_stat", lookup):
        yield


def _report_resolved(context: Context, before: dict[str, Any], after: dict[str, Any], place: str, task: str) -> None:
    """Put every number that took the place of an `auto` on the timeline."""
    resolved = {}
    for path, value in leaves(before):
        if _is_auto(value):
            resolved[place + path] = lookup(after, path)
    if resolved:
        listed = ", ".join(f"{path} = {value}" for path, value in resolved.items())
        context.event("derived", f"Resolved from neighbours: {listed}", {"task": task, "values": resolved})


def ensure_statistics(
    tasks: list[str], context: Context, key: str | None, directory: Path, compute: Callable[[Mapping[str, Path]], None]
) -> dict[str, Path]:
    """Return one statistics file per task, unpacked from the artifact or made by `compute`.

    The training always reads the files, also right after they were made, so that both ways give the same bits. They
    are computed with one thread: sums then do not depend on how many cores the machine has.
    """
    directory.mkdir(parents=True, exist_ok=True)
    files = {task: directory / f"{index}.hdf5" for index, task in enumerate(tasks)}
    path = context.artifact(STATISTICS, key) if key else None
    if path is not None:
        _unpack(path, files)
    else:
        with one_thread():
            compute(files)
        if key:
            context.keep(STATISTICS, key, _pack(files))
    source = "loaded" if path is not None else "computed"
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files.values())).hexdigest()
    context.event("statistics", f"Statistics {source}.", {"source": source, "sha256": digest})
    return files


def _pack(files: Mapping[str, Path]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for file in files.values():
            # A fixed date: the same statistics are the same bytes.
            archive.writestr(zipfile.ZipInfo(file.name), file.read_bytes())
    return buffer.getvalue()


def _unpack(path: Path, files: Mapping[str, Path]) -> None:
    with zipfile.ZipFile(path) as archive:
        for file in files.values():
            file.write_bytes(archive.read(file.name))


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute with one thread in this block."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
