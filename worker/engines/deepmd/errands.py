"""What DeePMD-kit's torch half does beside training: looking into files of weights, listing the tensors of a model.

See `worker.engines.base.Errands`. Runs in a process of its own, under limits, on the CPU.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.wire.models import BaseFacts, BranchFacts, Inventory, TensorFacts
from app.wire.problems import Notice
from worker import wrappers
from worker.engines.base import RefusedFile
from worker.engines.deepmd import building, sections, weights
from worker.engines.deepmd.building import Built
from worker.engines.deepmd.weights import Weights
from worker.tensors import digest, dtype, listed

Json = Any


def inspect(path: Path, file_name: str) -> BaseFacts:
    """Look into a file of weights without running any code from it. The file's name means nothing.

    Raises:
        RefusedFile: It cannot be used; the message says why and what to do.
    """
    found = weights.read(path)
    models, notices = _models(found)
    built = building.build({"model_dict": models} if found.is_multi_task else models[""])
    _compare(found, built, file_name)
    found = replace(found, parameters=built.parameters)
    return BaseFacts(
        engine="deepmd",
        form=found.form,
        architecture=sections.describe(models),
        library=found.library,
        branches=[_branch(found, name, model) for name, model in models.items()],
        tensors=_tensors(found),
        parameters=_count(found, found.tensors),
        step=found.step,
        has_optimizer=found.has_optimizer,
        config=found.config,
        seed=found.seed,
        seeds=found.seeds,
        ranks=found.ranks,
        warnings=notices,
    )


def inventory(order: Mapping[str, Any]) -> Inventory:
    """List the tensors of the model that `Engine.inventory_order` describes.

    Sizes that depend on the training data, by `sel: auto`, are -1.

    Raises:
        RefusedFile: DeePMD-kit cannot build it.
    """
    built, shapes = building.build_with_open_shapes(order["model"])
    return Inventory(
        tensors=[
            TensorFacts(
                name=name,
                shape=shapes[name],
                dtype=dtype(tensor),
                is_parameter=name in built.parameters,
                alias_of=built.aliases.get(name),
            )
            for name, tensor in sorted(built.tensors.items())
        ]
    )


def _models(found: Weights) -> tuple[dict[str, dict[str, Json]], list[Notice]]:
    """Return the complete model section by task, "" for the only model."""
    given = found.model_params["model_dict"] if found.is_multi_task else {"": found.model_params}
    models, notices = {}, []
    for name, section in given.items():
        models[name], more = sections.normalise(section, name)
        notices += more
    if found.wrappers:
        notices.append(Notice(code="unwrapped", message=wrappers.in_words(found.wrappers)))
    return models, notices


def _compare(found: Weights, built: Built, file_name: str) -> None:
    """Refuse a file whose tensors are not those of the model that it says it holds."""
    has, wants = found.tensors, built.shapes
    differences = []
    if missing := sorted(wants.keys() - has.keys()):
        differences.append(f"it lacks {listed(missing)}")
    if extra := sorted(has.keys() - wants.keys()):
        differences.append(f"it has, beyond the model, {listed(extra)}")
    shapes = [
        f"{name} of shape {list(has[name].shape)} instead of {list(wants[name])}"
        for name in sorted(has.keys() & wants.keys())
        if tuple(has[name].shape) != wants[name]
    ]
    if shapes:
        differences.append(f"it has {listed(shapes)}")
    if differences:
        raise RefusedFile(
            f"{file_name} is not what it claims to be. Its own model section describes another model: "
            f"{'; '.join(differences)}.",
            "Was the model compressed, or the file put together by hand? Upload the checkpoint as `dp --pt train` wrote it.",
        )


def _branch(found: Weights, name: str, model: dict[str, Json]) -> BranchFacts:
    prefix = f"model.{name or 'Default'}."
    own = [tensor for tensor in found.tensors if tensor.startswith(prefix)]
    return BranchFacts(name=name, type_map=model["type_map"], model=model, parameters=_count(found, own))


def _count(found: Weights, names: Iterable[str]) -> int:
    """Return how many numbers the parameters among `names` have, those that share memory once."""
    assert found.parameters is not None, "known since the model was built"
    first = {found.aliases.get(name, name): name for name in names if name in found.parameters}
    return sum(found.tensors[name].numel() for name in first.values())


def _tensors(found: Weights) -> list[TensorFacts]:
    assert found.parameters is not None, "known since the model was built"
    digests = {name: digest(tensor) for name, tensor in found.tensors.items() if name not in found.aliases}
    return [
        TensorFacts(
            name=name,
            shape=list(tensor.shape),
            dtype=dtype(tensor),
            is_parameter=name in found.parameters,
            sha256=digests[found.aliases.get(name, name)],
            alias_of=found.aliases.get(name),
        )
        for name, tensor in sorted(found.tensors.items())
    ]
