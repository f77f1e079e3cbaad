import json
import socket
import time

import redis

from app.queue import Doorbell, celery_url


def test_a_ring_is_a_celery_message_on_the_engines_queue(redis_url):
    doorbell = Doorbell(redis_url)
    assert doorbell.ring("deepmd", 7, 2)
    with redis.Redis.from_url(redis_url) as connection:
        message = json.loads(connection.lpop("cairn.deepmd"))
    assert message["headers"]["task"] == "cairn.run_attempt"
    assert message["headers"]["argsrepr"] == "(7, 2, 1)"
    doorbell.close()


def test_a_job_of_several_slots_is_rung_for_where_only_large_workers_listen(redis_url):
    doorbell = Doorbell(redis_url)
    assert doorbell.ring("deepmd", 7, 2, 4)
    with redis.Redis.from_url(redis_url) as connection:
        message = json.loads(connection.lpop("cairn.deepmd.slots-4"))
    assert message["headers"]["argsrepr"] == "(7, 2, 4)"
    doorbell.close()


def test_a_broker_that_refuses_costs_no_time():
    doorbell = Doorbell("redis://127.0.0.1:1/0")
    started = time.monotonic()
    assert [doorbell.ring("deepmd", 1, 1) for _ in range(20)] == [False] * 20
    assert time.monotonic() - started < 10  # asked each time, it would take 20 and more
    assert not doorbell.answers()


def test_a_broker_that_is_silent_is_asked_once():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        doorbell = Doorbell(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        started = time.monotonic()
        assert [doorbell.ring("deepmd", 1, 1) for _ in range(20)] == [False] * 20
        assert time.monotonic() - started < 10


def test_a_broker_that_comes_back_is_used_again(redis_url, monkeypatch):
    doorbell = Doorbell(redis_url)
    monkeypatch.setattr(doorbell, "_silent_until", time.monotonic() + 60)
    assert not doorbell.ring("deepmd", 1, 1)
    monkeypatch.setattr(doorbell, "_silent_until", time.monotonic())
    assert doorbell.ring("deepmd", 1, 1)
    assert doorbell.answers()
    doorbell.close()


def test_unix_sockets_are_spelled_celerys_way():
    assert celery_url("unix:///run/redis.sock") == "redis+socket:///run/redis.sock"
    assert celery_url("redis://host:6379/0") == "redis://host:6379/0"
