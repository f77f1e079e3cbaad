"""Reads files of weights into tensors by MiniMind's names: .pth files, Hugging Face directories, Cairn's checkpoints.

A file's form is told from its content. Runs nothing from it.
"""

import json
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from app.engines.minimind.model import EMBEDDING, HEAD, shapes
from app.wire.problems import Notice
from worker import wrappers
from worker.engines.base import RefusedFile
from worker.engines.minimind import directory, names, sizes, tokenizer
from worker.engines.minimind.tokenizer import Tokenizer
from worker.failures import is_out_of_memory
from worker.tensors import check_finite, first_line, listed

Json = Any

_ANEW = "Upload it again; if that does not help, its training has to write it again."
_USE = "Upload a .pth of MiniMind, a Hugging Face directory as tar or zip file, or a checkpoint of Cairn's."
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_GLOBAL = re.compile(r"GLOBAL (\S+)")
_COMPUTED = ("freqs_cos", "freqs_sin", "pos_cis", "rotary_emb.inv_freq")
"""Tables of positions that some versions saved: they follow from the config."""


@dataclass(frozen=True)
class Weights:
    """What stands in a file of weights."""

    form: str
    """'MiniMind weights', 'Hugging Face directory' or 'Cairn checkpoint'."""
    tensors: dict[str, torch.Tensor]
    """Under MiniMind's names, on the CPU; a tied head is there, too."""
    section: dict[str, Json]
    """The model section, complete but for the seed."""
    tokenizer: Tokenizer | None = None
    notices: Sequence[Notice] = ()
    step: int | None = None
    has_optimizer: bool = False
    config: dict[str, Json] | None = None
    """The whole resolved config; this, the seeds and the library only in Cairn's own checkpoints."""
    seed: int | None = None
    seeds: dict[str, int] | None = None
    ranks: int = 1
    """How many trained it together, as far as it tells."""
    library: str | None = None

    @property
    def aliases(self) -> dict[str, str]:
        """By name of a tensor that stands for the memory of another: that other one."""
        found = {name: names.alias_of(name, self.section["tie_word_embeddings"]) for name in self.tensors}
        return {name: other for name, other in found.items() if other is not None}


@dataclass
class _Found:
    """What a form of file gives; a section of None is told by the tensors."""

    form: str
    state: Mapping[Any, Any]
    section: dict[str, Json] | None
    tokenizer: Tokenizer | None = None
    more: dict[str, Any] = field(default_factory=dict)


def read(path: Path, file_name: str = "") -> Weights:
    """Return what a file of weights holds.

    Raises:
        RefusedFile: It is something else, damaged, or holds numbers that are not finite.
    """
    found = _recognise(path)
    state, prefixes = wrappers.unwrapped(found.state, ())
    tensors = {name: value for name, value in state.items() if not name.endswith(_COMPUTED)}
    _check_tensors(tensors)
    notices = [Notice(code="unwrapped", message=wrappers.in_words(prefixes), hint=None)] if prefixes else []
    section = found.section
    if section is None:
        section, more = sizes.infer(tensors, file_name)
        notices += more
    section = {**section, "tie_word_embeddings": _is_tied(tensors, section["tie_word_embeddings"])}
    if section["tie_word_embeddings"]:
        tensors[HEAD] = tensors[EMBEDDING]
    _compare(tensors, section)
    check_finite(tensors)
    return Weights(found.form, tensors, section, found.tokenizer, notices, **found.more)


