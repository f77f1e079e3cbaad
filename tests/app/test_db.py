"""Writers of one process take turns on SQLite, nobody is left out; a database that takes no changes is away like one that is gone."""

import threading

import pytest
from sqlalchemy import event, select, update
from sqlalchemy.exc import OperationalError

from app import db
from app.db import reading, transaction
from app.tables import Worker


@pytest.fixture
def worker(sessions):
    with transaction(sessions) as session:
        session.add(Worker(id="w", name="w", host="w", engines={}, slots=0))


def add_one(sessions) -> None:
    with transaction(sessions) as session:
        slots = session.scalars(select(Worker.slots)).one()
        session.execute(update(Worker).where(Worker.slots == slots).values(slots=slots + 1))


def add_one_and_fail(sessions) -> None:
    with transaction(sessions) as session:
        session.execute(update(Worker).values(slots=99))
        raise ZeroDivisionError


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_writers_do_not_overlap(sessions, worker):
    threads = [threading.Thread(target=lambda: [add_one(sessions) for _ in range(20)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with sessions() as session:
        assert session.scalars(select(Worker.slots)).one() == 160


def test_who_fails_keeps_nobody_from_writing(sessions, worker, monkeypatch):
    monkeypatch.setattr(db, "LOCK_S", 1.0)
    with pytest.raises(ZeroDivisionError):
        add_one_and_fail(sessions)
    abandoned = sessions()
    abandoned.execute(update(Worker).values(slots=99))
    abandoned.close()
    invalidated = sessions()
    invalidated.execute(update(Worker).values(slots=99))
    invalidated.connection().invalidate()
    add_one(sessions)
    with sessions() as session:
        assert session.scalars(select(Worker.slots)).one() == 1


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_lock_that_is_never_given_back_is_an_error_and_the_next_writer_can(sessions, worker, monkeypatch):
    monkeypatch.setattr(db, "LOCK_S", 0.2)
    with sessions() as holder:
        holder.execute(update(Worker).values(slots=99))
        with pytest.raises(OperationalError, match="database is locked"):
            add_one(sessions)
    add_one(sessions)


def fail_while_reading(sessions, how) -> None:
    with how(sessions) as session:
        result = session.execute(select(Worker.id))
        raise ZeroDivisionError(result)


@pytest.mark.parametrize("how", [reading, transaction])
def test_who_fails_before_a_result_was_read_leaves_nobody_in_the_past(sessions, worker, how):
    with transaction(sessions) as session:
        session.add(Worker(id="another", name="w", host="w", engines={}, slots=0))
    with pytest.raises(ZeroDivisionError) as failure:
        fail_while_reading(sessions, how)
    # The first one has the connection of the one that failed, so the writer has another one.
    with reading(sessions), transaction(sessions) as session:
        session.execute(update(Worker).values(slots=1))
    with reading(sessions) as one, reading(sessions) as other:
        assert [set(session.scalars(select(Worker.slots))) for session in (one, other)] == [{1}, {1}]
    assert failure.value.args, "the result, of which nothing was ever read"


def take_no_changes(engine) -> None:
    """Let every transaction from now on be one that may only read, as on a standby."""
    words = {"sqlite": "PRAGMA query_only = ON", "postgresql": "SET TRANSACTION READ ONLY"}[engine.dialect.name]
    event.listen(engine, "checkout", lambda connection, *_: connection.execute(words))


def test_a_database_that_takes_no_changes_is_away_and_said_to_be(worker_client, worker):
    sessions = worker_client.app.state.sessions
    take_no_changes(sessions.kw["bind"])
    with pytest.raises(OperationalError):
        add_one(sessions)
    answer = worker_client.post("/api/v1/worker/bye", json={"worker_id": "w"})
    assert (answer.status_code, answer.json()["message"]) == (503, "the database takes no changes just now")
