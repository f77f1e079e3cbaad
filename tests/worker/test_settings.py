"""A worker's settings: what people set, and what they read when it is wrong."""

from pathlib import Path

import pytest

from worker.settings import WorkerSettings


def test_the_token_comes_from_the_data_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAIRN_DATA_DIR", str(tmp_path))
    (tmp_path / "worker.token").write_text("abc\n")
    assert WorkerSettings().token == "abc"
    monkeypatch.setenv("CAIRN_WORKER_TOKEN", "from the environment")
    assert WorkerSettings().token == "from the environment"
    assert "from the environment" not in repr(WorkerSettings())


def test_a_missing_token_says_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CAIRN_WORKER_TOKEN", raising=False)
    with pytest.raises(ValueError, match=rf"{tmp_path}/worker\.token.*CAIRN_WORKER_TOKEN_FILE"):
        _ = WorkerSettings(data_dir=tmp_path).token
    (tmp_path / "worker.token").write_text("\n")
    with pytest.raises(ValueError, match="is empty"):
        _ = WorkerSettings(data_dir=tmp_path).token


@pytest.mark.parametrize(
    ("given", "celery"),
    [
        (None, "redis+socket:///data/run/redis.sock"),
        ("unix:///run/redis.sock", "redis+socket:///run/redis.sock"),
        ("redis://host:6379/1", "redis://host:6379/1"),
        ("rediss://host:6380", "rediss://host:6380"),
    ],
)
def test_the_broker_is_spelled_as_celery_spells_it(given: str | None, celery: str) -> None:
    assert WorkerSettings(data_dir=Path("/data"), redis_url=given).broker_url == celery


def test_engines_are_a_list_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAIRN_ENGINES", "deepmd, minimind")
    assert WorkerSettings().engines == ["deepmd", "minimind"]
    monkeypatch.setenv("CAIRN_ENGINES", "")
    assert WorkerSettings().engines is None


def test_trainers_share_the_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CAIRN_THREADS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(12)))
    assert WorkerSettings().threads_for(1) is None
    assert WorkerSettings().threads_for(4) == 3
    assert WorkerSettings().threads_for(100) == 1
    assert WorkerSettings(threads=2).threads_for(4) == 2
