"""The database refuses to change the log, to its owner as to the service's role."""

from pathlib import Path

import asyncpg
import pytest
from uuid_utils.compat import uuid7

from commands.commands import CreateTask, DeleteTask, ToggleTask
from commands.handler import handle
from db.pool import Pool, open_pool
from events.task import Metadata
from tests.arrange import create, run, store_of
from tests.conftest import on_plain_postgres
from tests.service import SHARDED, sql

ROLES = Path("db/roles.sql").read_text()
CHANGES = ["UPDATE {} SET actor = 'mallory'", "DELETE FROM {}", "TRUNCATE {}", "TRUNCATE {} CASCADE"]
TABLES = [
    *("events", "accesses"),
    *(pytest.param(table, marks=on_plain_postgres) for table in ("events_p00", "events_p03")),
]
RECORD = "SELECT daybook_record_access($1, $2, now(), 'eve', 'eve', '/api/u0/audit', 'r')"


@pytest.fixture
async def written(pool: Pool) -> Pool:
    for n in range(40):  # enough users for every partition to be likely used
        await create(pool, f"u{n}")
        await sql(pool, RECORD, f"u{n}", uuid7())
    return pool


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("change", CHANGES)
async def test_the_owner_cannot_change_the_log(written: Pool, change: str, table: str) -> None:
    with pytest.raises(asyncpg.RestrictViolationError, match="the log is append-only"):
        await sql(written, change.format(table))
    for log in ("events", "accesses"):
        assert await written.fetchval(f"SELECT count(*) FROM {log} WHERE actor <> 'mallory'") == 40


@pytest.mark.parametrize("table", ["events", "accesses"])
@pytest.mark.parametrize("change", ["DELETE FROM {}", "UPDATE {} SET actor = 'mallory'", "TRUNCATE {}"])
async def test_not_even_as_a_replica(written: Pool, change: str, table: str) -> None:
    async with written.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        with pytest.raises(asyncpg.RestrictViolationError):
            await connection.execute(change.format(table))


async def test_an_upsert_cannot_change_the_log(written: Pool) -> None:
    with pytest.raises(asyncpg.RestrictViolationError):
        await sql(
            written,
            "INSERT INTO events SELECT * FROM events ON CONFLICT (user_id, seq) DO UPDATE SET actor = 'mallory'",
        )


async def test_a_record_of_an_access_that_is_sent_twice_stays_as_it_was_first(pool: Pool) -> None:
    id_ = uuid7()
    await sql(pool, RECORD, "ann", id_)
    await sql(pool, RECORD.replace("'eve'", "'mallory'"), "ann", id_)
    assert [tuple(row) for row in await pool.fetch("SELECT id, actor FROM accesses")] == [(id_, "eve")]


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("change", CHANGES)
async def test_the_services_role_cannot_change_the_log(written: Pool, change: str, table: str) -> None:
    await sql(written, ROLES)
    async with written.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL ROLE daybook_app")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(change.format(table))


async def test_the_services_role_can_do_all_that_the_service_does(database: str, pool: Pool) -> None:
    await sql(pool, ROLES)
    await sql(pool, ROLES)  # again, as after an upgrade
    async with open_pool(database, size=1, sharded=SHARDED) as restricted:
        await sql(restricted, "SET ROLE daybook_app")
        create = CreateTask(user_id="ann", task_id=uuid7(), fields={"title": "x"})
        task = (await handle(store_of(restricted), create, actor="ann", metadata=Metadata())).task
        assert task is not None
        for command in (ToggleTask, DeleteTask):
            await run(restricted, command(user_id="ann", task_id=task.id))
        assert await restricted.fetchval("SELECT count(*) FROM events") == 3
        await restricted.fetch(RECORD, "ann", uuid7())
        assert await restricted.fetchval("SELECT count(*) FROM accesses") == 1
        assert await restricted.fetchval("SELECT version_num FROM alembic_version") is not None


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE events",
        "ALTER TABLE events DISABLE TRIGGER ALL",
        "DELETE FROM streams",
        "DROP TABLE accesses",
        "ALTER TABLE accesses DISABLE TRIGGER ALL",
        "INSERT INTO accesses VALUES ('ann', gen_random_uuid(), now(), 'eve', 'eve', '/', 'r')",
        "DROP FUNCTION daybook_record_access",
        "CREATE FUNCTION daybook_record_access() RETURNS void LANGUAGE sql AS ''",
    ],
)
async def test_the_services_role_cannot_get_around_it(pool: Pool, statement: str) -> None:
    await sql(pool, ROLES)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL ROLE daybook_app")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
