"""MiniMind's own arguments, all in one level, become the sections of today's config."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from app.engines.documents import dotted, parts, pointer, short
from app.engines.minimind.keys import KEYS
from app.wire.problems import Notice, Problem

Json = Any

ARGUMENTS: Mapping[str, str] = {
    **{
        parts(at)[-1]: at
        for at in KEYS
        if at.startswith(("/model/", "/training/")) and at.count("/") == 2 and not at.endswith("/seed")
    },
    "data_path": "/data/train",
}
"""Place of every argument of MiniMind's training scripts and of its `MiniMindConfig`."""

_WITHOUT_EFFECT: Mapping[str, str] = {
    "log_interval": "every step is recorded",
    "save_dir": "Cairn keeps the checkpoints",
    "save_weight": "files are named after the job",
    "device": "the worker that trains decides",
    "num_workers": "documents are turned into tokens before the first step",
    "use_wandb": "Cairn shows the metrics",
    "wandb_project": "Cairn shows the metrics",
    "use_compile": "the model is not compiled: its first steps would not repeat to the bit",
    "flash_attn": "torch chooses how attention is computed",
    "inference_rope_scaling": "it is for generating, not for training",
    "from_weight": "start says what a training begins with",
    "from_resume": "start says what a training begins with",
}
"""Arguments that there is no key for, with the reason."""


_OWN = ("stage", "tokenizer", "data_path")
_TELLING = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "use_moe")


@dataclass
class Migrated:
    """A document in today's spelling."""

    value: dict[str, Json]
    moves: dict[str, str] = field(default_factory=dict)
    """Old place of every value that moved, by its new one."""
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Notice] = field(default_factory=list)


def is_minimind(config: Mapping[str, Json]) -> bool:
    """Return whether a submitted config can be MiniMind's only: by a section of its own, or a language model's sizes."""
    model = config.get("model")
    sections = [config, model] if isinstance(model, Mapping) else [config]
    has_own = any(key in config for key in _OWN) or isinstance(config.get("data"), Mapping)
    return has_own or any(key in section for key in _TELLING for section in sections)


def migrate(config: Mapping[str, Json]) -> Migrated:
    """Return a submitted config with every argument in its section."""
    migrated = Migrated(deepcopy(dict(config)))
    for name in config:
        if name in ARGUMENTS:
            _move(migrated, name, ARGUMENTS[name])
        elif name in _WITHOUT_EFFECT:
            _remove(migrated, name)
    if migrated.moves:
        names = ", ".join(dotted(old) for old in migrated.moves.values())
        message = f"{names}: MiniMind's arguments were moved into their sections"
        hint = "The resolved config shows where each stands now."
        migrated.warnings.append(Notice(code="migrated", message=message, pointer="", hint=hint))
    return migrated


def _move(migrated: Migrated, name: str, at: str) -> None:
    value = migrated.value.pop(name)
    section, key = parts(at)
    home = migrated.value.setdefault(section, {})
    if not isinstance(home, dict):
        return  # reported where the section is checked
    if key in home:
        message = f"{name} and {dotted(at)} are the same, and both are given"
        problem = Problem(code="given-twice", message=message, pointer=pointer(name), hint=f"Remove {name}.")
        migrated.problems.append(problem)
        return
    is_switch = KEYS[at].kind == "boolean" and type(value) is int and value in (0, 1)
    home[key] = bool(value) if is_switch else value
    migrated.moves[at] = pointer(name)


def _remove(migrated: Migrated, name: str) -> None:
    value = migrated.value.pop(name)
    if name == "from_weight" and value != "none":
        message = f"from_weight is {short(value)}, a file: weights are never read by path"
        hint = (
            "Add it once with `cairn model add FILE --name NAME`, remove from_weight, and submit with start mode init "
            "and base NAME (`--init NAME`)."
        )
        migrated.problems.append(Problem(code="unsupported", message=message, pointer="/from_weight", hint=hint))
    elif name == "from_resume" and value:
        message = "from_resume asks for the newest checkpoint of MiniMind's own"
        hint = "Remove it, and submit with start mode resume and base job:ID (`--resume job:ID`)."
        migrated.problems.append(Problem(code="unsupported", message=message, pointer="/from_resume", hint=hint))
    else:
        message = f"{name} takes no effect: {_WITHOUT_EFFECT[name]}"
        migrated.warnings.append(Notice(code="ignored", message=message, pointer=pointer(name), hint="Remove it."))
