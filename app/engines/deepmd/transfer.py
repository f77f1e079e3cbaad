"""The transfer plan: what becomes of every tensor of a base and of a new model."""

from collections.abc import Mapping
from typing import Any

from app.engines.base import Base
from app.wire.jobs import Origin, Start
from app.wire.models import Inventory
from app.wire.problems import Problem
from app.wire.transfer import TransferPlan

Json = Any


def plan(
    config: Mapping[str, Json], origins: Mapping[str, Origin], start: Start, base: Base, inventory: Inventory
) -> TransferPlan | list[Problem]:
    """Say what becomes of every tensor, or why that may not be. Pointers are into the submission."""
    raise NotImplementedError
