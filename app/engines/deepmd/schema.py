"""DeePMD-kit's own description of an `input.json`, and the JSON schema of the part of it that is supported."""

import copy
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from dargs import Argument, Variant
from dargs.json_schema import generate_json_schema
from deepmd.utils.argcheck import gen_args

from app.engines.deepmd import supported
from app.engines.documents import is_branch

Json = Any


@lru_cache
def tree(*, multi_task: bool) -> Argument:
    """Return DeePMD-kit's argument tree. Shared: never change it."""
    return Argument("input", dict, gen_args(multi_task=multi_task))


def defaults(explicit: Mapping[str, Json], *, multi_task: bool) -> dict[str, Json]:
    """Return DeePMD-kit's default of every key that a document could have, given the variants that it chose."""
    skeleton = _skeleton(explicit)
    # Sections that training reads whether or not they were written; dargs fills only those that are there.
    for name in ("validating",) if multi_task else ("validating", "loss"):
        skeleton.setdefault(name, {})
    full: dict[str, Json] = tree(multi_task=multi_task).normalize_value(skeleton, do_alias=False)
    _take_out_flags(full, explicit)
    return full


def _take_out_flags(full: Json, explicit: Json) -> None:
    """Take the variants' flags that were chosen, and so are no defaults, out of a default document again."""
    if isinstance(full, list):
        for one, other in zip(full, explicit, strict=True):
            _take_out_flags(one, other)
    elif isinstance(full, dict):
        if "type" in explicit:
            full.pop("type", None)
        for key, member in explicit.items():
            if is_branch(member) and key in full:
                _take_out_flags(full[key], member)


def _skeleton(value: Json) -> Json:
    """Return the sections of a document and the flags that choose their variants, nothing else."""
    if isinstance(value, list):
        return [_skeleton(item) if isinstance(item, dict | list) else item for item in value]
    return {
        key: _skeleton(member) if isinstance(member, dict | list) else member
        for key, member in value.items()
        if is_branch(member) or member == {} or key == "type"
    }


@lru_cache
def json_schema() -> dict[str, Json]:
    """Return the JSON schema (draft 2020-12) of a submitted config, without what would be refused."""
    single = generate_json_schema(_trimmed(multi_task=False))
    multi = generate_json_schema(_trimmed(multi_task=True))
    # Branches name shared parts by strings, which DeePMD-kit replaces before it checks.
    multi["properties"]["model"] = {
        "type": "object",
        "required": ["model_dict"],
        "properties": {"model_dict": {"type": "object"}, "shared_dict": {"type": "object"}},
    }
    is_multi = {"properties": {"model": {"type": "object", "required": ["model_dict"]}}, "required": ["model"]}
    for schema in (single, multi):
        schema.pop("$schema", None)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "DeePMD-kit input",
        "type": "object",
        "if": is_multi,
        "then": multi,
        "else": single,
    }


def _trimmed(*, multi_task: bool) -> Argument:
    root = copy.deepcopy(tree(multi_task=multi_task))
    for name in supported.DROPPED_SECTIONS:
        root.sub_fields.pop(name, None)
    for path, argument in _walk(root, ()):
        for flag, variant in argument.sub_variants.items():
            _keep(variant, supported.CHOICES.get((argument.name, flag)))
        for name in [name for name in argument.sub_fields if (*path, name)[-2:] in supported.HIDDEN]:
            del argument.sub_fields[name]
        if "systems" in argument.sub_fields:
            argument.sub_fields["systems"].doc = (
                "Data by name: dataset:NAME, dataset:NAME@VERSION or dataset:NAME@VERSION/SYSTEM; a list of them or "
                "one. Without a version the newest is taken, without a system all of them."
            )
    return root


def _keep(variant: Variant, choices: frozenset[str] | None) -> None:
    for name in [name for name in variant.choice_dict if choices is not None and name not in choices]:
        del variant.choice_dict[name]
    variant.choice_alias = {alias: name for alias, name in variant.choice_alias.items() if name in variant.choice_dict}


def _walk(argument: Argument, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Argument]]:
    """Yield every argument that has members, outermost first, so that trimmed branches are not entered."""
    yield path, argument
    members = list(argument.sub_fields.values())
    for variant in argument.sub_variants.values():
        members += list(variant.choice_dict.values())
    for member in members:
        if member.sub_fields or member.sub_variants:
            yield from _walk(member, (*path, member.name))
