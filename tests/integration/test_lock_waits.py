"""Requests that wait for the lock of a user's stream."""

import asyncio

import asyncpg
from uuid_utils.compat import uuid7

from commands.commands import CreateTask
from commands.handler import handle
from db.dsn import connect_arguments
from db.pool import open_pool
from events.store.event_store import EventStore
from events.task import Metadata
from tests.conftest import on_plain_postgres
from tests.service import SHARDED

_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


@on_plain_postgres  # a worker's locks are seen there only
async def test_one_of_a_user_holds_a_connection(database: str) -> None:
    other, observer = [await asyncpg.connect(**connect_arguments(database)) for _ in range(2)]
    async with open_pool(database, size=10, timeout=60, sharded=SHARDED) as pool:
        store = EventStore(pool)
        command = CreateTask(user_id="ann", task_id=uuid7(), fields={"title": "x"})
        await handle(store, command, actor="ann", metadata=Metadata())
        seen: list[int] = []

        async def lock() -> None:
            async with store.locked("ann") as stream:
                seen.append((await stream.head("ann")).seq)

        async with other.transaction():
            await other.execute("SELECT FROM streams WHERE user_id = 'ann' FOR UPDATE")
            waiting = [asyncio.create_task(lock()) for _ in range(6)]
            while not await observer.fetchval(_WAITING):
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.5)  # for further ones
            assert await observer.fetchval(_WAITING) == 1
            assert seen == []
            waiting.pop().cancel()
        await asyncio.gather(*waiting)
        assert seen == [1] * 5
    await other.close()
    await observer.close()
