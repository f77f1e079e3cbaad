"""The list of a model's tensors, which a transfer plan needs and a worker makes, once and for all."""

from dataclasses import dataclass
from importlib.metadata import version as installed_version
from typing import Any

from sqlalchemy.orm import Session, sessionmaker

from app.db import reading, transaction
from app.engines.base import Engine
from app.engines.documents import canonical
from app.errands import service as errands
from app.settings import Settings
from app.tables import Errand
from app.wire.models import Inventory
from app.wire.problems import Problem
from app.wire.resolution import Resolution


@dataclass(frozen=True)
class Listing:
    """The order for a list of a model's tensors. Configs whose models are alike share one."""

    engine: str
    order: dict[str, Any]
    key: str


def listing(engine: Engine, resolution: Resolution) -> Listing:
    """Return the order for the tensors of a resolved config's model."""
    order = engine.inventory_order(resolution.config)
    library = f"{engine.library} {installed_version(engine.library)}"
    return Listing(engine.name, order, errands.make_key(engine.name, library, canonical(order)))


def place(session: Session, wanted: Listing) -> Errand:
    """Return the errand of a listing, ordered if it was not. Until this transaction is over it cannot end."""
    return errands.order(session, kind="inventory", key=wanted.key, engine=wanted.engine, order=wanted.order)


def ask(sessions: sessionmaker[Session], settings: Settings, wanted: Listing, timeout_s: float) -> Errand | None:
    """Return the errand of a listing once it has ended; None when it has not within `timeout_s`, outside a transaction.

    Nobody waits while no worker is alive.
    """
    with reading(sessions) as session:
        errand = errands.find(session, "inventory", wanted.key)
        attended = errands.attended(session, wanted.engine, settings)
    if errand is None or errands.may_be_tried_anew(errand):
        with transaction(sessions) as session:
            errand = place(session, wanted)
    if errand.state not in errands.ENDED and attended:
        errand = errands.wait(sessions, errand.id, timeout_s)
    return errand if errand.state in errands.ENDED else None


def why_pending(session: Session, settings: Settings, engine: str) -> str:
    """Return why there is no plan yet."""
    if errands.attended(session, engine, settings):
        return "a worker is listing the model's tensors; ask again in a moment"
    return f"no worker of {engine} is alive to list the model's tensors; start one (`cairn up`, or `cairn worker`)"


def tensors(errand: Errand) -> Inventory | Problem:
    """Return what came of an errand that has ended: the tensors, or why the model cannot be built."""
    if errand.state == "done":
        return Inventory.model_validate(errand.result)
    problem = Problem.model_validate(errand.problem)
    return problem.model_copy(update={"pointer": problem.pointer or "/config"})
