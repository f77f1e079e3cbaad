"""Which engine a submission is for that names none."""

from sqlalchemy.orm import Session, sessionmaker

from app.db import reading
from app.engines import registry
from app.errors import NotFound
from app.jobs import service
from app.models import service as models
from app.wire.models import BaseRef
from app.wire.submission import JobSubmit


def with_engine(sessions: sessionmaker[Session], submit: JobSubmit) -> JobSubmit:
    """Return a submission with its engine: what it names, else whose config it is, else that of its base, else the first."""
    if submit.engine:
        return submit
    can = [engine.name for engine in registry.ENGINES if submit.kind == "train" or submit.kind in engine.tasks]
    known = [name for name in can if registry.known(name).recognises(submit.config)]
    engine = known[0] if len(known) == 1 else _of_base(sessions, submit.start.base) or next(iter(can), registry.FIRST)
    return submit.model_copy(update={"engine": engine})


def _of_base(sessions: sessionmaker[Session], base: str | None) -> str | None:
    """Return the engine of what a job starts from, if there is such a thing."""
    ref = BaseRef.parse(base or "")
    if ref is None:
        return None
    with reading(sessions) as session:
        try:
            return service.get(session, ref.job).engine if ref.job else models.get(session, str(ref)).engine
        except NotFound:
            return None
