"""Errands over HTTP and at the edges: races, deaths, lost rings, answers that cannot be."""

import json
import threading
import time
from datetime import timedelta

import pytest
import redis
from sqlalchemy import func, select, update

from app.db import transaction
from app.errands import service
from app.fleet import upkeep
from app.settings import Settings
from app.tables import Errand, Worker
from app.tables.base import now
from tests.app.simulated import add_worker, base_facts

INVENTORY = {"tensors": [{"name": "w", "shape": [2], "dtype": "float64", "is_parameter": True}]}


@pytest.fixture
def settings(database_url, tmp_path, redis_url) -> Settings:
    """Settings with a real broker."""
    return Settings(data_dir=tmp_path / "data", database_url=database_url, redis_url=redis_url)


@pytest.fixture
def rings(redis_url):
    """Take the messages for errands from the broker."""

    def take() -> list[list[int]]:
        with redis.Redis.from_url(redis_url) as connection:
            raw = [connection.rpop("cairn.errands.deepmd") for _ in range(connection.llen("cairn.errands.deepmd"))]
        messages = [json.loads(item)["headers"] for item in raw]
        assert {message["task"] for message in messages} <= {"cairn.do_errand"}
        return [json.loads(message["argsrepr"].replace("(", "[").replace(",)", "]")) for message in messages]

    return take


@pytest.fixture
def order(app, client):
    """Order an inventory and return the errand's id."""

    def order(key: str = "k", kind: str = "inventory") -> int:
        with transaction(app.state.sessions) as session:
            return service.order(session, kind=kind, key=key, engine="deepmd", order={"model": key}).id

    return order


@pytest.fixture
def errand(app):
    """Read an errand."""
    return lambda errand_id: service.wait(app.state.sessions, errand_id, 0)


def change(app, table, **values) -> None:
    with transaction(app.state.sessions) as session:
        session.execute(update(table).values(**values))


def at_once(*calls) -> list:
    barrier, answers = threading.Barrier(len(calls)), []

    def go(call):
        barrier.wait()
        answers.append(call())

    threads = [threading.Thread(target=go, args=[call]) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_an_errand_goes_to_a_worker_and_back(order, rings, worker, errand):
    errand_id = order()
    assert rings() == [[errand_id]]
    taken = worker.take_errand(errand_id)
    assert (taken.grant["kind"], taken.grant["engine"], taken.grant["order"]) == ("inventory", "deepmd", {"model": "k"})
    assert (taken.grant["lease_s"], taken.grant["blob_sha256"], taken.grant["size"]) == (300, None, None)
    assert taken.answer(result=INVENTORY).status_code == 204
    row = errand(errand_id)
    assert row.state == "done"
    assert row.result["tensors"][0]["name"] == "w"
    assert (row.token_sha256, row.worker_id) == (None, None)


def test_the_same_order_is_the_same_errand(app, order, rings, worker):
    first = order()
    assert order() == first
    assert order("other") != first
    assert len(rings()) == 2
    worker.take_errand(first).answer(result=INVENTORY)
    assert order() == first
    assert rings() == []
    with app.state.sessions() as session:
        assert service.find(session, "inventory", "k").result["tensors"][0]["shape"] == [2]
        assert service.find(session, "inspect", "k") is None


def test_an_order_that_is_rolled_back_rings_for_nothing(app, client, rings):
    with app.state.sessions() as session:
        service.order(session, kind="inventory", key="k", engine="deepmd", order={})
        session.rollback()
    assert rings() == []


def test_orders_at_the_same_moment_make_one_errand(app, order, rings):
    ids = at_once(*[order] * 5)
    assert len(set(ids)) == 1
    assert rings() == [[ids[0]]]
    with app.state.sessions() as session:
        assert session.scalar(select(func.count()).select_from(Errand)) == 1


def test_of_two_claims_one_wins(order, worker_client, errand):
    errand_id = order()
    workers = [add_worker(worker_client, f"w{number}") for number in range(4)]
    answers = at_once(*[lambda one=one: one.try_errand(errand_id) for one in workers])
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"not-claimable"}
    assert errand(errand_id).tries == 1


def test_of_two_results_one_counts(order, worker, errand):
    errand_id = order()
    taken = worker.take_errand(errand_id)
    answers = at_once(lambda: taken.answer(result=INVENTORY), lambda: taken.refuse("no"))
    assert sorted(answer.status_code for answer in answers) == [204, 409]
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"errand-superseded"}
    assert errand(errand_id).state in ("done", "refused")


