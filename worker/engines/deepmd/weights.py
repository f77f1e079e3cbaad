"""Reads files of weights into tensors by name: checkpoints, Cairn's own, frozen models. Runs nothing from them.

A file's form is told from its content; its name means nothing.
"""

import json
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from worker import wrappers
from worker.engines.base import RefusedFile
from worker.engines.deepmd import frozen, recognise
from worker.failures import is_out_of_memory
from worker.tensors import check_finite, first_line, listed

MAX_MEMBERS = 200_000
"""Members of a zip archive: each is a tensor, and the largest models with their optimizers have some ten thousand."""
MAX_GROWTH_BYTES = 256 << 20
"""By so much may an archive grow when it is unpacked: torch compresses the code of a frozen model, and no numbers."""

_ANEW = "Upload it again; if that does not help, its training has to write it again."
_EXTRA = "_extra_state"
_NAME = re.compile(r"model\.([^.]+)\..+", re.DOTALL)
_GLOBAL = re.compile(r"GLOBAL (\S+)")
_DUPLICATE = "._networks."
"""DeePMD-kit keeps every network of a collection under `networks` and once more under `_networks`."""


@dataclass(frozen=True)
class Weights:
    """What stands in a file of weights."""

    form: str
    """'checkpoint', 'checkpoint without optimizer', 'Cairn checkpoint' or 'frozen model'."""
    tensors: dict[str, torch.Tensor]
    """Under the names they have in a checkpoint: `model.BRANCH.….`; a single-task model's branch is `Default`."""
    aliases: dict[str, str]
    """By name of a tensor that shares its memory with another: that other one."""
    model_params: dict[str, Any]
    """The model section as the file has it; with `model_dict` when it is of a multi-task training."""
    parameters: frozenset[str] | None = None
    """Names of the tensors that are parameters; None: the file does not tell."""
    step: int | None = None
    """Training steps done."""
    has_optimizer: bool = False
    library: str | None = None
    config: dict[str, Any] | None = None
    """The whole resolved config; this and the seeds only in Cairn's own checkpoints."""
    seed: int | None = None
    seeds: dict[str, int] | None = None
    ranks: int = 1
    """How many trained it together, as far as it tells."""
    wrappers: Sequence[str] = ()
    """Prefixes that were taken off the names: the file was saved inside of `module.` or `_orig_mod.`."""

    @property
    def is_multi_task(self) -> bool:
        """Return whether it holds several models."""
        return "model_dict" in self.model_params

    @property
    def branches(self) -> list[str]:
        """Return the branches as names of tensors have them."""
        return list(self.model_params["model_dict"]) if self.is_multi_task else ["Default"]


def read(path: Path) -> Weights:
    """Return what a file of weights holds, on the CPU; a checkpoint's tensors stay in the file until they are used.

    Raises:
        RefusedFile: It is something else, damaged, or holds numbers that are not finite.
    """
    if zipfile.is_zipfile(path):
        weights = _read_zip(path)
    elif recognise.is_pickle(path):
        weights = _checkpoint(_load(path, mmap=False))
    else:
        raise recognise.refusal(path)
    check_finite(weights.tensors)
    return weights


def _read_zip(path: Path) -> Weights:
    try:
        with zipfile.ZipFile(path) as archive:
            _check_size(archive, path.stat().st_size)
            root = _root(archive)
            if f"{root}/constants.pkl" in archive.NameToInfo:
                return _frozen(archive, root)
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise RefusedFile(f"The file is a damaged zip archive: {error}.", _ANEW) from error
    return _checkpoint(_load(path, mmap=True))


def _check_size(archive: zipfile.ZipFile, size: int) -> None:
    """Refuse what is not weights but a way to fill a memory."""
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        message = f"The file is a zip archive of {len(members)} members; a file of weights has at most {MAX_MEMBERS}."
        raise RefusedFile(message, "Was it written by torch at all?")
    unpacked = sum(member.file_size for member in members)
    if unpacked > size + MAX_GROWTH_BYTES:
        message = f"The file is a zip archive of {size} bytes that would unpack to {unpacked}; torch packs no numbers."
        raise RefusedFile(message, "Upload the file as `dp --pt` wrote it, not packed again.")


def _root(archive: zipfile.ZipFile) -> str:
    """Return the directory that holds all members of an archive of torch's."""
    for name in archive.namelist():
        root, _, rest = name.partition("/")
        if rest == "data.pkl":
            return root
    raise recognise.refusal_of_zip(archive)


def _load(path: Path, *, mmap: bool) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        if match := _GLOBAL.search(str(error)):
            raise frozen.forbidden(match[1]) from error
        raise RefusedFile(f"The file is no checkpoint that torch can read: {first_line(error)}", _ANEW) from error
    except Exception as error:  # bytes of anybody's making fail in every way there is
        if is_out_of_memory(error):
            raise
        raise RefusedFile(f"The checkpoint is damaged: {first_line(error)}", _ANEW) from error


def _frozen(archive: zipfile.ZipFile, root: str) -> Weights:
    try:
        found = frozen.read(archive, root)
    except (RefusedFile, zipfile.BadZipFile):
        raise
    except Exception as error:  # the same
        if is_out_of_memory(error):
            raise
        raise RefusedFile(f"The frozen model is damaged: {first_line(error)}", _ANEW) from error
    tensors = {f"model.Default.{name}": tensor for name, tensor in found.tensors.items()}
    parameters = frozenset(f"model.Default.{name}" for name in found.parameters)
    return Weights("frozen model", tensors, aliases(tensors), found.model_section, parameters)


