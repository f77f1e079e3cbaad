"""`cairn doctor`: each check finds what is wrong and names the remedy."""

import json
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from app import doctor
from app.settings import Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a server that was never started, on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return Settings(data_dir=tmp_path, port=port, redis_url=None, database_url=None)


@pytest.mark.deepmd
def test_a_machine_that_has_everything_is_fit(tmp_path: Path, settings: Settings) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app.cli.main", "doctor", "--json", "--data-dir", str(tmp_path / "new")],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "CAIRN_PORT": str(settings.port)},
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(done.stdout)
    found = {check["name"]: check for check in report["checks"]}
    assert {
        "python",
        "deepmd.pt",
        "transformers",
        "cuda",
        "gpu",
        "redis",
        "database",
        "disk",
        "tokens",
        "dashboard",
        "port",
    } <= set(found)
    assert found["deepmd.pt"]["status"] == "ok"
    assert metadata.version("deepmd-kit") in found["deepmd.pt"]["found"]
    assert metadata.version("transformers") in found["transformers"]["found"]
    failed = [check for check in report["checks"] if check["status"] == "fail"]
    assert (done.returncode, report["ok"]) == ((1, False) if failed else (0, True))
    assert all(check["remedy"] for check in failed)
    assert {check["name"] for check in failed} <= {"dashboard", "disk"}, failed
    assert not (tmp_path / "new").exists(), "a doctor only looks"


def test_an_import_that_breaks_is_reported_with_its_reason() -> None:
    broken = replace(doctor.INSTALLS[1], imports="raise ImportError('libtorch.so: undefined symbol')")
    check, seen = doctor.probe(broken)
    assert (check.status, seen) == ("fail", None)
    assert "undefined symbol" in check.found
    assert "cairn[minimind]" in str(check.remedy)


def test_missing_and_wrong_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.check_extra("server").status == "ok"
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "alembic" else real(name))
    missing = doctor.check_extra("server")
    assert (missing.status, missing.found) == ("fail", "missing: alembic")
    monkeypatch.setattr(doctor, "_version", lambda name: "2.9.1" if name == "torch" else real(name))
    wrong = doctor.check_extra("deepmd")
    assert (wrong.status, wrong.found) == ("fail", "torch 2.9.1 (needs ==2.11.0)")
    monkeypatch.setattr(doctor, "_version", lambda _: None)
    assert {doctor.check_extra(extra).status for extra in doctor.TELLING} == {"none"}, (
        "what nobody wanted is not missing"
    )


def test_a_server_never_started_needs_nothing_yet(settings: Settings) -> None:
    assert doctor.check_database(settings).status == "ok"
    assert doctor.check_secrets(settings).status == "ok"
    assert doctor.check_redis(settings).status == "ok"
    assert doctor.check_port(settings).status == "ok"
    assert not (settings.data_dir / "cairn.db").exists()


def test_secrets_that_others_can_read_are_found(settings: Settings) -> None:
    for name, mode in (("user.token", 0o600), ("worker.token", 0o644)):
        (settings.data_dir / name).write_text("secret")
        (settings.data_dir / name).chmod(mode)
    check = doctor.check_secrets(settings)
    assert check.status == "fail"
    assert "worker.token" in check.found
    assert "user.token" not in check.found
    assert str(check.remedy).startswith("chmod 600")


def test_the_schema_is_compared_with_this_version(settings: Settings, sqlite_template: Path) -> None:
    database = settings.data_dir / "cairn.db"
    shutil.copy(sqlite_template, database)
    assert doctor.check_database(settings).status == "ok"
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'older'")
    connection.close()
    check = doctor.check_database(settings)
    assert (check.status, check.remedy) == ("warn", "cairn migrate")


def test_a_database_that_does_not_answer_is_named_without_its_password(settings: Settings) -> None:
    away = settings.model_copy(update={"database_url": "postgresql://cairn:geheim@127.0.0.1:1/cairn"})
    check = doctor.check_database(away)
    assert check.status == "fail"
    assert "127.0.0.1:1" in check.found
    assert "geheim" not in check.found + str(check.remedy)


def test_a_configured_broker_must_answer_and_must_not_evict(settings: Settings, redis_server: str) -> None:
    import redis

    here = settings.model_copy(update={"redis_url": redis_server})
    with redis.Redis.from_url(redis_server) as client:
        client.config_set("maxmemory-policy", "noeviction")
        assert doctor.check_redis(here).status == "ok"
        client.config_set("maxmemory-policy", "allkeys-lru")
        assert doctor.check_redis(here).status == "warn"
        client.config_set("maxmemory-policy", "noeviction")
    away = settings.model_copy(update={"redis_url": "redis://user:geheim@127.0.0.1:1/0"})
    check = doctor.check_redis(away)
    assert check.status == "fail"
    assert "geheim" not in check.found


def test_a_port_that_somebody_else_has_is_found(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", settings.port)) as other:
        threading.Thread(target=lambda: other.accept()[0].close(), daemon=True).start()
        check = doctor.check_port(settings)
    assert check.status == "fail"
    assert "not Cairn" in check.found


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAIRN_PORT", "many")
    (check,) = doctor.check_server_side()
    assert check.status == "fail"
    assert "CAIRN_PORT" in check.found


def test_the_report_is_readable(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "report", lambda: iter([doctor.Check("redis", "fail", "no [redis]", "get one")]))
    assert doctor.doctor() == 1
    printed = capsys.readouterr().out
    assert "no [redis]" in printed, "brackets are no markup"
    assert "→ get one" in printed
