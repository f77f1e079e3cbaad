"""The datasets that references stand for, whoever names them."""

from collections.abc import Iterable, Iterator, Mapping

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.datasets.service import facts
from app.engines.base import DatasetFacts, DataUse, Engine
from app.tables import Dataset
from app.wire.datasets import DatasetRef
from app.wire.problems import Problem


def names(session: Session) -> list[str]:
    """Return the names of all datasets, for hints."""
    return list(session.scalars(select(Dataset.name).distinct()))


def find(session: Session, uses: Iterable[DataUse]) -> dict[str, Dataset]:
    """Return the dataset that each reference stands for; references to nothing are left out."""
    refs = {use.text: use.ref for use in uses if use.ref is not None}
    names = {ref.name for ref in refs.values()}
    rows = session.scalars(select(Dataset).where(Dataset.name.in_(names)).order_by(Dataset.version)).all()
    found = {text: _newest(rows, ref) for text, ref in refs.items()}
    return {text: row for text, row in found.items() if row is not None}


def _newest(rows: Iterable[Dataset], ref: DatasetRef) -> Dataset | None:
    matching = [row for row in rows if row.name == ref.name and ref.version in (None, row.version)]
    return matching[-1] if matching else None


def facts_of(session: Session, uses: Iterable[DataUse]) -> dict[str, DatasetFacts]:
    """Return what is known of the data that each reference stands for; references to nothing are left out."""
    rows = find(session, uses)
    known = {row.id: facts(row) for row in {row.id: row for row in rows.values()}.values()}
    return {text: known[row.id] for text, row in rows.items()}


def foreign(engine: Engine, uses: Iterable[DataUse], datasets: Mapping[str, Dataset]) -> Iterator[Problem]:
    """Yield what is wrong with references to data of another engine."""
    for use in uses:
        row = datasets.get(use.text)
        if row is not None and row.engine != engine.name:
            message = f"{use.text} is data for {row.engine}, not for {engine.name}"
            yield Problem(code="wrong-engine", message=message, pointer=use.pointer)
