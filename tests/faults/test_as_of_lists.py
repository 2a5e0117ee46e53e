"""Lists of the past of a user with many long tasks: bounded in memory, and ended with their clients."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import asyncpg
import httpx2
import pytest

from bench.memory import watched
from db.dsn import connect_arguments
from tests.faults.servers import service
from tests.long_logs import make_tasks
from tests.processes import Serving
from tests.service import bearer

pytestmark = pytest.mark.once

MANY, LONGEST = 2_000, 5_000
AT_ONCE = 60
ENOUGH = 60_000_000
"""Bytes that the process may grow by: two batches and what each connection takes, but not once all the texts, 40 MB of
UTF-8, for each request."""
QUERIES = ("limit=50", "q=nothing+has+this", "sort=title&limit=50", f"q={quote(chr(128512))}&limit=50")

READING = """
SELECT count(*) FILTER (WHERE state = 'active'), max(query_start) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%FROM events%'
"""


@asynccontextmanager
async def asking(serving: Serving, path: str, number: int) -> AsyncIterator[None]:
    """Send so many requests of ann, each on a connection of its own, and reset all at the end of the block."""
    writers = []
    for _ in range(number):
        _, writer = await asyncio.open_connection("127.0.0.1", serving.port)
        authorization = bearer("ann")["Authorization"]
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\n\r\n".encode())
        writers.append(writer)
    yield
    for writer in writers:
        writer.transport.abort()


async def write_and_read(client: httpx2.AsyncClient) -> None:
    for answer in (await client.post("/api/bob/tasks", json={"title": "x"}), await client.get("/api/bob/tasks")):
        assert answer.status_code in (200, 201), answer.text


async def test_past_lists_end_with_their_clients_and_take_little_memory(database: str, folder: Path) -> None:
    connection = await asyncpg.connect(**connect_arguments(database))
    await make_tasks(connection, "ann", MANY, length=LONGEST)
    with service(folder, database) as serving:
        await asyncio.to_thread(serving.wait_until_ready)
        async with httpx2.AsyncClient(base_url=serving.url, headers=bearer("bob"), timeout=60) as bob:
            await write_and_read(bob)
            with watched(serving.process.pid) as memory:
                for query in QUERIES:
                    async with asking(serving, f"/api/ann/tasks?as_of=2026-06-01T00:00:00Z&{query}", AT_ONCE):
                        while not (await connection.fetchrow(READING))[0]:
                            await asyncio.sleep(0.001)
                        await write_and_read(bob)
                    await write_and_read(bob)
                    await asyncio.sleep(0.5)
                    before = await connection.fetchrow(READING)
                    await asyncio.sleep(0.5)
                    assert before[0] == 0
                    assert await connection.fetchrow(READING) == before  # nobody has read anything since
            assert memory.growth < ENOUGH, memory
            async with httpx2.AsyncClient(base_url=serving.url, headers=bearer("ann"), timeout=60) as ann:
                answer = await ann.get("/api/ann/tasks?as_of=2026-06-01T00:00:00Z&limit=50")
                assert (answer.status_code, len(answer.json())) == (200, 50)
        assert not [line for line in serving.errors if "Traceback" in line]
    await connection.close()
