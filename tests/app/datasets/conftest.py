"""An intake without a database."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from app.artifacts.store import BlobStore, open_store
from app.datasets import ingest
from app.datasets.ingest import Packed, pack_upload
from app.datasets.intake.__main__ import outcome_of
from app.engines.base import Engine
from app.engines.deepmd import ENGINE as DEEPMD
from app.engines.intake.report import Outcome
from app.errors import AppError, Invalid
from app.settings import Settings
from app.wire.problems import Problem
from tests.app.datasets.making import write_system


@pytest.fixture
def here(tmp_path: Path) -> Settings:
    """Settings in a temporary directory."""
    return Settings(data_dir=tmp_path / "data", intake_memory_bytes=2 << 30, intake_s=60)


@pytest.fixture
def store(here: Settings) -> BlobStore:
    """The store of those settings."""
    return open_store(here)


@pytest.fixture
def engine() -> Engine:
    """Whose data they are."""
    return DEEPMD


@pytest.fixture
def unconfined(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read data in the test's own process: to start one for it takes many times longer than what tests are made of.

    What that process is for, limits and refused pickles, has tests with it in `test_intake.py`.
    """
    read = lambda order, _: Outcome.model_validate_json(outcome_of(order).model_dump_json())  # noqa: E731
    monkeypatch.setattr(ingest, "_outcome", read)


@pytest.fixture
def pack(here: Settings, store: BlobStore, engine: Engine) -> Callable[..., Packed]:
    """Take in bytes as if they had been uploaded under a name."""

    def pack(data: bytes, name: str = "data.tar", type_map: list[str] | None = None) -> Packed:
        with store.receive() as incoming:
            incoming.write(data)
            incoming.finish()
            return pack_upload(here, store, engine, incoming.path, name, type_map)

    return pack


@pytest.fixture
def problems(pack: Callable[..., Packed], store: BlobStore) -> Callable[..., list[Problem]]:
    """Return what is wrong with an upload, and see that nothing of it is left behind."""

    def problems(data: bytes, name: str = "data.tar") -> list[Problem]:
        before = set(store.backend.root.rglob("*"))
        with pytest.raises(AppError) as caught:
            pack(data, name)
        assert list(store.scratch.iterdir()) == []
        assert set(store.backend.root.rglob("*")) == before
        return caught.value.problems if isinstance(caught.value, Invalid) else [caught.value.problem]

    return problems


@pytest.fixture
def water(tmp_path: Path) -> Path:
    """A directory with two systems, one of them of two sets."""
    root = tmp_path / "water"
    write_system(root / "cold", sets=2)
    write_system(root / "hot")
    yield root
    shutil.rmtree(root)
