"""A submitted input: where its values stood, and what tells that it is one of DeePMD-kit's."""

from collections.abc import Mapping
from typing import Any

from app.engines.documents import dotted as dotted
from app.engines.documents import short as short
from app.engines.ways import Way as Way
from app.engines.ways import given as given
from app.engines.ways import nearest as nearest

Json = Any


def is_input(config: Mapping[str, Json]) -> bool:
    """Return whether a submitted config can be a DeePMD-kit input only, of today or of 1.x: it has a descriptor's keys."""
    model = config.get("model")
    if isinstance(model, Mapping):
        return any(key in model for key in ("descriptor", "fitting_net", "type_map", "model_dict"))
    return any(key in config for key in ("n_neuron", "use_smooth", "systems", "sel_a"))
