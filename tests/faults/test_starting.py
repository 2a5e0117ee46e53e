"""Servers that start at once, and on a database that isn't theirs."""

import asyncio
import signal
from pathlib import Path

import httpx2
import pytest

from tests.faults.servers import service
from tests.service import bearer

pytestmark = pytest.mark.once


async def test_two_servers_that_start_at_once_on_an_empty_database_both_serve(
    empty_database: str, folder: Path
) -> None:
    with service(folder, empty_database) as one, service(folder, empty_database) as other:
        for serving in (one, other):
            await asyncio.to_thread(serving.wait_until_ready)
        async with httpx2.AsyncClient(headers=bearer()) as client:
            made = await client.post(f"{one.url}/api/ann/tasks", json={"title": "x"})
            assert (await client.get(f"{other.url}/api/ann/tasks")).json() == [made.json()]
        for serving in (one, other):
            assert await asyncio.to_thread(serving.stop, signal.SIGTERM) == 0
