"""A training that is left without any memory ends, and says why."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TIMES = 6
"""Which allocation is the first to fail differs from one time to the next."""


def test_a_training_without_any_memory_ends_and_says_why(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.worker.exhausted", str(tmp_path), str(TIMES)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert [line for line in done.stdout.splitlines() if "phase" not in line] == ["out-of-memory"] * TIMES, done.stderr
