"""An intake of text without a database."""

import json
from typing import Any

import pytest

from app.engines.base import Engine
from app.engines.minimind import ENGINE as MINIMIND
from tests.app.datasets.conftest import here, pack, problems, store, unconfined

__all__ = ["engine", "here", "pack", "problems", "store", "unconfined"]


@pytest.fixture
def engine() -> Engine:
    """Whose data they are."""
    return MINIMIND


def lines(*values: Any) -> bytes:
    """Return JSON lines; texts are lines as they are."""
    texts = (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values)
    return "".join(f"{text}\n" for text in texts).encode()


def talk(*messages: str, first: str = "user") -> dict[str, Any]:
    """Return a conversation in which two take turns."""
    roles = ("user", "assistant") if first == "user" else ("assistant", "user")
    return {"conversations": [{"role": roles[i % 2], "content": text} for i, text in enumerate(messages)]}
