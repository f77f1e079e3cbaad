"""A small corpus and small conversations, and runs on them."""

import pytest

from tests.worker.engines.minimind.minimind_runs import SPEC, make_config, resolved, write_data
from tests.worker.engines.runs import Runs
from worker.children import Forkserver


@pytest.fixture(scope="session")
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_data(root)
    return root


@pytest.fixture(scope="session")
def forkserver_once():
    started = []

    def get(_device="cpu"):
        if not started:
            started.append(Forkserver(["worker.engines.minimind.preload"], threads=1, environment={}))
            started[0].start()
        return started[0]

    yield get
    for server in started:
        server.close()


@pytest.fixture
def runs(tmp_path, data_root, forkserver_once):
    return Runs(tmp_path, data_root, forkserver_once, **SPEC)


@pytest.fixture(scope="session")
def session_runs(tmp_path_factory, data_root, forkserver_once):
    """Runs that several tests look at."""
    return Runs(tmp_path_factory.mktemp("runs"), data_root, forkserver_once, **SPEC)


@pytest.fixture(scope="session")
def straight(session_runs):
    """One uninterrupted pretraining of 11 micro-batches, three a window, with checkpoints after 4, 8 and 11."""
    return session_runs.train(resolved(make_config()))
