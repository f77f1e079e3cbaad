"""What a worker needs to know to list the tensors of a DeePMD model."""

from collections.abc import Mapping
from typing import Any

Json = Any


def order(config: Mapping[str, Json]) -> dict[str, Json]:
    """Return the model section of a resolved config."""
    return {"model": config["model"]}
