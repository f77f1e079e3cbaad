"""Run directories: fresh, owned, and cleaned up after the dead only."""

import subprocess
import sys
from pathlib import Path

import pytest

from worker import workdir

ROOT = Path(__file__).parents[2]


def test_a_run_directory_is_there_while_it_is_used(tmp_path: Path) -> None:
    with workdir.fresh(tmp_path, 12, 3) as run:
        assert run.root == tmp_path / "12-3"
        assert run.metrics.is_dir()
    assert not run.root.exists()


def test_a_directory_of_a_living_worker_is_left_alone(tmp_path: Path) -> None:
    with workdir.fresh(tmp_path, 1, 1) as run:
        workdir.clean(tmp_path)
        assert run.root.exists()
        with pytest.raises(workdir.RunDirInUse, match="CAIRN_WORK_DIR"), workdir.fresh(tmp_path, 1, 1):
            pass
        assert run.root.exists()


def leave_behind(work: Path) -> Path:
    code = (
        "import os, sys; from pathlib import Path; from worker import workdir\n"
        "with workdir.fresh(Path(sys.argv[1]), 1, 1) as run:\n"
        "    run.spec.write_text('{}'); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(work)], cwd=ROOT, check=False)
    assert (work / "1-1" / "spec.json").exists()
    return work / "1-1"


def test_what_a_dead_worker_left_is_removed(tmp_path: Path) -> None:
    left = leave_behind(tmp_path)
    workdir.clean(tmp_path)
    assert not left.exists()


def test_an_attempt_never_starts_in_a_used_directory(tmp_path: Path) -> None:
    leave_behind(tmp_path)
    with workdir.fresh(tmp_path, 1, 1) as run:
        assert not run.spec.exists()


def test_what_somebody_else_keeps_there_is_left_alone(tmp_path: Path) -> None:
    for name in ("results", "1-1.bak", "2024-01-31"):
        (tmp_path / name).mkdir()
    workdir.clean(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "1-1.bak", "2024-01-31", "results"]
    assert list((tmp_path / "results").iterdir()) == []
