"""Data and models that jobs of other kinds than train are asked about."""

from typing import Any

from app.engines.base import DatasetFacts, EngineResolution, Model
from app.wire.datasets import SystemSummary
from app.wire.models import BaseFacts, BranchFacts


def system(name: str, frames: int, *elements: str) -> SystemSummary:
    counts = dict.fromkeys(elements, 4)
    return SystemSummary(name=name, atoms=8, frames=frames, elements=counts, type_map=list(elements), labels=["energy"])


CU = DatasetFacts("cu", 3, "c" * 64, (system("md", 10, "Cu"), system("hot", 4, "Cu")), ("Cu",))
AU = DatasetFacts("au", 1, "a" * 64, (system("md", 5, "Au"),), ("Au",))
DATA = {"dataset:cu": CU, "dataset:cu@3/md": CU, "dataset:cu@3/hot": CU, "dataset:au": AU, "dataset:cu/ice": CU}


def trained(job: int, *, sha256: str = "", **model: Any) -> Model:
    """Return a checkpoint of a job."""
    section = {"type_map": ["Cu"], "fitting_net": {"type": "ener"}, **model}
    return Model(f"job:{job}@400", sha256 or f"{job:064d}", config={"model": section})


def uploaded(*branches: BranchFacts) -> Model:
    """Return a base model with these branches."""
    facts = BaseFacts(
        engine="deepmd", form="frozen model", architecture="", branches=list(branches), tensors=[], parameters=1
    )
    return Model("base@1", "b" * 64, facts=facts)


def branch(name: str = "", *types: str, **model: Any) -> BranchFacts:
    return BranchFacts(name=name, type_map=list(types or ("Cu",)), model=model, parameters=1)


TASKS = {
    "shared_dict": {"types": ["Cu", "Au"]},
    "model_dict": {
        "metal": {"type_map": "types", "fitting_net": {"type": "ener"}},
        "dipoles": {"type_map": "types", "fitting_net": {"type": "dipole"}},
    },
}
"""The model section of a training with two tasks."""


def codes(answer: EngineResolution) -> dict[str | None, str]:
    """Return the code of each problem by its pointer."""
    return {problem.pointer: problem.code for problem in answer.problems}
