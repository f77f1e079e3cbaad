from pathlib import Path

from sqlalchemy import inspect

import migrations
from app.db import make_engine
from app.tables import Base


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
