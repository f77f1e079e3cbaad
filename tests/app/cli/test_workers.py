"""`cairn workers`: the list, and who takes no more work."""

from tests.app.cli.conftest import Cairn
from tests.app.simulated import SimulatedWorker


def test_workers_are_listed_and_drained_by_name(cairn: Cairn, worker: SimulatedWorker) -> None:
    assert "one" in cairn("workers").out
    assert "alive" in cairn("workers").out
    drained = cairn("workers", "--drain", "one:1")
    assert (drained.code, drained.out) == (0, "one:1 takes no more work; what it has goes on.\n")
    assert worker.presence().json() == {"drain": True}
    assert "draining" in cairn("workers").out
    assert cairn("workers", "--undrain", "one", "--json").json["drain"] is False
    assert [found["drain"] for found in cairn("workers", "--json").json] == [False]


def test_a_worker_that_is_not_there_is_named(cairn: Cairn, worker: SimulatedWorker) -> None:
    refused = cairn("workers", "--drain", "tow")
    assert refused.code == 1
    assert "There is no worker tow" in refused.err
    assert "Workers: one:1" in refused.err
    assert cairn("workers", "--drain", "one", "--undrain", "one").code == 2
