"""Brings the model section of a file of weights into DeePMD-kit's present spelling, and says whether Cairn can use it."""

from collections.abc import Iterator, Mapping
from typing import Any

from deepmd.utils.argcheck import gen_args

from app.engines.deepmd import supported
from app.engines.deepmd.check import check
from app.engines.deepmd.document import Way
from app.engines.deepmd.schema import tree
from app.wire.problems import Notice
from worker.engines.base import RefusedFile

Json = Any

_OTHERS = frozenset(argument.name for argument in gen_args()) - {"model"}


def normalise(section: Mapping[str, Json], branch: str) -> tuple[dict[str, Json], list[Notice]]:
    """Return the complete section of one model in present spelling, and what of it is unknown and was left out.

    Raises:
        RefusedFile: It is of a kind that is not supported, or not a model section.
    """
    refuse_unsupported(section, branch)
    checked = check(tree(multi_task=False), {"model": dict(section)}, broken=_OTHERS, way=Way())
    wrong = [problem for problem in checked.problems if problem.code != "unknown-key"]
    if wrong:
        message = f"The file's model section{_of(branch)} is not one of DeePMD-kit's: {wrong[0].message}."
        raise RefusedFile(message, wrong[0].hint)
    notices = [
        Notice(
            code="base-key-ignored",
            message=f"In the file's model section{_of(branch)}, {problem.message}; it was left out",
            hint="DeePMD-kit's present version does not read it; compare with the version that wrote the file.",
        )
        for problem in checked.problems
    ]
    model = tree(multi_task=False).sub_fields["model"]
    complete: dict[str, Json] = model.normalize_value(checked.value["model"], do_alias=False)
    return complete, notices


def refuse_unsupported(section: Mapping[str, Json], branch: str) -> None:
    """Refuse a kind of model that no training here can start from.

    Raises:
        RefusedFile: The section is of such a kind.
    """
    for key in ("spin", "use_srtab"):
        if section.get(key):
            reason = next(rule.reason for rule in supported.REFUSED if (rule.section, rule.key) == ("model", key))
            raise RefusedFile(f"The file's model{_of(branch)} has {key!r}: {reason}.", "Use another base model.")
    for kind, part in _parts(section):
        _refuse_kind(kind, part, branch)


def _parts(section: Mapping[str, Json]) -> Iterator[tuple[str, Json]]:
    yield "model", section
    descriptor = section.get("descriptor")
    yield "descriptor", descriptor
    if isinstance(descriptor, Mapping) and isinstance(descriptor.get("list"), list):
        for item in descriptor["list"]:
            yield "list", item
    yield "fitting_net", section.get("fitting_net")


def _refuse_kind(kind: str, part: Json, branch: str) -> None:
    written = part.get("type") if isinstance(part, Mapping) else None
    allowed = supported.CHOICES[kind, "type"]
    if written is None:
        return
    found = _proper(kind, written)
    if found not in allowed:
        reason = supported.REASONS.get(found, f"{found!r} is not among what is trained here")
        what = "hybrid descriptor's member" if kind == "list" else kind.replace("_", " ")
        raise RefusedFile(
            f"The file's model{_of(branch)} has the {what} type {found!r}, which is not supported: {reason}.",
            f"Supported: {', '.join(sorted(allowed))}.",
        )


def _proper(kind: str, written: Json) -> str:
    """Return the present name of a type that may be written by an older one: `se_a` is `se_e2_a`."""
    model = tree(multi_task=False).sub_fields["model"]
    if kind == "model":
        variants = model.sub_variants
    else:
        standard = model.sub_variants["type"].choice_dict["standard"]
        variants = standard.sub_fields["descriptor" if kind == "list" else kind].sub_variants
    return str(variants["type"].choice_alias.get(written, written))


def _of(branch: str) -> str:
    return f" for the task {branch!r}" if branch else ""


def describe(models: Mapping[str, Mapping[str, Json]]) -> str:
    """Return the architecture in a word or two: `se_e2_a`, `dpa2, 3 tasks`."""
    words = ", ".join(dict.fromkeys(_word(model["descriptor"]) for model in models.values()))
    return words if len(models) == 1 else f"{words}, {len(models)} tasks"


def _word(descriptor: Mapping[str, Json]) -> str:
    if descriptor["type"] == "hybrid":
        return f"hybrid of {' and '.join(_word(item) for item in descriptor['list'])}"
    return str(descriptor["type"])
