"""Base models in every state, and a transfer plan in which everything occurs that may."""

import hashlib
import itertools
from datetime import timedelta
from typing import Any

from sqlalchemy.orm import Session

from app.artifacts import service as blobs
from app.artifacts.store import BlobStore
from app.tables import BaseModel
from app.tables.base import now
from app.wire.models import BaseFacts, BranchFacts, TensorFacts
from app.wire.problems import Notice, Problem
from app.wire.transfer import AxisMap, ComponentShare, FunctionChange, PlannedTensor, TransferPlan

DESCRIPTOR = {
    "type": "se_atten_v2",
    "rcut": 6.0,
    "rcut_smth": 0.5,
    "sel": 120,
    "neuron": [25, 50, 100],
    "axis_neuron": 12,
    "attn_layer": 0,
}
MODEL = {"type_map": ["O", "H"], "descriptor": DESCRIPTOR, "fitting_net": {"neuron": [100, 100, 100]}}
REFUSAL = Problem(
    code="not-a-model",
    message="notes.pt is a zip archive, but holds no `data.pkl`: it was not written by torch.save",
    hint="Upload the checkpoint itself, not an archive of its directory.",
)


def add_models(session: Session, store: BlobStore) -> None:
    """Add a model of one task, one of several, one that is being inspected, and one that was refused."""
    add_model(session, store, "water", 1, facts(["O", "H"]))
    add_model(session, store, "omat-multi", 1, facts(["H", "C", "N", "O", "Cu"], ["H2O", "Metals", "Drugs"]))
    add_model(session, store, "notes", 1, problem=REFUSAL)
    add_model(session, store, "water", 2)


def add_model(
    session: Session,
    store: BlobStore,
    name: str,
    version: int,
    found: BaseFacts | None = None,
    *,
    problem: Problem | None = None,
) -> BaseModel:
    """Add a version: ready with what was found in it, refused with the problem, else being inspected."""
    blob = blobs.record_blob(session, store, store.keep_bytes(f"weights of {name}@{version}".encode() * 2000))
    row = BaseModel(
        name=name,
        version=version,
        engine="deepmd",
        state="ready" if found else "refused" if problem else "inspecting",
        blob_sha256=blob.sha256,
        size=blob.size,
        file_name=f"{name}.pt",
        source=f"upload {name}.pt",
        problem=problem.model_dump() if problem else None,
        created_at=now() - timedelta(hours=30 - version),
    )
    if found:
        row.facts, row.architecture, row.parameters = found.model_dump(), found.architecture, found.parameters
        row.type_map = found.branches[0].type_map
        row.branches = [branch.name for branch in found.branches if branch.name]
    session.add(row)
    session.flush()
    return row


def facts(type_map: list[str], branches: list[str] | None = None) -> BaseFacts:
    """Return what an inspection may have found."""
    names = branches or ["Default"]
    model: dict[str, Any] = {**MODEL, "type_map": type_map}
    several = f", {len(names)} tasks" if branches else ""
    return BaseFacts(
        engine="deepmd",
        form="checkpoint",
        architecture=f"se_atten_v2{several}",
        library="DeePMD-kit 3.2.0",
        branches=[
            BranchFacts(name=name, type_map=type_map, model=model, parameters=22_401) for name in branches or [""]
        ],
        tensors=[tensor for name in names for tensor in tensors(name, len(type_map))],
        parameters=22_401 * len(names),
        step=400_000,
        has_optimizer=True,
        warnings=[Notice(code="no-library", message="The file does not say which library wrote it.")]
        if branches
        else [],
    )


