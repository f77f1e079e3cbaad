"""The transfer plan: what becomes of every tensor when a training starts from a base model."""

from typing import Any, Literal

from pydantic import Field

from app.wire.base import View

Verb = Literal["copied", "remapped", "sliced", "padded", "reinitialised", "refit", "unused"]
"""copied: as it is. remapped: the same numbers in another order (another type map), or with rows for new types.
sliced: its first rows (a smaller vocabulary). padded: all its rows, and new ones after them, from the new model's seed.
reinitialised: from the new model's own seed. refit: set by statistics of the new data. unused: only the base has it."""


class AxisMap(View):
    """Where the entries along one axis of a remapped tensor come from.

    Along an axis whose length is not known yet (-1 in `shape`: `sel: "auto"`) there is one index for each block of
    entries, which all are the same.
    """

    axis: int
    indices: list[int] = Field(description="By index in the new tensor: the index in the base's, or -1 for a new one.")


class PlannedTensor(View):
    """One tensor's fate."""

    name: str = Field(description="Of the new model; of the base where the verb is unused.")
    verb: Verb
    component: str = Field(description="Part of the model: 'descriptor', 'fitting_net', 'statistics', 'output bias', …")
    branch: str = Field(
        default="", description="Task of the new model (of the base where unused); empty: the only one."
    )
    shape: list[int] = Field(description="-1: known only once the trainer has looked at the data.")
    dtype: str
    is_parameter: bool = True
    source: str | None = Field(default=None, description="Name of the base's tensor that its numbers come from.")
    source_shape: list[int] | None = None
    kept: int = Field(default=0, description="How many of its numbers come from the base.")
    maps: list[AxisMap] = []
    adds_input: bool = Field(
        default=False,
        description="A remapped layer that adds its one-hot input to its output where it has as many columns as rows, or "
        "twice as many: this identity moves with the rows.",
    )
    reason: str | None = None
    key: str | None = Field(default=None, description="JSON pointer into the resolved config: the value responsible.")
    aliases: list[str] = Field(default=[], description="Other names of the same memory.")


class ComponentShare(View):
    """How much of one part of the model comes from the base. Counts are of trainable parameters."""

    component: str
    parameters: int
    kept: int


class FunctionChange(View):
    """A value that leaves all shapes as they are and yet makes another function of the same weights."""

    pointer: str = Field(description="Into the resolved config.")
    base: Any
    value: Any
    message: str = Field(description="Names the key, both values, and what the change does.")


class TransferPlan(View):
    """What becomes of every tensor. Computed before any training, stored with the job, carried out to the letter."""

    base: str = Field(description="`water@3`.")
    sha256: str
    mode: str
    tensors: list[PlannedTensor]
    components: list[ComponentShare]
    parameters: int = Field(description="Trainable numbers of the new model, shared ones once.")
    kept: int = Field(description="How many of them come from the base.")
    counts: dict[str, int] = Field(description="Tensors by verb.")
    function_changes: list[FunctionChange] = []
