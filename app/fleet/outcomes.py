"""What follows from the end of an errand, by its kind."""

from sqlalchemy.orm import Session

from app.errands.service import ENDED
from app.jobs import checking
from app.models import service as models
from app.tables import Errand


def settle(session: Session, errand: Errand) -> None:
    """Tell everything that waits for an errand how it ended; nothing happens while it has not."""
    if errand.state not in ENDED:
        return
    if errand.kind == "inspect":
        models.settle(session, errand)
    else:
        checking.settle(session, errand)
