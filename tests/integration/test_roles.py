"""The service's own login: made by the migration, and able to append, erase on record, and no more."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest
from structlog.testing import capture_logs
from uuid_utils.compat import uuid7

from commands.commands import CreateTask
from commands.handler import handle as carry_out
from db import roles
from db.dsn import connect_arguments
from db.pool import Pool, open_pool
from db.roles import CannotGrant, NotOurTurn, grant_service_role
from events.task import Metadata
from tests.arrange import store_of
from tests.conftest import FROM_TEMPLATE, execute, new_database
from tests.processes import run
from tests.schema import APPLIED
from tests.service import SHARDED

ACCESSES = (
    "INSERT INTO accesses VALUES ('ann', gen_random_uuid(), now(), 'eve', 'eve', '/', 'r')",
    "UPDATE accesses SET auditor = 'nobody'",
    "DELETE FROM accesses",
    "TRUNCATE accesses",
)
"""Changes of the record of auditors' reads, past the function that adds to it."""
PASSWORD = 'o\'dd $$ "pass\\word" %'


def as_login(dsn: str, name: str, password: str = PASSWORD) -> str:
    url = urlsplit(dsn)
    where = url.netloc.rpartition("@")[2]
    return urlunsplit(url._replace(netloc=f"{quote(name, safe='')}:{quote(password, safe='')}@{where}"))


@pytest.fixture
async def name(server: str) -> AsyncIterator[str]:
    name = f'Daybook "service" {uuid4().hex}'
    yield name
    quoted = name.replace('"', '""')
    await execute(server, f'DROP ROLE IF EXISTS "{quoted}"')


async def test_the_login_is_made_once_and_has_the_rights_of_the_service(database: str, pool: Pool, name: str) -> None:
    service = as_login(database, name)
    assert await grant_service_role(database, service) is True
    assert await grant_service_role(database, service) is False
    async with open_pool(service, sharded=SHARDED) as own:
        create = CreateTask(user_id="ann", task_id=uuid7(), fields={"title": "x"})
        assert (await carry_out(store_of(own), create, actor="ann", metadata=Metadata())).task
        assert await own.fetchval("SELECT session_user") == name
        for forbidden in (
            "DELETE FROM events",
            "INSERT INTO events SELECT * FROM events",
            "UPDATE streams SET seq = 0",
            "INSERT INTO streams SELECT * FROM streams",
            "INSERT INTO tasks SELECT * FROM tasks",
            "UPDATE tasks SET document = '{}'",
            "DELETE FROM tasks",
            "TRUNCATE tasks",
            "DROP TABLE tasks",
            "CREATE TABLE mine ()",
            *ACCESSES,
        ):
            async with own.acquire() as connection:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(forbidden)
    kept = await pool.fetchval("SELECT rolpassword FROM pg_authid WHERE rolname = $1", name)
    assert kept.startswith("SCRAM-SHA-256$")


async def test_nobody_else_may_add_to_the_record_of_accesses(database: str, pool: Pool, name: str) -> None:
    await grant_service_role(database, as_login(database, name))
    may = "SELECT has_function_privilege($1, oid, 'EXECUTE') FROM pg_proc WHERE proname = 'daybook_record_access'"
    assert await pool.fetchval(may, "daybook_app") is True
    assert await pool.fetchval(may, "pg_monitor") is False


async def test_an_existing_login_keeps_its_password(database: str, pool: Pool, name: str) -> None:
    await grant_service_role(database, as_login(database, name))
    kept = "SELECT rolpassword FROM pg_authid WHERE rolname = $1"
    before = await pool.fetchval(kept, name)
    assert await grant_service_role(database, as_login(database, name, "another")) is False
    assert await pool.fetchval(kept, name) == before


async def test_servers_that_start_at_once_make_it_once(database: str, name: str) -> None:
    made = await asyncio.gather(*(grant_service_role(database, as_login(database, name)) for _ in range(4)))
    assert sorted(made) == [False, False, False, True]


async def test_the_login_is_made_in_several_databases_of_one_server_at_once(server: str, name: str) -> None:
    """Roles belong to the server, so a turn in one database doesn't hold in the others."""
    async with AsyncExitStack() as stack:
        databases = [await stack.enter_async_context(new_database(server, FROM_TEMPLATE)) for _ in range(6)]
        made = await asyncio.gather(*(grant_service_role(database, as_login(database, name)) for database in databases))
        assert sorted(made) == [*[False] * 5, True]


async def test_no_password_is_logged_when_a_grant_is_tried_again(
    database: str, other: asyncpg.Connection, pool: Pool, name: str
) -> None:
    """It is tried again if a run for another database has just made the role."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'CREATE ROLE%'"
    with capture_logs() as logs:
        async with other.transaction():
            quoted = name.replace('"', '""')
            await other.execute(f'CREATE ROLE "{quoted}" LOGIN')
            granting = asyncio.create_task(grant_service_role(database, as_login(database, name)))
            while not await pool.fetchval(waiting):
                await asyncio.sleep(0.01)
        assert await granting is False
    [again] = logs
    assert again["event"] == "stamina.retry_scheduled"
    assert "password" not in repr(again)


async def test_no_login_is_made_if_both_are_the_same(database: str) -> None:
    assert await grant_service_role(database, database) is False


async def test_an_owner_without_the_right_is_told_what_to_have_done(database: str, name: str) -> None:
    service = as_login(database, name)
    await grant_service_role(database, service)
    with pytest.raises(CannotGrant, match=r"db/roles.sql"):
        await grant_service_role(service, as_login(database, "somebody else"))


async def test_a_password_that_would_have_to_be_prepared_is_refused(database: str, name: str) -> None:
    with pytest.raises(CannotGrant, match="ASCII"):
        await grant_service_role(database, as_login(database, name, "pässword"))


async def test_a_database_that_takes_no_writes_is_no_lack_of_rights(database: str, name: str) -> None:
    database_name = connect_arguments(database)["database"]
    await execute(database, f"ALTER DATABASE {database_name} SET default_transaction_read_only = on")
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await grant_service_role(database, as_login(database, name))


async def test_waiting_for_another_migration_is_no_lack_of_rights(
    database: str, other: asyncpg.Connection, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roles, "LOCK_TIMEOUT_SECONDS", 0.1)
    async with other.transaction():
        await other.execute("SELECT pg_advisory_xact_lock($1)", roles.ADVISORY_LOCK_KEY)
        with pytest.raises(NotOurTurn):
            await grant_service_role(database, as_login(database, name))


def test_migrate_makes_it(empty_database: str, folder: Path, name: str) -> None:
    said = run(
        folder, "migrate", DATABASE_URL=as_login(empty_database, name), DATABASE_URL_DIRECT=empty_database
    ).stdout
    assert [line for line in said.splitlines() if not line.startswith("The tables are distributed")] == [
        APPLIED,
        "Made the role that DATABASE_URL names: it may append to the log, and erase content on record.",
    ]
    assert connect_arguments(empty_database)["user"] != name
