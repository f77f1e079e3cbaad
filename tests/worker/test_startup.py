"""How a worker starts: lean, and with words when it cannot."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def start(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("CAIRN_")}
    return subprocess.run(
        [sys.executable, "-m", "worker"],
        cwd=ROOT,
        env=inherited | {"CAIRN_DATA_DIR": str(tmp_path)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_main_process_never_loads_what_trainers_need() -> None:
    code = (
        "import sys, json\n"
        "import worker.__main__, worker.celery_app, worker.runtime\n"
        "from worker.settings import WorkerSettings\n"
        "engines = worker.runtime.served_engines(WorkerSettings(engines=['deepmd']))\n"
        "print(json.dumps([sorted(sys.modules), worker.runtime.preload_module(engines[0])]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    modules, preload = json.loads(done.stdout)
    assert {"torch", "deepmd.pt", "pyarrow", "sqlalchemy", "fastapi", "scipy"} & set(modules) == set()
    assert preload == "worker.engines.deepmd.preload"


def test_without_a_token_it_says_what_to_do(tmp_path: Path) -> None:
    done = start(tmp_path)
    assert done.returncode == 1
    assert f"{tmp_path}/worker.token cannot be read" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"CAIRN_ENGINES": "deepmdd"}, "CAIRN_ENGINES names 'deepmdd', which is not an engine. There are: deepmd"),
        ({"CAIRN_SLOTS": "0"}, "greater than or equal to 1"),
        ({"CAIRN_WORK_DIR": "/proc/nowhere"}, "/proc/nowhere"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, environment: dict[str, str], words: str) -> None:
    done = start(tmp_path, CAIRN_WORKER_TOKEN="t", **environment)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