def _checkpoint(data: Any) -> Weights:
    held = _state(data)
    extra = wrappers.unwrapped(held, ())[0].get(_EXTRA)
    if not isinstance(extra, Mapping) or not isinstance(extra.get("model_params"), Mapping):
        raise _without_section(held)
    params = _plain(extra["model_params"])
    state, prefixes = wrappers.unwrapped(held, params.get("model_dict", ()))
    tensors = {name: value for name, value in state.items() if name != _EXTRA}
    _check_tensors(tensors, params)
    more: dict[str, Any] = {"step": _stock_step(extra), "has_optimizer": "optimizer" in data, "wrappers": prefixes}
    form = "checkpoint" if more["has_optimizer"] else "checkpoint without optimizer"
    if isinstance(data.get("cairn"), Mapping):
        form = "Cairn checkpoint"
        more |= _own(data["cairn"])
    return Weights(form, tensors, aliases(tensors), params, **more)


def _state(data: Any) -> Mapping[Any, Any]:
    """Return the state dict: the whole file's, or what stands under `model`."""
    state = data.get("model", data) if isinstance(data, Mapping) else None
    if isinstance(state, Mapping):
        return state
    raise RefusedFile(
        f"The file was written by torch, but holds a {type(data).__name__} instead of a checkpoint of DeePMD-kit.",
        "Upload what `dp --pt train` wrote.",
    )


def _without_section(state: Mapping[Any, Any]) -> RefusedFile:
    names = [str(name) for name, value in state.items() if torch.is_tensor(value)]
    if names:
        held = f"a plain state dict of {len(names)} tensors ({names[0]}, …)"
    else:
        held = listed(map(repr, state)) or "nothing"
    return RefusedFile(
        f"The file holds {held}, but not the model section that says what the weights mean (_extra_state.model_params).",
        "Upload the checkpoint as `dp --pt train` wrote it.",
    )


def _plain(params: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a model section as JSON has it."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(params))
    except (TypeError, ValueError, RecursionError) as error:
        raise RefusedFile(f"The file's model section is not one that JSON can hold: {error}.", _ANEW) from error
    return plain


def _check_tensors(tensors: Mapping[str, Any], params: Mapping[str, Any]) -> None:
    branches = params.get("model_dict", {"Default": {}})
    if not isinstance(branches, dict) or not all(isinstance(branch, dict) for branch in branches.values()):
        raise RefusedFile("The file's model section has a model_dict that is not an object of objects.", _ANEW)
    for name, value in tensors.items():
        if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise RefusedFile(f"{name!r} in the file is not a plain tensor, but {type(value).__name__}.", _ANEW)
        match = _NAME.fullmatch(name)
        if match is None or match[1] not in branches:
            known = ", ".join(branches)
            raise RefusedFile(f"The tensor {name!r} belongs to no model of the file's model section ({known}).", _ANEW)


def _stock_step(extra: Mapping[str, Any]) -> int | None:
    """Return the steps done before `dp --pt train` wrote a checkpoint: it stores the index of the last one, from 0."""
    infos = extra.get("train_infos")
    if not isinstance(infos, Mapping) or not isinstance(infos.get("step"), int):
        return None
    was_trained = infos["step"] > 0 or infos.get("lr") != 0
    return int(infos["step"]) + was_trained


def _own(cairn: Mapping[str, Any]) -> dict[str, Any]:
    """Return what Cairn writes beside the weights."""
    config, seed, seeds = cairn.get("config"), cairn.get("seed"), cairn.get("seeds")
    versions = cairn.get("versions", {})
    try:
        return {
            "step": int(cairn["step"]),
            "library": f"deepmd-kit {versions['deepmd-kit']}" if "deepmd-kit" in versions else None,
            "config": dict(json.loads(config) if isinstance(config, str) else config) if config is not None else None,
            "seed": int(seed) if seed is not None else None,
            "seeds": {str(name): int(value) for name, value in seeds.items()} if seeds is not None else None,
            "ranks": int(cairn.get("ranks", {"count": 1})["count"]),
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        message = f"What Cairn wrote into this checkpoint cannot be read: {type(error).__name__}: {error}"
        raise RefusedFile(message, _ANEW) from error


def aliases(tensors: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Return which names stand for the memory of another.

    The first name in sorted order that is not under `_networks` counts. Where every tensor has memory of its own, since
    the file was written from copies, the duplicates of `_networks` are told by their names and bytes.
    """
    firsts: dict[tuple[Any, ...], str] = {}
    found = {}
    for name in sorted(tensors, key=lambda name: (_DUPLICATE in name, name)):
        place = _place(tensors[name])
        first = firsts.setdefault(place, name) if place is not None else name
        if first != name:
            found[name] = first
    return found or _copied_duplicates(tensors)


def _place(tensor: torch.Tensor) -> tuple[Any, ...] | None:
    """Return where a tensor's numbers lie; None for one without any."""
    if tensor.numel() == 0:
        return None
    start = tensor.untyped_storage().data_ptr()
    return start, tensor.storage_offset(), tensor.dtype, tuple(tensor.shape), tensor.stride()


def _copied_duplicates(tensors: Mapping[str, torch.Tensor]) -> dict[str, str]:
    pairs = {name: name.replace(_DUPLICATE, ".networks.") for name in tensors if _DUPLICATE in name}
    return {
        name: first
        for name, first in sorted(pairs.items())
        if first in tensors
        and tensors[name].dtype == tensors[first].dtype
        and torch.equal(tensors[name], tensors[first])
    }