def tensors(branch: str, types: int) -> list[TensorFacts]:
    """Return the tensors of a small model, some under two names."""
    found = []
    for part, own, alias, widths in (
        ("descriptor.se_atten.filter_layers", "networks", "_networks", (1, 25, 50, 100)),
        ("fitting_net.filter_layers", "networks", "_networks", (108, 100, 50, 1)),
    ):
        for layer, (rows, columns) in enumerate(itertools.pairwise(widths)):
            for leaf, shape in (("matrix", [rows, columns]), ("bias", [columns])):
                name = f"model.{branch}.atomic_model.{part}.{{}}.0.layers.{layer}.{leaf}"
                digest = hashlib.sha256(name.encode()).hexdigest()
                first = TensorFacts(
                    name=name.format(own), shape=shape, dtype="float64", is_parameter=True, sha256=digest
                )
                found += [first, first.model_copy(update={"name": name.format(alias), "alias_of": first.name})]
    bias = f"model.{branch}.atomic_model.out_bias"
    return [*found, TensorFacts(name=bias, shape=[1, types, 1], dtype="float64", is_parameter=False)]


def plan() -> TransferPlan:
    """Return a plan with every verb in it."""
    stem = "model.Default.atomic_model"
    layers = [
        PlannedTensor(
            name=f"{stem}.descriptor.se_atten.filter_layers.networks.0.layers.{layer}.matrix",
            verb="copied",
            component="descriptor",
            shape=[25 * 2**layer, 50 * 2**layer],
            dtype="float64",
            source=f"{stem}.descriptor.se_atten.filter_layers.networks.0.layers.{layer}.matrix",
            source_shape=[25 * 2**layer, 50 * 2**layer],
            kept=1250 * 4**layer,
            aliases=[f"{stem}.descriptor.se_atten.filter_layers._networks.0.layers.{layer}.matrix"],
        )
        for layer in range(2)
    ]
    others = [
        PlannedTensor(
            name=f"{stem}.descriptor.type_embedding.matrix",
            verb="remapped",
            component="descriptor",
            shape=[3, 8],
            dtype="float64",
            source=f"{stem}.descriptor.type_embedding.matrix",
            source_shape=[2, 8],
            kept=16,
            maps=[AxisMap(axis=0, indices=[1, 0, -1])],
            reason="the type map is [H, O, Na], in water@1 [O, H]",
            key="/model/type_map",
        ),
        PlannedTensor(
            name=f"{stem}.fitting_net.networks.0.layers.0.matrix",
            verb="reinitialised",
            component="fitting_net",
            shape=[100, 120],
            dtype="float64",
            reason="`model.fitting_net.neuron` is [120, 120], in water@1 [100, 100]",
            key="/model/fitting_net/neuron",
        ),
        PlannedTensor(
            name=f"{stem}.fitting_net.networks.0.layers.1.matrix",
            verb="copied",
            component="fitting_net",
            shape=[120, 112],
            dtype="float64",
            source=f"{stem}.fitting_net.networks.0.layers.1.matrix",
            kept=13_125,
        ),
        PlannedTensor(
            name=f"{stem}.out_bias",
            verb="refit",
            component="output bias",
            shape=[1, 3, 1],
            dtype="float64",
            is_parameter=False,
            reason="fitted to the new data, by the change of the base's statistics",
        ),
        PlannedTensor(
            name=f"{stem}.fitting_net.networks.0.layers.2.idt",
            verb="unused",
            component="fitting_net",
            shape=[100],
            dtype="float64",
            is_parameter=False,
            reason="`model.fitting_net.resnet_dt` is false",
            key="/model/fitting_net/resnet_dt",
        ),
    ]
    change = FunctionChange(
        pointer="/model/descriptor/rcut",
        base=6.0,
        value=6.5,
        message="other neighbours are seen, and near the cutoff they count in another way",
    )
    planned = [*layers, *others]
    return TransferPlan(
        base="water@1",
        sha256="9f" * 32,
        mode="finetune",
        tensors=planned,
        components=[
            ComponentShare(component="descriptor", parameters=6274, kept=6266),
            ComponentShare(component="fitting_net", parameters=25_440, kept=13_125),
        ],
        parameters=31_714,
        kept=19_391,
        counts={verb: sum(one.verb == verb for one in planned) for verb in dict.fromkeys(one.verb for one in planned)},
        function_changes=[change],
    )
