"""The projection is emptied and rebuilt repeatedly while the service takes writes; none fails or is lost."""

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from bench.load import Author, load
from bench.writers import Writer, empty
from cli.parallel import Choice
from db.dsn import connect_arguments
from db.pool import Connection, Pool
from events.integrity import reads, work_units
from events.integrity.rebuild import Rebuilt, rebuild
from events.integrity.verify import verify
from events.store import log
from events.store.append import PendingAppend, append_one
from events.task import Task, evolve
from tests.arrange import create, erase_all, until_locked_out
from tests.pooler import PGBOUNCER, pooled
from tests.service import COLUMNS, SHARDED, WRONG_TITLE, Service

ROUNDS = 20


async def rebuild_all(connection: Connection) -> list[Rebuilt]:
    return [await rebuild(connection, unit.streams) async for unit in Choice(sharded=SHARDED).work_units(connection)]


async def mismatches(connection: Connection) -> list[object]:
    return [
        difference
        async for unit in Choice(sharded=SHARDED).work_units(connection)
        for difference in (await verify(connection, unit.streams)).mismatches
    ]


async def test_no_write_fails_and_none_is_lost_while_it_is_emptied_and_rebuilt(service: Service, database: str) -> None:
    writers = [Writer(service.as_user(f"user-{number}"), f"user-{number}", number) for number in range(8)]
    connection = await asyncpg.connect(**connect_arguments(database))
    over = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for writer in writers:
            group.create_task(writer.write(over))
        number = 0
        while number < ROUNDS or any(writer.events <= ROUNDS for writer in writers):  # a deadlock takes one a second
            await empty(connection, number)
            await asyncio.sleep(0.02)
            for result in await rebuild_all(connection):
                assert result.mismatches == []
            number += 1
        over.set()
    await rebuild_all(connection)
    for writer in writers:
        await writer.check(connection)
        await writer.client.aclose()
    assert await mismatches(connection) == []
    await connection.close()


async def test_a_rebuild_that_is_killed_leaves_nothing_wrong_behind(service: Service, database: str) -> None:
    writers = [Writer(service.as_user(f"user-{number}"), f"user-{number}", number) for number in range(4)]
    connection = await asyncpg.connect(**connect_arguments(database))
    for number in range(30):
        await load(connection, Author(f"bystander-{number}"), 100)
    chance, over = random.Random(1), asyncio.Event()  # noqa: S311 - draws lots
    async with asyncio.TaskGroup() as group:
        for writer in writers:
            group.create_task(writer.write(over))
        for number in range(6):
            await empty(connection, number)
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "cli", "rebuild"),
                env={**os.environ, "DATABASE_URL": database},
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            await asyncio.sleep(chance.uniform(0.3, 1.5))
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)
            await process.wait()
        over.set()
    await rebuild_all(connection)
    for writer in writers:
        await writer.check(connection)
        await writer.client.aclose()
    assert await mismatches(connection) == []
    await _no_one_is_left(connection)
    await connection.close()


async def _no_one_is_left(connection: asyncpg.Connection) -> None:
    """Wait until the workers of killed processes have ended."""
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%= ANY($1)%'"
    while await connection.fetchval(f"{others} AND pid <> pg_backend_pid()"):
        await asyncio.sleep(0.05)


async def test_a_write_of_the_batch_waits_for_it_and_another_does_not(pool: Pool) -> None:
    async with pool.acquire() as connection:
        for user in ("ann", "bob"):
            await load(connection, Author(user), 10)
        await connection.execute("TRUNCATE tasks")
        async with connection.transaction():
            await log.lock_stream(connection, "ann")
            waiting = asyncio.create_task(_rebuild(pool, "ann"))
            assert (await _rebuild(pool, "bob")).written > 0
            assert not waiting.done()
        assert (await waiting).written > 0


