"""The real worker, whose jobs are done as soon as they are claimed: `python -m tests.faults.toy.executor`. For long queues."""

import sys

import numpy as np
import pyarrow as pa

from app.wire.worker import Claim, End
from tests.faults.toy.engine import install
from worker import client, tasks
from worker.__main__ import main
from worker.runtime import Runtime
from worker.slots import Slot


def execute(runtime: Runtime, claim: Claim, _: Slot) -> None:
    """Report one step and the end: what a supervisor sends of the shortest training there is."""
    api = runtime.api.for_attempt(claim, runtime.shutdown.requested)
    client.metrics(api, 0, _batch(claim.total_steps or 1))
    client.end(api, End(outcome="completed", step=claim.total_steps or 1))


def _batch(step: int) -> bytes:
    batch = pa.record_batch({"step": np.array([step]), "train/loss": np.array([0.5])})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


if __name__ == "__main__":
    install()
    tasks.supervise = execute
    sys.exit(main("tests.faults.toy.trainer:main"))
