"""Reads a frozen model (TorchScript `.pth`) without running anything of it: its tensors and its model section.

`torch.jit.load` compiles the code in the archive and needs every custom operator, so it is not used. A TorchScript archive
is a zip: `data.pkl` pickles the modules as objects of classes `__torch__.…`, tensors refer to the members `data/N`, and
`code/….py` names parameters and buffers of every class. The unpickler here knows plain containers, tensors and empty
stand-ins for those classes, and nothing else.
"""

import io
import json
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from worker.engines.base import RefusedFile

MODEL_SECTION = "model_def_script"
"""Attribute of a frozen model that holds its model section as JSON."""

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_CLASS = re.compile(
    r"^class (\w+)\(Module\):\n\s+__parameters__ = \[(.*?)\]\n\s+__buffers__ = \[(.*?)\]", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Frozen:
    """What a frozen model holds. Names of tensors are those of its `state_dict`."""

    tensors: dict[str, torch.Tensor]
    parameters: frozenset[str]
    model_section: dict[str, Any]


def read(archive: zipfile.ZipFile, root: str) -> Frozen:
    """Return the tensors and the model section of the TorchScript archive whose members lie below `root`.

    Raises:
        RefusedFile: It holds something that a frozen model does not, or is no DeePMD-kit model.
    """
    if archive.NameToInfo.get(f"{root}/byteorder") and archive.read(f"{root}/byteorder") != b"little":
        raise RefusedFile("This frozen model was written on a big-endian machine.", "Freeze it again on this one.")
    reader = _Reader(archive, root)
    model = reader.load()
    if not isinstance(model, _Stub) or not isinstance(model.state.get(MODEL_SECTION), str):
        raise RefusedFile(
            f"This is a TorchScript archive, but no frozen DeePMD-kit model: it has no {MODEL_SECTION!r}.",
            "Upload what `dp --pt freeze` wrote, or the checkpoint (.pt) it was frozen from.",
        )
    tensors: dict[str, torch.Tensor] = {}
    parameters = set()
    for name, tensor, is_parameter in reader.walk(model):
        tensors[name] = tensor
        if is_parameter:
            parameters.add(name)
    return Frozen(tensors, frozenset(parameters), _section(model.state[MODEL_SECTION]))


def _section(text: str) -> dict[str, Any]:
    try:
        section = json.loads(text)
    except ValueError:
        section = None
    if not isinstance(section, dict):
        raise RefusedFile(
            f"The frozen model's {MODEL_SECTION!r} is not a JSON object, so nobody knows how the model is built.",
            "Freeze it again with `dp --pt freeze`, or upload its checkpoint (.pt).",
        )
    return section


class _Stub:
    """Stands for an object of a class in the archive: keeps its attributes, does nothing."""

    source = ""
    """`module.name` of the class in the archive."""

    state: dict[str, Any]

    def __new__(cls, *_: Any) -> "_Stub":
        """Make one with no attributes: an unpickler calls no `__init__`."""
        stub = super().__new__(cls)
        stub.state = {}
        return stub

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {}


class _Reader:
    """One archive being read. What it allows is made anew for each, so that no file can change it for the next."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        self._archive = archive
        self._root = root
        self._storages: dict[str, torch.Tensor] = {}
        self._stubs: dict[str, type[_Stub]] = {}

    def load(self) -> Any:
        """Return the object in data.pkl."""
        unpickler = _Unpickler(io.BytesIO(self._archive.read(f"{self._root}/data.pkl")), self)
        return unpickler.load()

    def stub(self, source: str) -> type[_Stub]:
        """Return the stand-in for a class."""
        if source not in self._stubs:
            self._stubs[source] = type("Stub", (_Stub,), {"source": source})
        return self._stubs[source]

    def storage(self, dtype: torch.dtype, key: str) -> torch.Tensor:
        """Return the numbers of the member `data/KEY`, flat; the same memory for the same key."""
        if key not in self._storages:
            data = bytearray(self._archive.read(f"{self._root}/data/{key}"))
            # frombuffer refuses an empty buffer.
            self._storages[key] = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
        return self._storages[key]

    def walk(self, module: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, torch.Tensor, bool]]:
        """Yield name, tensor and whether it is a parameter, of a module and everything below it."""
        own = self._members.get(module.source)
        if own is None or depth > 100:
            return
        for name, value in module.state.items():
            if isinstance(value, _Stub):
                yield from self.walk(value, f"{prefix}{name}.", depth + 1)
            elif isinstance(value, torch.Tensor) and name in own:
                yield f"{prefix}{name}", value, own[name]

    @cached_property
    def _members(self) -> dict[str, dict[str, bool]]:
        """By class that is a module: whether each of its own tensors is a parameter (else it is a buffer)."""
        found = {}
        code = f"{self._root}/code/"
        for member in self._archive.namelist():
            if member.startswith(code) and member.endswith(".py"):
                package = member.removeprefix(code).removesuffix(".py").replace("/", ".")
                for name, parameters, buffers in _CLASS.findall(self._archive.read(member).decode()):
                    members = dict.fromkeys(_words(buffers), False) | dict.fromkeys(_words(parameters), True)
                    found[f"{package}.{name}"] = members
        return found


class _Unpickler(pickle.Unpickler):
    """Knows what TorchScript writes for modules, containers and dense tensors; refuses every other global."""

    def __init__(self, file: io.BytesIO, reader: _Reader) -> None:
        super().__init__(file)
        self._reader = reader
        self._known = {
            "collections.OrderedDict": OrderedDict,
            "torch._utils._rebuild_tensor_v2": lambda *arguments: _tensor(*arguments),
            "torch.jit._pickle.restore_type_tag": lambda value, _: value,
            **{
                f"torch.jit._pickle.build_{kind}list": lambda value: value
                for kind in ("int", "double", "bool", "tensor")
            },
            **{f"torch.{name}": _Storage(dtype) for name, dtype in _DTYPES.items()},
        }

    def find_class(self, module_name: str, global_name: str) -> Any:
        name = f"{module_name}.{global_name}"
        if module_name == "__torch__" or module_name.startswith("__torch__."):
            return self._reader.stub(name)
        if name not in self._known:
            raise forbidden(name)
        return self._known[name]

    def persistent_load(self, pid: Any) -> Any:
        kind, storage, key, *_ = pid
        if kind != "storage" or not isinstance(storage, _Storage) or not isinstance(key, str):
            raise pickle.UnpicklingError(f"not a reference to a tensor: {str(pid)[:100]}")
        return self._reader.storage(storage.dtype, key)


@dataclass(frozen=True)
class _Storage:
    dtype: torch.dtype


def _tensor(
    storage: torch.Tensor, offset: int, size: Sequence[int], stride: Sequence[int], *_: Any
) -> torch.Tensor:  # torch refuses what reaches beyond the storage
    return storage.as_strided(tuple(size), tuple(stride), offset)


def _words(text: str) -> list[str]:
    return re.findall(r'"([^"]*)"', text)


def forbidden(name: str) -> RefusedFile:
    """Return the refusal of a pickle that asks for something other than tensors and plain values."""
    return RefusedFile(
        f"The file asks to run {name!r} when it is opened. Weights need nothing of the kind, so it was not opened.",
        "Use a checkpoint as `dp --pt train` writes it; do not open this file with tools that trust it.",
    )
