"""Bands of a group of long runs: time and memory beside what they should be.

`python -m bench.groups [--database sqlite|postgresql|both] [--steps N] [--replicas N]`
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy.orm import Session, sessionmaker

import migrations
from app.db import make_engine, reading
from app.groups import metrics
from app.jobs import metric_reading
from bench.comparing import KEYS, memory, train
from bench.serving import open_database
from bench.storage import line

KEY = "train/rmse_f"
POINTS = 1000
ROUNDS = 3


def main() -> None:
    """Run and print one table per database."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--database", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--replicas", type=int, default=8)
    options = parser.parse_args()
    for kind in ["sqlite", "postgresql"] if options.database == "both" else [options.database]:
        with tempfile.TemporaryDirectory() as directory, open_database(kind, Path(directory)) as url:
            migrations.migrate(url)
            print(f"\n{kind:46}{'measured':>14}{'wanted':>12}{'ratio':>8}")
            measure(url, options.steps, options.replicas)


def measure(url: str, steps: int, replicas: int) -> None:
    """Chart the bands of one metric and of all, beside what reading the runs alone takes."""
    sessions = sessionmaker(make_engine(url), expire_on_commit=False)
    # The last run lacks its first steps, so that not all runs have all steps.
    jobs = [train(sessions, url, steps, skipped=12_345 * (at == replicas - 1)) for at in range(replicas)]
    _bands(sessions, jobs[:1], [KEY])  # imports, caches, the database's first pages
    for keys in ([KEY], KEYS):
        alone = statistics.median([_timed(lambda keys=keys: _read(sessions, jobs, keys)) for _ in range(ROUNDS)])
        Path("/proc/self/clear_refs").write_text("5")
        before = memory("VmRSS")
        whole = statistics.median([_timed(lambda keys=keys: _bands(sessions, jobs, keys)) for _ in range(ROUNDS)])
        print(f"{replicas} runs of {steps:,} steps, {len(keys)} metrics:")
        line("  bands, 1,000 points each", whole, "ms", 4 * alone)
        line("  of it reading the values", alone, "ms")
        line("  memory above rest", memory("VmHWM") - before, "MB", 200)


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - begun)


def _read(sessions: sessionmaker[Session], jobs: Sequence[int], keys: Sequence[str]) -> None:
    with reading(sessions) as session:
        for job_id in jobs:
            for key in keys:
                metric_reading.read(session, job_id, [key])


def _bands(sessions: sessionmaker[Session], jobs: Sequence[int], keys: Sequence[str]) -> None:
    with reading(sessions) as session:
        found = metrics.read(session, metrics.wanted(session, jobs, keys, None, None), POINTS)
    assert all(POINTS // 2 < len(bands) <= POINTS for bands in found.values())


if __name__ == "__main__":
    main()
