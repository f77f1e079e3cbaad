"""A Hugging Face directory, packed as tar or zip: its config.json as a model section, its tensors, its tokenizer."""

import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import safetensors
import safetensors.torch
import torch
from transformers import PreTrainedConfig
from transformers.models.llama import LlamaConfig
from transformers.models.qwen3 import Qwen3Config
from transformers.models.qwen3_moe import Qwen3MoeConfig

from app.engines.minimind.keys import MODEL_DEFAULTS, members
from app.engines.minimind.model import completed
from worker.engines.base import RefusedFile
from worker.engines.minimind import tokenizer
from worker.engines.minimind.tokenizer import Tokenizer
from worker.tensors import first_line

Json = Any

CONFIG = "config.json"
_CLASSES: Mapping[str, type[PreTrainedConfig]] = {
    "qwen3": Qwen3Config,
    "qwen3_moe": Qwen3MoeConfig,
    "llama": LlamaConfig,
}
_OWN = "minimind"
"""Model type that MiniMind registers for its own code."""
_SAME = frozenset(members("/model")) - {"family", "seed", "dropout", "use_moe", "rope_theta"}
_MUST_BE = {
    "attention_bias": (False,), "mlp_bias": (False,), "use_sliding_window": (False,), "mlp_only_layers": ([],),
    "decoder_sparse_step": (1,), "quantization_config": (),
}  # fmt: skip
"""Keys that no model of this engine has another value for; null is as good as left out."""


@dataclass(frozen=True)
class Directory:
    """What a packed directory holds."""

    section: dict[str, Json]
    tensors: dict[str, torch.Tensor]
    tokenizer: Tokenizer | None


@dataclass(frozen=True)
class _Files:
    """The files next to config.json, in memory only when they are read."""

    names: list[str]
    read: Callable[[str], bytes]


def is_one(path: Path) -> bool:
    """Return whether a file is an archive with a config.json."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return any(PurePosixPath(name).name == CONFIG for name in archive.namelist())
    return tarfile.is_tarfile(path)


def read(path: Path) -> Directory:
    """Return what a packed directory holds.

    Raises:
        RefusedFile: It lacks something, or is of another architecture.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return _read(_beside([one.filename for one in archive.infolist() if not one.is_dir()], archive.read))
        with tarfile.open(path) as tar:
            members = {member.name: member for member in tar.getmembers() if member.isfile()}
            return _read(_beside(list(members), lambda name: _content(tar, members[name])))
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, NotImplementedError) as error:
        raise RefusedFile(f"The archive is damaged: {first_line(error)}", "Pack it, or upload it, again.") from error


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None, "only files are asked for"
    return file.read()


def _beside(names: list[str], read: Callable[[str], bytes]) -> _Files:
    configs = [name for name in names if PurePosixPath(name).name == CONFIG]
    if not configs:
        raise RefusedFile(f"The archive holds no {CONFIG}.", "Pack the whole directory that `save_pretrained` wrote.")
    root = PurePosixPath(min(configs, key=lambda name: (name.count("/"), name))).parent
    found = {PurePosixPath(name).name: name for name in names if PurePosixPath(name).parent == root}
    return _Files(sorted(found), lambda name: read(found[name]))


def _read(files: _Files) -> Directory:
    section, tensors = _section(_parsed(files, CONFIG)), _tensors(files)
    if not section["use_moe"] and not any("q_norm" in name for name in tensors):
        section["family"] = "llama"  # MiniMind's own model type says nothing of these norms
    return Directory(section, tensors, _tokenizer(files))


def _parsed(files: _Files, name: str) -> dict[str, Json]:
    try:
        value = json.loads(files.read(name))
    except ValueError as error:
        raise RefusedFile(f"Its {name} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise RefusedFile(f"Its {name} holds no object.")
    return value


def _section(config: Mapping[str, Json]) -> dict[str, Json]:
    kind, values = config.get("model_type"), _values(config)
    for key, allowed in _MUST_BE.items():
        if values.get(key) is not None and values[key] not in allowed:
            raise RefusedFile(f"Its {CONFIG} has {key} = {values[key]!r}, which no model of this engine has.")
    section = {**MODEL_DEFAULTS, **{key: values[key] for key in _SAME if values.get(key) is not None}}
    section |= {"family": "llama" if kind == "llama" else "qwen3", "rope_theta": _rope_theta(values)}
    section["use_moe"] = kind == "qwen3_moe" or (kind == _OWN and bool(config.get("use_moe")))
    try:
        return completed(section)
    except (TypeError, ArithmeticError) as error:
        raise RefusedFile(f"The sizes in its {CONFIG} make no sense: {error}") from error


def _values(config: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return what a config.json says, with what transformers takes for left-out keys of its own model types."""
    kind = config.get("model_type")
    if kind == _OWN:
        return config
    if kind not in _CLASSES:
        message = f"Its {CONFIG} names model type {kind!r}; this engine trains {', '.join(_CLASSES)} and {_OWN}."
        raise RefusedFile(message, "Start from a model of one of these types.")
    try:
        known = _CLASSES[str(kind)].from_dict(dict(config))
    except Exception as error:  # transformers checks in many ways
        raise RefusedFile(f"transformers does not accept its {CONFIG}: {first_line(error)}") from error
    return {**known.to_dict(), **({"num_experts": known.num_experts} if kind == "qwen3_moe" else {})}


def _rope_theta(values: Mapping[str, Json]) -> Json:
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise RefusedFile(f"Its positions are scaled ({kind}), which no model of this engine knows.")
    return rope.get("rope_theta") or values.get("rope_theta") or MODEL_DEFAULTS["rope_theta"]


def _tensors(files: _Files) -> dict[str, torch.Tensor]:
    names = [name for name in files.names if name.endswith(".safetensors")]
    load = safetensors.torch.load
    if not names:
        names = [name for name in files.names if name.startswith("pytorch_model") and name.endswith(".bin")]
        load = _unpickled
    if not names:
        raise RefusedFile("The archive holds no *.safetensors next to its config.json.", "Pack the whole directory.")
    found: dict[str, torch.Tensor] = {}
    for name in names:
        try:
            found |= load(files.read(name))
        except (safetensors.SafetensorError, pickle.UnpicklingError, RuntimeError, ValueError) as error:
            raise RefusedFile(
                f"Its {name} cannot be read: {first_line(error)}", "Pack it, or upload it, again."
            ) from error
    return found


def _unpickled(data: bytes) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return loaded


def _tokenizer(files: _Files) -> Tokenizer | None:
    if "tokenizer.json" not in files.names:
        return None
    config = _parsed(files, "tokenizer_config.json") if "tokenizer_config.json" in files.names else {}
    if "chat_template.jinja" in files.names:
        config["chat_template"] = files.read("chat_template.jinja").decode(errors="replace")
    return tokenizer.read(files.read("tokenizer.json").decode(errors="replace"), config)