async def _rebuild(pool: Pool, user: str) -> Rebuilt:
    async with pool.acquire() as connection:
        [unit] = [unit async for unit in work_units.one(connection, user)]
        return await rebuild(connection, unit.streams)


async def test_events_appended_while_the_log_is_read_are_folded_too(pool: Pool) -> None:
    """The rebuild reads the log, waits for the lock, and then reads what came in between."""
    events = list(Author("ann").events(30))
    async with pool.acquire() as connection, pool.acquire() as other:
        tasks: dict[object, Task] = {}
        await load(connection, Author("ann"), 20)
        for row in await connection.fetch(f"SELECT {COLUMNS} FROM tasks"):
            tasks[row["id"]] = Task(**row)
        await connection.execute("TRUNCATE tasks")
        transaction = other.transaction()
        await transaction.start()
        await log.lock_stream(other, "ann")
        waiting = asyncio.create_task(_rebuild(pool, "ann"))
        await until_locked_out(pool)
        for event in events[20:]:
            task = evolve(tasks.pop(event.task_id, None), event)
            await append_one(other, PendingAppend(event, task, on_row=False))
            if task is not None:
                tasks[task.id] = task
        await transaction.commit()
        result = await waiting
        assert (result.events, result.mismatches) == (30, [])
        assert {row["id"]: Task(**row) for row in await connection.fetch(f"SELECT {COLUMNS} FROM tasks")} == tasks
        assert await mismatches(connection) == []


class Meanwhile:
    """A connection that does something else once it has read a stream's head."""

    def __init__(self, connection: Connection, work: Callable[[], Awaitable[object]]) -> None:
        self._connection, self._work = connection, work

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def fetchrow(self, query: str, *arguments: Any) -> asyncpg.Record | None:
        row = await self._connection.fetchrow(query, *arguments)
        if query == log.HEAD:
            await self._work()
        return row


async def test_content_that_is_erased_while_the_log_is_read_is_no_damage(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long log is read in several statements, so content may go after the log's end was looked up."""
    for module in (reads, work_units):
        monkeypatch.setattr(module, "BATCH", 7)
    monkeypatch.setattr(reads, "MAX_EVENTS", 9)
    kept = await create(pool, "bob")
    for _ in range(20):
        await create(pool)
    async with pool.acquire() as connection:
        [unit] = [unit async for unit in work_units.one(connection, "ann")]
        between: Any = Meanwhile(connection, lambda: erase_all(pool, "ann"))
        result = await rebuild(between, unit.streams)
        assert (result.mismatches, result.written) == ([], 0)
        assert [row["id"] for row in await connection.fetch("SELECT id FROM tasks")] == [kept.id]
        assert await mismatches(connection) == []


@pytest.mark.skipif(PGBOUNCER is None, reason="PgBouncer isn't installed")
async def test_all_of_it_runs_through_pgbouncer_in_transaction_mode(database: str, pool: Pool, folder: Path) -> None:
    async with pool.acquire() as connection:
        for number in range(20):
            await load(connection, Author(f"user-{number}"), 50)
        tasks = await connection.fetchval("SELECT count(*) FROM tasks")
        await connection.execute("DELETE FROM tasks WHERE user_id < 'user-2'")
        await connection.execute(f"UPDATE tasks SET {WRONG_TITLE} WHERE user_id = 'user-3'")
        await connection.execute("UPDATE tasks SET id = md5(id::text)::uuid WHERE user_id = 'user-4'")
    with pooled(database, folder) as dsn:
        results = [await _daybook(dsn, command) for command in ("verify", "rebuild", "verify")]
    assert [status for status, _ in results] == [1, 0, 0]
    _, last = results[-1]
    assert (last["clean"], last["users"], last["events"], last["tasks"]) == (True, 20, 1000, tasks)


async def _daybook(dsn: str, command: str) -> tuple[int | None, dict[str, Any]]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", command, "--json", "--workers", "3"),
        env={**os.environ, "DATABASE_URL": dsn},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    return process.returncode, json.loads(output)