@pytest.mark.parametrize("errand_id", [99, 2**62])
def test_what_is_not_there_cannot_be_claimed(worker, errand_id):
    answer = worker.try_errand(errand_id)
    assert (answer.status_code, answer.json()["code"]) == (409, "not-claimable")
    assert "does not exist" in answer.json()["message"]


def test_a_worker_claims_only_for_its_engines(order, worker_client, worker):
    errand_id = order()
    hello = {"worker_id": "m", "name": "m", "host": "m", "engines": {"minimind": "1"}, "slots": 1}
    assert worker_client.post("/api/v1/worker/hello", json=hello).status_code == 200
    answer = worker_client.post(f"/api/v1/worker/errands/{errand_id}/claim", json={"worker_id": "m"})
    assert (answer.status_code, answer.json()["code"]) == (409, "not-claimable")
    assert "deepmd" in answer.json()["message"]
    worker.take_errand(errand_id)
    assert "it is taken" in worker.try_errand(errand_id).json()["message"]


def test_other_tokens_open_nothing(order, worker, client, worker_client, anonymous):
    errand_id = order()
    taken = worker.take_errand(errand_id)
    path = f"/api/v1/worker/errands/{errand_id}"
    assert worker_client.post(f"{path}/result", json={"result": INVENTORY}).json()["code"] == "errand-superseded"
    assert client.get(f"{path}/blob").json()["code"] == "errand-superseded"
    assert client.post(f"{path}/claim", json={"worker_id": "one"}).status_code == 403
    del anonymous.headers["Authorization"]
    assert anonymous.post(f"{path}/result", json={"result": INVENTORY}).status_code == 401
    other = worker.take_errand(order("other"))
    stolen = other.client.post(
        f"{path}/result", json={"result": INVENTORY}, headers={"Authorization": f"Bearer {other.grant['token']}"}
    )
    assert (stolen.status_code, stolen.json()["code"]) == (409, "errand-superseded")
    assert taken.send("GET", "blob").status_code == 404  # an inventory is about no file
    assert taken.answer(result=INVENTORY).status_code == 204


def test_an_errand_whose_time_is_up_goes_to_another(app, settings, order, rings, worker_client, errand):
    errand_id = order()
    first, second = (add_worker(worker_client, name) for name in ("a", "b"))
    late = first.take_errand(errand_id)
    rings()
    assert upkeep.reap(app.state.sessions, settings) == 0
    change(app, Errand, lease_expires_at=now() - timedelta(seconds=1))
    assert upkeep.reap(app.state.sessions, settings) == 1
    assert rings() == [[errand_id]]
    assert errand(errand_id).state == "waiting"
    assert late.answer(result=INVENTORY).json()["code"] == "errand-superseded"
    taken = second.take_errand(errand_id)
    assert late.answer(result=INVENTORY).json()["code"] == "errand-superseded"
    assert taken.answer(result=INVENTORY).status_code == 204


def test_a_late_answer_counts_while_nobody_else_was_asked(app, order, worker, errand):
    errand_id = order()
    taken = worker.take_errand(errand_id)
    change(app, Errand, lease_expires_at=now() - timedelta(seconds=1))
    assert taken.answer(result=INVENTORY).status_code == 204
    assert errand(errand_id).state == "done"


def test_an_errand_of_a_worker_that_is_gone_does_not_wait_for_its_time(app, settings, order, worker, errand):
    errand_id = order()
    worker.take_errand(errand_id)
    change(app, Worker, last_seen_at=now() - timedelta(minutes=2))
    assert upkeep.reap(app.state.sessions, settings) == 1
    assert errand(errand_id).state == "waiting"


def test_three_dead_workers_refuse_an_errand_until_it_is_ordered_again(app, settings, order, rings, worker, errand):
    errand_id = order()
    for _ in range(3):
        worker.take_errand(errand_id)
        change(app, Errand, lease_expires_at=now() - timedelta(seconds=1))
        assert upkeep.reap(app.state.sessions, settings) == 1
    row = errand(errand_id)
    assert (row.state, row.problem["code"]) == ("refused", "errand-abandoned")
    assert "3 workers died" in row.problem["message"]
    rings()
    assert order() == errand_id
    assert rings() == [[errand_id]]
    assert (errand(errand_id).state, errand(errand_id).tries) == ("waiting", 0)


def test_a_refusal_stands(order, rings, worker, errand):
    errand_id = order()
    worker.take_errand(errand_id).refuse("it has no descriptor")
    rings()
    assert order() == errand_id
    assert rings() == []
    assert errand(errand_id).problem["message"] == "it has no descriptor"


