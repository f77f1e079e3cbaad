"""What is said of tensors of a DeePMD model that may not start otherwise than as the base has them."""

from collections.abc import Sequence

from app.engines.deepmd.transfer.names import SINGLE, Name
from app.engines.transfer.refusals import Words
from app.wire.transfer import PlannedTensor


def _short_name(tensor: PlannedTensor) -> str:
    """Return a name without what all names have in common."""
    name = Name.parse(tensor.name)
    path = name.path.removeprefix("atomic_model.")
    return path if name.branch == SINGLE else f"{name.branch}.{path}"


def _remedies(tensors: Sequence[PlannedTensor]) -> list[str]:
    is_fitting = all("fitting_net" in tensor.name for tensor in tensors)
    return ['take a new fitting net: "fitting": "new" under start'] if is_fitting else []


WORDS = Words(
    adaptable="what depends on the types, and output layers,",
    source="the file that DeePMD-kit wrote",
    short_name=_short_name,
    remedies=_remedies,
)
