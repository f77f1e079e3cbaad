"""The shape of the house: import contracts, and what a fresh interpreter loads with each entry point."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

HEAVY = {"torch", "deepmd.pt", "ase", "dpdata", "pyarrow", "scipy", "pandas"}
SERVER = {"fastapi", "uvicorn", "sqlalchemy", "alembic", "psycopg", "celery", "redis", "jinja2", "obstore"}


def loaded_by(statement: str) -> set[str]:
    """Return every module that a fresh interpreter has after `statement`."""
    code = f"import sys, json\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    ("statement", "banned"),
    [
        pytest.param("import app.main; app.main.create_app", HEAVY | {"worker"}, id="control plane"),
        pytest.param(
            """import numpy as np, pyarrow as pa, app.jobs.metrics
column = lambda numbers, present=None: pa.Array.from_buffers(pa.type_for_alias(numbers.dtype.name), 3, [present, pa.py_buffer(numbers)])
batch = pa.record_batch({"step": column(np.arange(3)), "a": column(np.ones(3)), "b": column(np.ones(3), pa.py_buffer(b"5"))})
with pa.ipc.new_stream(sink := pa.BufferOutputStream(), batch.schema) as writer: writer.write_batch(batch)
assert len(app.jobs.metrics.decode(sink.getvalue().to_pybytes()).columns["b"].values) == 2""",
            {"pandas"},  # it takes seconds to load, and pyarrow does so by itself where it can
            id="metrics",
        ),
        pytest.param(
            "import worker.celery_app, worker.supervisor",
            {"torch", "deepmd.pt", "app.tables", "app.db"} | SERVER - {"celery", "redis"},
            id="worker",
        ),
        pytest.param(
            "import app.cli.main",
            HEAVY | SERVER | {"numpy", "app.engines", "app.settings", "app.tables", "worker"},
            id="client",
        ),
        pytest.param(
            "import pkgutil, importlib, app.wire\n[importlib.import_module(m.name) for m in pkgutil.iter_modules(app.wire.__path__, 'app.wire.')]",
            HEAVY | SERVER | {"numpy", "httpx", "typer", "rich"},
            id="wire",
        ),
        pytest.param(
            "import app.engines.registry; [e.schema() for e in app.engines.registry.ENGINES]",
            {"torch", "deepmd.pt"} | SERVER,
            id="torch-free engines",
        ),
    ],
)
def test_a_fresh_interpreter_loads_nothing_it_must_not(statement: str, banned: set[str]) -> None:
    assert loaded_by(statement) & banned == set()


def test_import_contracts_hold() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_top_package_is_empty() -> None:
    assert (ROOT / "app" / "__init__.py").read_text() == ""
