"""A broker that forgets all its messages: every job of a long queue is executed all the same, and only once."""

import sqlite3
import subprocess
import sys
from contextlib import closing

import redis

from app.wire.doorbell import queue_name
from app.wire.submission import MAX_REPLICAS
from tests.faults.conftest import ROOT, WorkerProcess, World, wait_for

JOBS = 300


def test_a_long_queue_survives_an_emptied_broker(world: World) -> None:
    groups = [submit_group(world, min(MAX_REPLICAS, JOBS - first)) for first in range(0, JOBS, MAX_REPLICAS)]
    with redis.Redis.from_url(world.redis.url) as broker:
        assert broker.llen(queue_name("toy")) >= JOBS
        broker.flushall()
        executor = start_executor(world)

        def is_done() -> bool:
            assert executor.process.poll() is None, executor.log.read_text()
            return count(world, groups, "job.state = 'completed'") == JOBS

        wait_for(is_done, "the end of all jobs")
        assert broker.llen(queue_name("toy")) == 0, "no message too many"
    assert count(world, groups, "job.attempt = 1") == JOBS
    assert count(world, groups, "(SELECT count(*) FROM attempts WHERE job_id = job.id) = 1") == JOBS
    assert count(world, groups, "(SELECT count(*) FROM metric_chunks WHERE job_id = job.id) = 1") == JOBS


def submit_group(world: World, replicas: int) -> int:
    message = {"engine": "toy", "config": {"steps": 1}, "replicas": replicas, "on_existing": "new"}
    answer = world.http.post("/api/v1/jobs", json=message)
    assert answer.status_code == 201, answer.text
    return int(answer.json()["group"])


def start_executor(world: World) -> WorkerProcess:
    log = world.work_dir / "executor.log"
    environment = world.environment | {"CAIRN_SLOTS": "4", "CAIRN_WORKER_NAME": "executor"}
    with log.open("ab") as sink:
        command = [sys.executable, "-m", "tests.faults.toy.executor"]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=sink, stderr=sink)
    world.workers.append(WorkerProcess(process, log))
    return world.workers[-1]


def count(world: World, groups: list[int], condition: str) -> int:
    numbers = ", ".join(map(str, groups))
    with closing(sqlite3.connect(world.data_dir / "cairn.db", timeout=60)) as database:
        query = (
            f"SELECT count(*) FROM jobs AS job WHERE group_id IN ({numbers}) AND replica IS NOT NULL AND {condition}"
        )
        return int(database.execute(query).fetchone()[0])
