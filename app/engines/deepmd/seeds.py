"""Which seeds a DeePMD training has, and where in its config they stand."""

from collections.abc import Iterator, Mapping
from typing import Any

from app.engines.documents import pointer
from app.engines.seeds import RULE, derive
from app.wire.resolution import LosingCandidate, Origin

Json = Any
Path = tuple[str | int, ...]

STATISTICS = derive(0, "statistics")
"""Seed of the sample that statistics are taken from. The same for every root seed, so that jobs on the same data share
their statistics: replicas differ by initial weights and by the order of the data, not by what the data are."""

OF_THE_LOOP = ("data.order", "data.tasks")
"""Seeds that DeePMD's input has no key for: the order of frames, and which task is drawn."""


def plant(
    config: dict[str, Json], origins: dict[str, Origin], root: int, kept: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Write every seed that is still missing into a resolved config, and return all of them by component.

    `kept` are the seeds that a resumed training had; those that the config has no key for are taken from there.
    """
    seeds = {name: derive(root, name) for name in OF_THE_LOOP} | {"statistics": STATISTICS}
    seeds |= {name: seed for name, seed in (kept or {}).items() if name in seeds}
    for path in places(config):
        section = _at(config, path)
        name, at = ".".join(map(str, path)), pointer(*path, "seed")
        if section.get("seed") is None:
            losing = [LosingCandidate(origin="explicit", value=None)] if _is_explicit(origins.get(at)) else []
            section["seed"] = derive(root, name)
            origins[at] = Origin(
                origin="seed", source=RULE, note=f"derived from root seed {root} for {name}", losing=losing
            )
        seeds[name] = section["seed"]
    return seeds


def _is_explicit(origin: Origin | None) -> bool:
    return origin is not None and origin.origin not in ("default", "base")


def places(config: dict[str, Json]) -> Iterator[Path]:
    """Yield the path of every section that takes a seed, shared parts once."""
    yield ("training",)
    model = config["model"]
    if "model_dict" not in model:
        yield from _of_model(model, ("model",))
        return
    for name, part in model.get("shared_dict", {}).items():
        if isinstance(part, dict):
            yield from _of_part(part, ("model", "shared_dict", name))
    for name, branch in model["model_dict"].items():
        yield from _of_model(branch, ("model", "model_dict", name))


def _of_model(model: dict[str, Json], path: Path) -> Iterator[Path]:
    for key in ("descriptor", "fitting_net"):
        if isinstance(model.get(key), dict):
            yield from _of_part(model[key], (*path, key))


def _of_part(part: dict[str, Json], path: Path) -> Iterator[Path]:
    """Yield a descriptor or fitting net itself, or the members of a hybrid, which has no seed of its own."""
    if part.get("type") != "hybrid":
        yield path
        return
    for index, member in enumerate(part["list"]):
        if isinstance(member, dict):
            yield (*path, "list", index)


def _at(config: dict[str, Json], path: Path) -> dict[str, Json]:
    value: Any = config
    for part in path:
        value = value[part]
    assert isinstance(value, dict)
    return value
