import json
from pathlib import Path

from alembic import command
from sqlalchemy import inspect, select, text

import migrations
from app.db import make_engine
from app.engines.documents import leaves
from app.jobs.leaves import rows
from app.tables import Base, Job, JobLeaf
from app.wire.resolution import Origin


def test_tables_and_migrations_agree(database_url):
    migrations.check(database_url)


def test_a_second_run_changes_nothing(database_url):
    migrations.migrate(database_url)


def test_several_processes_may_migrate_at_once(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/new.db"
    command = "import sys, migrations; migrations.migrate(sys.argv[1])"
    import subprocess
    import sys

    started = [subprocess.Popen([sys.executable, "-W", "error", "-c", command, url]) for _ in range(3)]
    assert [process.wait(60) for process in started] == [0, 0, 0]
    tables = set(inspect(make_engine(url)).get_table_names())
    assert tables == {table.name for table in Base.metadata.sorted_tables} | {"alembic_version"}


CONFIG = {
    "model": {"a/b": 6.5, "on": True, "sel": [46, 92], "hybrid": [{"n": 2}, {"n": None}], "empty": {}},
    "long": "x" * 900,
    "k" * 300: {"k" * 300: 1},
    "n" * 201: 1,
}


def test_leaves_of_old_jobs_are_listed_as_those_of_new_ones(database_url):
    origins = {at: Origin(origin="explicit") for at, _ in leaves(CONFIG)}
    old = {
        "name": "old", "kind": "train", "engine": "deepmd", "state": "completed", "priority": 0, "submitted": "{}",
        "resolved": json.dumps(CONFIG), "origins": json.dumps({at: {"origin": "explicit"} for at in origins}),
        "warnings": "[]", "digest": "d", "seed": 1, "seeds": "{}", "determinism": "fast", "start_mode": "scratch",
        "file_stem": "old", "attempt": 1, "step": 9, "total_steps": 9, "version": 1,
    }  # fmt: skip
    documents = {"tags": "[]", "checkpoint_policy": "{}", "latest": "{}"}
    times = {"created_at": "2026-01-01 00:00:00+00:00", "updated_at": "2026-01-01 00:00:00+00:00"}
    row = old | documents | times
    engine = make_engine(database_url)
    command.downgrade(migrations.configuration(database_url), "0001")
    try:
        with engine.begin() as connection:
            connection.execute(
                text(f"INSERT INTO jobs ({', '.join(row)}) VALUES ({', '.join(f':{name}' for name in row)})"), row
            )
    finally:
        migrations.migrate(database_url)
    with engine.connect() as connection:
        found = connection.execute(select(JobLeaf.__table__).order_by(JobLeaf.pointer)).mappings().all()
        start = connection.execute(select(Job.id, Job.start, Job.start_step)).one()
    engine.dispose()
    expected = rows(start.id, CONFIG, origins)
    assert [dict(one) for one in found] == sorted(expected, key=lambda one: one["pointer"].encode())
    assert len(expected) == 7
    assert (start.start, start.start_step) == ({}, 0)