def _recognise(path: Path) -> _Found:
    if directory.is_one(path):
        packed = directory.read(path)
        return _Found("Hugging Face directory", packed.tensors, packed.section, packed.tokenizer)
    with path.open("rb") as file:
        start = file.read(2)
    is_zip = zipfile.is_zipfile(path)
    if not is_zip and not _PICKLE.match(start):
        raise RefusedFile("The file is neither weights that torch saved nor a packed Hugging Face directory.", _USE)
    data = _load(path, mmap=is_zip)
    if not isinstance(data, Mapping):
        raise RefusedFile(f"The file holds a {type(data).__name__} instead of tensors by name.", _USE)
    if isinstance(data.get("cairn"), Mapping):
        return _own(data)
    if isinstance(data.get("model"), Mapping):
        step = data.get("step")
        more = {"step": step if isinstance(step, int) else None, "has_optimizer": "optimizer" in data}
        return _Found("MiniMind weights", data["model"], None, more=more)
    return _Found("MiniMind weights", data, None)


def _load(path: Path, *, mmap: bool) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        if match := _GLOBAL.search(str(error)):
            message = f"The file asks to run {match[1]!r} when it is opened. Weights need nothing of the kind."
            raise RefusedFile(message, "Do not open this file with tools that trust it.") from error
        raise RefusedFile(f"The file is none that torch can read: {first_line(error)}", _ANEW) from error
    except Exception as error:  # bytes of anybody's making fail in every way there is
        if is_out_of_memory(error):
            raise
        raise RefusedFile(f"The file is damaged: {first_line(error)}", _ANEW) from error


def _own(data: Mapping[str, Any]) -> _Found:
    """Return what a checkpoint of Cairn's holds."""
    try:
        cairn = data["cairn"]
        config = json.loads(cairn["config"])
        section = {key: value for key, value in config["model"].items() if key != "seed"}
        own = tokenizer.read(cairn["tokenizer"], json.loads(cairn["tokenizer_config"]))
        more = {
            "step": int(cairn["step"]),
            "has_optimizer": "optimizer" in data,
            "config": config,
            "seed": int(cairn["seed"]),
            "seeds": {str(name): int(value) for name, value in cairn["seeds"].items()},
            "ranks": int(cairn.get("ranks", {"count": 1})["count"]),
            "library": f"transformers {cairn['versions']['transformers']}",
        }
        return _Found("Cairn checkpoint", dict(data["model"]), section, own, more)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        message = f"What Cairn wrote into this checkpoint cannot be read: {first_line(error)}"
        raise RefusedFile(message, f"Is it a checkpoint of another engine? {_USE}") from error


def _check_tensors(tensors: Mapping[str, Any]) -> None:
    for name, value in tensors.items():
        is_plain = (
            torch.is_tensor(value) and value.layout == torch.strided and not value.is_meta and not value.is_quantized
        )
        if not is_plain or not value.is_floating_point():
            raise RefusedFile(
                f"{name!r} in the file is not a plain tensor of numbers, but {type(value).__name__}.", _USE
            )
    if EMBEDDING not in tensors:
        held = listed(map(repr, tensors)) or "nothing"
        raise RefusedFile(f"The file holds {held}, but no {EMBEDDING}: it is no model of MiniMind's.", _USE)


def _is_tied(tensors: Mapping[str, torch.Tensor], declared: bool) -> bool:
    """Return whether the head is the embedding: MiniMind's files hold both, also when they are one."""
    head, embedding = tensors.get(HEAD), tensors[EMBEDDING]
    if head is None:
        return declared
    return declared and head.shape == embedding.shape and torch.equal(head, embedding)


def _compare(has: Mapping[str, torch.Tensor], section: Mapping[str, Json]) -> None:
    """Refuse a file whose tensors are not those of its model section."""
    wants = shapes(section)
    differences = []
    if missing := sorted(wants.keys() - has.keys()):
        differences.append(f"it lacks {listed(missing)}")
    if extra := sorted(has.keys() - wants.keys()):
        differences.append(f"it has, beyond the model, {listed(extra)}")
    other = [
        f"{name} of shape {list(has[name].shape)} instead of {wants[name]}"
        for name in sorted(has.keys() & wants.keys())
        if list(has[name].shape) != wants[name]
    ]
    if other:
        differences.append(f"it has {listed(other)}")
    if differences:
        raise RefusedFile(f"The file is not one whole model: {'; '.join(differences)}.", _ANEW)
