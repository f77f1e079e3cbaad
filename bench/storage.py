"""Metrics and blobs through the REST API of a real server: rates, times and memory beside what they should be.

`python -m bench.storage [--database sqlite|postgresql|both] [--steps N] [--megabytes N]`
"""

import argparse
import hashlib
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from bench.serving import Served, served

KEYS = [
    *(f"train/{name}" for name in ("loss", "rmse", "rmse_e", "rmse_f", "rmse_v")),
    "lr",
    "perf/step_s",
    "val/rmse_f",
]
CHUNK = 1 << 20
CHARTS = 15


def main() -> None:
    """Run and print one table per database."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--database", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--megabytes", type=int, default=1024)
    options = parser.parse_args()
    kinds = ["sqlite", "postgresql"] if options.database == "both" else [options.database]
    for kind in kinds:
        with served(kind) as server:
            print(f"\n{kind:46}{'measured':>14}{'wanted':>12}{'ratio':>8}")
            measure_metrics(server, options.steps)
            if kind == kinds[0]:
                measure_blobs(server, options.megabytes)


def line(name: str, measured: float, unit: str, wanted: float | None = None, *, least: bool = False) -> None:
    """Print a figure, what it should be, and how many times better than that it is."""
    shown = f"{measured:,.1f}" if measured < 1000 else f"{measured:,.0f}"
    text = f"{name:46}{shown + ' ' + unit:>14}"
    if wanted is not None:
        text += f"{'> ' if least else '< '}{wanted:,.0f}".rjust(12)
        text += f"{measured / wanted if least else wanted / max(measured, 0.1):8.1f}"
    print(text, flush=True)


def measure_metrics(server: Served, steps: int) -> None:
    """Write a run of many steps in batches of different sizes, then read charts of it."""
    at, seq = 100, 10
    plan = [(10, 200), (100, 200), (5000, 20), (1000, (steps - 122_000) // 1000)]
    with server.attempt() as client:
        send_all(client, server, 0, [batch(number * 10, 10) for number in range(10)])  # imports, caches
        for rows, batches in plan:
            bodies = [batch(at + index * rows, rows) for index in range(batches)]
            used = server.cpu_s()
            seconds = timed(lambda bodies=bodies, seq=seq: send_all(client, server, seq, bodies))
            used = server.cpu_s() - used
            at, seq = at + rows * batches, seq + batches
            values = rows * batches * len(KEYS)
            line(f"ingest, {rows} steps × {len(KEYS)} keys a batch", values / seconds, "values/s", 200_000, least=True)
            line("  per second of the server's processor time", values / used, "values/s", 200_000, least=True)
    with server.person() as client:
        for name, query in (
            ("chart, 1 key, 1,000 points", {"keys": "train/loss", "max_points": 1000}),
            ("chart, 4 keys, 1,000 points each", {"keys": ",".join(KEYS[:4]), "max_points": 1000}),
            (
                "chart, 1 key, 1 % of the steps",
                {"keys": "train/loss", "from_step": at // 2, "to_step": at // 2 + at // 100},
            ),
            ("keys", None),
        ):
            used = server.cpu_s()
            times = [1000 * timed(lambda query=query: chart(client, server, query)) for _ in range(CHARTS)]
            line(f"{name} of {at:,}", statistics.median(times), "ms", 100)
            line("  of it the server's processor time", 1000 * (server.cpu_s() - used) / CHARTS, "ms", 100)
        seconds = timed(lambda: drain(client, f"/api/v1/jobs/{server.job_id}/metrics?format=arrow"))
        line("export, Arrow, all keys", at * len(KEYS) / seconds, "values/s")
        before = server.reset_peak()
        drain(client, f"/api/v1/jobs/{server.job_id}/metrics?format=csv")
        line("export, CSV, all keys: memory above rest", server.peak() - before, "MB", 100)


def batch(first: int, rows: int) -> bytes:
    """Return one batch as a worker sends it."""
    import pyarrow as pa

    rng = np.random.default_rng(first)
    columns = [pa.array(np.arange(first + 1, first + rows + 1)), *(pa.array(rng.normal(size=rows)) for _ in KEYS)]
    made = pa.record_batch(columns, names=["step", *KEYS])
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, made.schema) as writer:
        writer.write_batch(made)
    return sink.getvalue()


def send_all(client: httpx.Client, server: Served, seq: int, bodies: list[bytes]) -> None:
    """Send batches one after the other, as a worker does."""
    path = f"/api/v1/worker/attempts/{server.attempt_id}/metrics"
    for number, body in enumerate(bodies, seq):
        client.post(path, params={"seq": number}, content=body).raise_for_status()


def chart(client: httpx.Client, server: Served, query: dict[str, Any] | None) -> None:
    """Read one chart, or the list of keys."""
    path = f"/api/v1/jobs/{server.job_id}/metrics{'/keys' if query is None else ''}"
    client.get(path, params=query).raise_for_status()


def drain(client: httpx.Client, path: str) -> int:
    """Download and forget; return the number of bytes."""
    size = 0
    with client.stream("GET", path) as answer:
        answer.raise_for_status()
        for chunk in answer.iter_raw():
            size += len(chunk)
    return size


def timed(work: Callable[[], object]) -> float:
    """Return how long something takes, s."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure_blobs(server: Served, megabytes: int) -> None:
    """Upload and download a large file in every way there is, and see what the server's memory does."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "large"
        write_large(path, megabytes)
        digest = hashlib.sha256()
        hashing = timed(lambda: [digest.update(chunk) for chunk in chunks(path)])
        blob = f"/api/v1/worker/blobs/{digest.hexdigest()}"
        line("SHA-256 alone, for comparison", megabytes / hashing, "MB/s")
        with server.attempt() as client:
            before = server.reset_peak()
            used = server.cpu_s()
            seconds = timed(lambda: client.put(blob, content=chunks(path)).raise_for_status())
            line(f"upload of {megabytes} MB", megabytes / seconds, "MB/s")
            line("  per second of the server's processor time", megabytes / (server.cpu_s() - used), "MB/s")
            line("upload: memory above rest", server.peak() - before, "MB", 64)
            body = {"blob_sha256": digest.hexdigest(), "size": path.stat().st_size}
            client.put("/api/v1/worker/artifacts/bench/large", json=body).raise_for_status()
            before = server.reset_peak()
            used = server.cpu_s()
            seconds = timed(lambda: drain(client, blob))
            line(f"download of {megabytes} MB", megabytes / seconds, "MB/s")
            line("  per second of the server's processor time", megabytes / (server.cpu_s() - used), "MB/s")
            line("download: memory above rest", server.peak() - before, "MB", 64)
        with server.person() as client, path.open("rb") as file:
            before = server.reset_peak()
            form = {"name": "large"}
            answer = client.post("/api/v1/datasets", data=form, files={"file": ("large", file)})
            assert answer.status_code == 422, answer.text  # it is no dataset, which is found out after receiving it
            line("upload as a form: memory above rest", server.peak() - before, "MB", 64)


def write_large(path: Path, megabytes: int) -> None:
    """Write random bytes."""
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(CHUNK))


def chunks(path: Path) -> Iterator[bytes]:
    """Yield a file in pieces."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


if __name__ == "__main__":
    main()