@pytest.mark.parametrize("code", ["out-of-memory", "took-too-long", "crashed"])
def test_what_a_worker_could_not_do_is_tried_anew(order, rings, worker, errand, code):
    errand_id = order()
    worker.take_errand(errand_id).answer(problem={"code": code, "message": "m"})
    assert errand(errand_id).state == "refused"
    rings()
    assert order() == errand_id
    assert rings() == [[errand_id]]
    assert worker.take_errand(errand_id).answer(result=INVENTORY).status_code == 204
    assert (errand(errand_id).state, errand(errand_id).problem) == ("done", None)


def test_several_processes_take_an_errand_away_once(app, settings, order, worker, errand):
    errand_id = order()
    worker.take_errand(errand_id)
    change(app, Errand, lease_expires_at=now() - timedelta(seconds=1))
    assert sorted(at_once(*[lambda: upkeep.reap(app.state.sessions, settings)] * 4)) == [0, 0, 0, 1]
    assert errand(errand_id).tries == 1


def test_a_lost_ring_is_rung_again_once_while_a_worker_is_there(app, settings, order, rings, worker):
    errand_id = order()
    rings()
    change(app, Errand, rung_at=now() - timedelta(minutes=1))
    assert sorted(at_once(*[lambda: upkeep.reconcile(app.state.sessions, settings)] * 4)) == [0, 0, 0, 1]
    assert rings() == [[errand_id]]
    change(app, Errand, rung_at=now() - timedelta(minutes=1))
    change(app, Worker, last_seen_at=now() - timedelta(minutes=2))
    assert upkeep.reconcile(app.state.sessions, settings) == 0
    with app.state.sessions() as session:
        assert not service.attended(session, "deepmd", settings)
    worker.presence()
    assert upkeep.reconcile(app.state.sessions, settings) == 1
    with app.state.sessions() as session:
        assert service.attended(session, "deepmd", settings)
        assert not service.attended(session, "alchemy", settings)


def test_what_is_taken_is_not_rung_for(app, settings, order, rings, worker):
    worker.take_errand(order())
    rings()
    change(app, Errand, rung_at=now() - timedelta(minutes=1))
    assert upkeep.reconcile(app.state.sessions, settings) == 0


def test_waiting_ends_with_the_errand_or_with_the_time(app, order, worker):
    errand_id = order()
    assert service.wait(app.state.sessions, errand_id, 0.1).state == "waiting"
    taken = worker.take_errand(errand_id)
    timer = threading.Timer(0.2, lambda: taken.answer(result=INVENTORY))
    timer.start()
    began = time.monotonic()
    row = service.wait(app.state.sessions, errand_id, 20)
    assert time.monotonic() - began < 15
    timer.join()
    assert (row.state, row.result["tensors"][0]["name"]) == ("done", "w")


MALFORMED = {
    "nothing": b"",
    "no-json": b"{",
    "nan": b'{"result": {"tensors": NaN}}',
    "nul": b'{"problem": {"code": "x", "message": "\\u0000"}}',
    "list": b"[]",
    "neither": b"{}",
    "both": json.dumps({"result": INVENTORY, "problem": {"code": "x", "message": "y"}}).encode(),
    "unknown-key": json.dumps({"result": INVENTORY, "more": 1}).encode(),
    "empty-result": b'{"result": {}}',
    "wrong-type": b'{"result": {"tensors": [{"name": 1}]}}',
    "deep": b'{"result": ' + b"[" * 5000 + b"]" * 5000 + b"}",
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_an_answer_that_is_malformed_refuses_the_errand(order, worker, errand, body):
    errand_id = order()
    assert worker.take_errand(errand_id).send("POST", "result", content=body).status_code == 204
    row = errand(errand_id)
    assert (row.state, row.problem["code"], row.result) == ("refused", "malformed-result", None)


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"engine": "minimind"}, "of the engine minimind"),
        ({"branches": []}, "no model was found"),
        ({"parameters": -1}, "-1 parameters"),
        ({"parameters": 2**63}, "cannot be"),
        ({"step": 2**63}, "cannot be"),
        ({"seed": -1}, "a seed"),
        ({"seeds": {"training": 2**63}}, "a seed"),
    ],
)
def test_facts_that_contradict_the_order_are_refused(order, worker, errand, facts, why):
    errand_id = order(kind="inspect")
    assert worker.take_errand(errand_id).answer(result=base_facts(**facts)).status_code == 204
    row = errand(errand_id)
    assert (row.state, row.problem["code"]) == ("refused", "malformed-result")
    assert why in row.problem["message"]
