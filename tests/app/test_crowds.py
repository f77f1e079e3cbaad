"""Many requests at the same moment: all are answered, and nobody waits for what only those behind him could give back."""

import asyncio
import time
from collections import Counter

import httpx
import pytest

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def all_at_once(client, count: int, method: str, path: str) -> tuple[Counter[int], float]:
    """Return how many answers of each status came, and after how many seconds the last one."""

    async def crowd() -> list[int]:
        transport = httpx.ASGITransport(client.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver", headers=client.headers) as many:
            return [
                answer.status_code
                for answer in await asyncio.gather(*(many.request(method, path) for _ in range(count)))
            ]

    began = time.monotonic()
    statuses = client.portal.call(crowd)
    return Counter(statuses), time.monotonic() - began


def test_more_readers_than_connections_and_threads_are_all_answered(client):
    statuses, seconds = all_at_once(client, 150, "GET", "/api/v1/workers")
    assert statuses == {200: 150}
    assert seconds < 20, "they waited for each other until a timeout of 30 s freed some"
