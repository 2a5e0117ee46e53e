"""A user's requests never have other users' requests refused."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import httpx2
import pytest

from tests.arrange import until_locked_out
from tests.conftest import execute
from tests.faults.test_network import started
from tests.service import TASKS, bearer

pytestmark = pytest.mark.once

FEW = {"DATABASE_POOL_SIZE": "4", "DATABASE_POOL_MAX_WAITING": "8"}
GREEDY = "/api/greedy/tasks"
WORDS = "+".join([*(f"w{number:02}" for number in range(11)), "zz"])
LONG = """
    INSERT INTO tasks (user_id, id, version, completed, created_at, updated_at, title_key, search_text, document)
    SELECT 'greedy', gen_random_uuid(), 1, false, now(), now(), 'long', text, text FROM generate_series(1, 500), (
        SELECT string_agg('w' || lpad(n::text, 2, '0') || repeat('x', 90), ' ') FROM generate_series(0, 50) AS n
    ) AS long (text)
"""
"""Rows that look like tasks will do: all of the words but the last, which is looked for last, are in each of them."""


async def test_one_users_searches_leave_room_for_others(database: str, folder: Path) -> None:
    await execute(database, LONG)
    async with started(folder, database, **FEW) as (_, client), as_greedy(client) as greedy:
        over, searches = asyncio.Event(), Counter[int]()

        async def search() -> None:
            while not over.is_set():
                searches[(await greedy.get(f"{GREEDY}?q={WORDS}&limit=1")).status_code] += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(30):
                group.create_task(search())
            while not searches:
                await asyncio.sleep(0.01)
            try:
                assert set(await asked(client, 20)) == {200, 201}
            finally:
                over.set()
        assert searches[200] > 0


async def test_writes_that_wait_for_their_users_lock_leave_connections_for_others(
    database: str, other: asyncpg.Connection, folder: Path
) -> None:
    """Restores and creations with a precondition hold their user's lock for a transaction."""
    async with started(folder, database, **FEW) as (_, client), as_greedy(client) as greedy:
        made = await greedy.post(GREEDY, json={"title": "x"})
        transaction = other.transaction()
        await transaction.start()
        await other.execute("SELECT FROM streams WHERE user_id = 'greedy' FOR UPDATE")
        seen = {"If-Match": '"1"'}
        waiting = [asyncio.create_task(greedy.post(GREEDY, json={"title": "y"}, headers=seen)) for _ in range(20)]
        await until_locked_out(other, 2)  # all that one user may have
        answers = await asked(client, 5)
        await transaction.rollback()
        assert set(answers) == {200, 201}
        assert Counter([(await task).status_code for task in waiting])[201] >= 1
        assert made.status_code == 201


@asynccontextmanager
async def as_greedy(client: httpx2.AsyncClient) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=client.base_url, headers=bearer("greedy"), timeout=60) as greedy:
        yield greedy


async def asked(client: httpx2.AsyncClient, times: int) -> Counter[int]:
    """Count the statuses that others get meanwhile: for a list, a write, a task, the log, and the probe."""
    found = Counter[int]()
    for _ in range(times):
        written = await client.post(TASKS, json={"title": "x"})
        paths = (TASKS, written.headers.get("location", TASKS), "/readyz", "/api/ann/audit")
        answers = await asyncio.gather(*(client.get(path) for path in paths))
        found.update(answer.status_code for answer in (written, *answers))
    return found
