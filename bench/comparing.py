"""Comparing two long runs: time and memory beside what they should be.

`python -m bench.comparing [--database sqlite|postgresql|both] [--steps N]`
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from sqlalchemy.orm import Session, sessionmaker

import migrations
from app.db import make_engine, reading, transaction
from app.jobs.comparison_reading import compare
from app.jobs.metric_blocks import merge
from app.jobs.series import Batch, Series
from app.wire.comparison import Comparison
from bench.serving import open_database, seed
from bench.storage import line

KEYS = [*(f"train/{name}" for name in ("loss", "rmse_e", "rmse_f", "rmse_v", "grad_norm")), "lr"]
ROUNDS = 5
BATCH = 1 << 17
SMALL = 50_000
"""Steps of a run that is compared beforehand: imports, caches, the database's first pages."""


def main() -> None:
    """Run and print one table per database."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--database", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--steps", type=int, default=1_000_000)
    options = parser.parse_args()
    for kind in ["sqlite", "postgresql"] if options.database == "both" else [options.database]:
        with tempfile.TemporaryDirectory() as directory, open_database(kind, Path(directory)) as url:
            migrations.migrate(url)
            print(f"\n{kind:46}{'measured':>14}{'wanted':>12}{'ratio':>8}")
            measure(url, options.steps)


def measure(url: str, steps: int) -> None:
    """Compare equal runs, then runs whose blocks lie otherwise and that differ in the last step only."""
    sessions = sessionmaker(make_engine(url), expire_on_commit=False)
    small = [train(sessions, url, SMALL) for _ in range(2)]
    _compare(sessions, *small)
    left, right = (train(sessions, url, steps) for _ in range(2))
    other = train(sessions, url, steps, skipped=12_345, changed=steps)
    name = f"two runs of {steps:,} steps × {len(KEYS)} keys"
    _report(f"{name}, equal", sessions, (left, right), "identical-so-far")
    _report(f"{name}, only the last step differs", sessions, (left, other), "diverged")


def _report(name: str, sessions: sessionmaker[Session], jobs: tuple[int, int], verdict: str) -> None:
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    used, times = time.process_time(), []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        found = _compare(sessions, *jobs)
        times.append(1000 * (time.perf_counter() - begun))
    assert found.verdict == verdict, found.summary
    print(f"{name}:")
    line("  comparison", statistics.median(times), "ms", 2000)
    line("  of it our own processor time", 1000 * (time.process_time() - used) / ROUNDS, "ms", 2000)
    line("  memory above rest", memory("VmHWM") - before, "MB", 50)


def _compare(sessions: sessionmaker[Session], left: int, right: int) -> Comparison:
    with reading(sessions) as session:
        return compare(session, left, right)


def train(sessions: sessionmaker[Session], url: str, steps: int, skipped: int = 0, changed: int | None = None) -> int:
    """Write a run in blocks, as the server does, and return its job; without its first steps all blocks begin elsewhere."""
    job_id, attempt_id = seed(url, token=str(time.perf_counter_ns()))
    with transaction(sessions) as session:
        for first in range(1 + skipped, steps + 1, BATCH):
            at = np.arange(first, min(first + BATCH, steps + 1))
            columns = {key: Series(at, np.sin(at * (index + 1.0))) for index, key in enumerate(KEYS)}
            for series in columns.values():
                series.values[at == changed] += 1e-12
            merge(session, attempt_id, job_id, [Batch(at, columns)])
    return job_id


def memory(field: str) -> float:
    """Return a figure of this process's memory, MB: `VmRSS` now, `VmHWM` at most since it was cleared."""
    status = Path("/proc/self/status").read_text()
    return int(next(text for text in status.splitlines() if text.startswith(field)).split()[1]) / 1024


if __name__ == "__main__":
    main()
