"""Indexes are built while the tables are in use, and an unfinished one is built again."""

import asyncio

import asyncpg
import pytest
from structlog.testing import capture_logs

from cli import serve
from db import indexes
from db.dsn import connect_arguments
from db.indexes import NotBuilt, NotIndexed, build_indexes, check_indexes
from db.migrate import migrate
from db.pool import Pool
from db.schema import check_schema
from tests.arrange import create
from tests.conftest import PARTITIONS, needs_citus, on_plain_postgres

NAMES = ("tasks_due_date_idx", "tasks_priority_idx")
BUILT = """
SELECT c.relname FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
WHERE c.relname ~ '^tasks_.*(due_date|priority)_idx$' AND i.indisvalid AND i.indisready
"""
EVERY = sorted([*NAMES, *(f"tasks_p{n:02}_{name[6:]}" for name in NAMES for n in range(PARTITIONS))])


async def built(connection: asyncpg.Connection) -> list[str]:
    return sorted(row[0] for row in await connection.fetch(BUILT))


async def build(dsn: str) -> None:
    await build_indexes(dsn, lock_seconds=0.5)


async def drop(connection: asyncpg.Connection) -> None:
    for name in NAMES:  # Citus drops them one by one
        await connection.execute(f"DROP INDEX {name}")
    assert await built(connection) == []


@pytest.fixture
async def without(other: asyncpg.Connection) -> asyncpg.Connection:
    """Return a session on a database that was migrated and has no such index yet."""
    await drop(other)
    return other


async def test_missing_indexes_are_built_on_a_table_with_rows(
    database: str, without: asyncpg.Connection, pool: Pool
) -> None:
    await create(pool)
    await build(database)
    assert await built(without) == EVERY
    await build(database)
    assert await built(without) == EVERY


@on_plain_postgres
async def test_an_unfinished_index_is_built_again(database: str, without: asyncpg.Connection) -> None:
    await without.execute("CREATE INDEX tasks_p01_due_date_idx ON tasks_p01 (user_id)")
    await without.execute(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'tasks_p01_due_date_idx'::regclass"
    )
    await build(database)
    assert await built(without) == EVERY


async def test_an_index_that_another_process_builds_is_left_to_it(database: str, without: asyncpg.Connection) -> None:
    async with without.transaction():
        await without.execute("SELECT pg_advisory_xact_lock($1)", indexes._LOCK_KEY)
        await build(database)
        assert await built(without) == []
    await build(database)
    assert await built(without) == EVERY


@on_plain_postgres
async def test_writers_go_on_while_an_index_waits_for_an_old_transaction(
    database: str, without: asyncpg.Connection, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with without.transaction(isolation="repeatable_read"):
        await without.fetch("SELECT FROM tasks")
        building = asyncio.create_task(build(database))
        while not await pool.fetchval("SELECT to_regclass('tasks_p00_due_date_idx')"):
            await asyncio.sleep(0.01)
        await create(pool)
        assert not building.done()
    await building
    assert await built(without) == EVERY

    await drop(without)
    monkeypatch.setattr(indexes, "_BUILD_SECONDS", 0.1)
    async with without.transaction(isolation="repeatable_read"):
        await without.fetch("SELECT FROM tasks")
        with pytest.raises(NotBuilt, match="run `daybook migrate` again"):
            await asyncio.to_thread(migrate, database)
    monkeypatch.undo()
    with pytest.raises(NotIndexed, match=" and ".join(NAMES)):
        await check_indexes(database)
    await asyncio.to_thread(migrate, database)
    assert await built(without) == EVERY
    await check_indexes(database)


@on_plain_postgres
async def test_a_service_starts_without_an_index_that_waits_for_an_old_transaction(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexes, "_BUILD_SECONDS", 0.1)
    backup = await asyncpg.connect(**connect_arguments(empty_database))
    async with backup.transaction(isolation="repeatable_read"):
        await backup.fetch("SELECT FROM pg_class")
        with capture_logs() as logged:
            await asyncio.to_thread(serve._migrate, empty_database, sharded=False)
    await check_schema(empty_database)
    assert await built(backup) == []
    await backup.close()
    assert [each["event"] for each in logged] == [" ".join((NotBuilt.__doc__ or "").split())]


@on_plain_postgres
async def test_an_index_that_takes_longer_than_the_login_may_is_left_unfinished(
    database: str, without: asyncpg.Connection
) -> None:
    whose = await without.fetchval("SELECT format('%I IN DATABASE %I', current_user, current_database())")
    await without.execute(f"ALTER ROLE {whose} SET statement_timeout = '0.5s'")
    async with without.transaction(isolation="repeatable_read"):
        await without.fetch("SELECT FROM tasks")
        with pytest.raises(NotBuilt):
            await build(database)
    await without.execute(f"ALTER ROLE {whose} RESET statement_timeout")
    await build(database)
    assert await built(without) == EVERY


@needs_citus
async def test_each_shard_gets_its_index(database: str, without: asyncpg.Connection) -> None:
    await build(database)
    found = await without.fetch(
        "SELECT result FROM run_command_on_shards('tasks', $$SELECT count(*) FROM pg_index "
        "WHERE indrelid = '%s'::regclass AND indisvalid$$)"
    )
    assert {row[0] for row in found} == {"4"}


async def test_an_index_that_another_process_has_built_meanwhile_is_left_alone(database: str) -> None:
    arguments = connect_arguments(database)
    connection = await asyncpg.connect(**arguments)
    try:
        await indexes._build_all(arguments, connection, list(indexes._INDEXES), 1)
        assert await indexes._missing(connection, list(indexes.NAMES)) == []
    finally:
        await connection.close()
