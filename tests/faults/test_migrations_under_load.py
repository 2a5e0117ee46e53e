"""Migrations of a database that is in use, and that fails meanwhile."""

import asyncio
import os
from pathlib import Path

import asyncpg
import pytest

from config.errors import CannotRun
from db import migrate as migrating
from db import roles
from db.dsn import connect_arguments
from db.migrate import migrate
from db.reach import reaching
from db.roles import ADVISORY_LOCK_KEY
from db.schema import CURRENT
from tests.conftest import execute
from tests.network import Link
from tests.processes import DAYBOOK, run
from tests.revisions import add_revisions, next_release

pytestmark = pytest.mark.once


async def asking(dsn: str, statement: str, answers: list[str], done: asyncio.Event) -> None:
    """Run the statement again and again, as a request would: one that is held up for two seconds is given up."""
    connection = await asyncpg.connect(**connect_arguments(dsn))
    await connection.execute("SET lock_timeout = '2s'")
    while not done.is_set():
        try:
            await connection.execute(statement)
            answers.append("answered")
        except asyncpg.LockNotAvailableError:
            answers.append("held up")
        await asyncio.sleep(0.01)
    await connection.close()


async def test_a_migration_that_waits_for_a_lock_holds_up_nobody(database: str, folder: Path) -> None:
    revisions = next_release(folder, "ALTER TABLE tasks ADD COLUMN note text")
    reads: list[str] = []
    writes: list[str] = []
    done = asyncio.Event()
    exporting = await asyncpg.connect(**connect_arguments(database))
    transaction = exporting.transaction()
    await transaction.start()
    await exporting.execute("SELECT FROM tasks LIMIT 0")  # as pg_dump does; the lock is held until the end
    others = asyncio.gather(
        asking(database, "SELECT count(*) FROM tasks WHERE user_id = 'ann'", reads, done),
        asking(database, "UPDATE tasks SET document = document WHERE user_id = 'ann'", writes, done),
    )
    process = await asyncio.create_subprocess_exec(
        *(*DAYBOOK, "migrate"),
        cwd=folder,
        env={**os.environ, "DATABASE_URL": database},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout
    assert process.stderr
    said = []
    async for line in process.stderr:
        said.append(line.decode())
        if sum("retry" in each for each in said) == 2:
            break
    refused = len(reads), len(writes)
    await transaction.rollback()
    await exporting.close()
    output, errors = await process.communicate()
    done.set()
    await others
    assert (reads.count("held up"), writes.count("held up")) == (0, 0)
    assert min(refused) > 10
    assert (output.decode(), process.returncode) == (f"Applied {revisions[0]}.\n", 0), "".join(said) + errors.decode()


async def until_sleeping(connection: asyncpg.Connection) -> int:
    """Wait for the migration that sleeps. Return the process that the server runs it in."""
    asleep = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
    while not (pid := await connection.fetchval(asleep)):
        await asyncio.sleep(0.01)
    return int(pid)


SLEEP = "SELECT pg_sleep(60) WHERE to_regclass('awake') IS NULL"


async def test_a_migration_whose_connection_is_killed_says_so_and_goes_on_when_run_again(
    database: str, folder: Path
) -> None:
    first, second = next_release(
        folder, "ALTER TABLE tasks ADD COLUMN note text", ("ALTER TABLE events ADD COLUMN note text", SLEEP)
    )
    killer = await asyncpg.connect(**connect_arguments(database))
    process = asyncio.create_task(asyncio.to_thread(run, folder, "migrate", DATABASE_URL=database))
    await killer.execute("SELECT pg_terminate_backend($1)", await until_sleeping(killer))
    result = await process
    assert (result.stdout, result.returncode) == ("", 2)
    assert result.stderr.startswith("daybook: ")
    assert result.stderr.count("\n") == 1
    assert "run the same command again" in result.stderr
    assert await killer.fetchval("SELECT version_num FROM alembic_version") == first
    await killer.execute("CREATE TABLE awake ()")
    again = await asyncio.to_thread(run, folder, "migrate", DATABASE_URL=database)
    assert (again.stdout, again.stderr, again.returncode) == (f"Applied {second}.\n", "", 0)
    await killer.close()


async def sentence(dsn: str) -> str:
    """Return the sentence that migrating this database stops with."""

    def work() -> None:
        with reaching():
            migrate(dsn)

    with pytest.raises(CannotRun) as stopped:
        await asyncio.to_thread(work)
    told = str(stopped.value)
    assert "\n" not in told
    return told


async def test_a_cancelled_migration_says_so_and_leaves_nothing(
    database: str, other: asyncpg.Connection, migrations: Path
) -> None:
    add_revisions(migrations, ("ALTER TABLE events ADD COLUMN note text", SLEEP))
    migration = asyncio.create_task(sentence(database))
    await other.execute("SELECT pg_cancel_backend($1)", await until_sleeping(other))
    assert "cancel" in await migration
    assert await other.fetchval("SELECT version_num FROM alembic_version") == CURRENT
    assert not await other.fetchval("SELECT count(*) FROM pg_attribute WHERE attname = 'note'")


async def test_a_read_only_database_is_told_of(database: str, empty_database: str, migrations: Path) -> None:
    add_revisions(migrations, "ALTER TABLE tasks ADD COLUMN note text")
    for dsn in (database, empty_database):
        await execute(
            dsn, f"ALTER DATABASE {connect_arguments(dsn)['database']} SET default_transaction_read_only = on"
        )
        assert "takes no writes" in await sentence(dsn)


async def test_a_table_that_stays_in_use_is_given_up_with_a_sentence(
    database: str, other: asyncpg.Connection, migrations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrating, "_TRYING_SECONDS", 0.1)
    add_revisions(migrations, "ALTER TABLE tasks ADD COLUMN note text")
    async with other.transaction():
        await other.execute("SELECT FROM tasks LIMIT 0")
        assert "found a table in use" in await sentence(database)
    assert await asyncio.to_thread(migrate, database) == [f"{int(CURRENT) + 1:04}"]


async def test_a_migration_that_waits_for_another_one_says_so(
    database: str, other: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roles, "LOCK_TIMEOUT_SECONDS", 0.1)
    async with other.transaction():
        await other.execute("SELECT pg_advisory_xact_lock($1)", ADVISORY_LOCK_KEY)
        assert "Another Daybook" in await sentence(database)


async def test_a_statement_of_a_migration_never_takes_long(
    database: str, migrations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrating, "_STATEMENT_SECONDS", 0.1)
    add_revisions(migrations, SLEEP)
    assert "statement timeout" in await sentence(database)


async def test_a_migration_that_is_not_heard_of_any_more_lets_go_of_its_locks(
    database: str, other: asyncpg.Connection, migrations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrating, "_STATEMENT_SECONDS", 0.5)
    monkeypatch.setattr(migrating, "_SILENCE_SECONDS", 3)
    add_revisions(migrations, ("ALTER TABLE tasks ADD COLUMN note text", "SELECT pg_sleep(0.2)"))
    link = Link(database)
    async with link.open() as far:
        migration = asyncio.create_task(sentence(far))
        await until_sleeping(other)
        link.stall()
        assert await other.fetch("SELECT FROM tasks LIMIT 0") == []
        assert not migration.done()
        assert "no answer" in await migration
    assert await asyncio.to_thread(migrate, database) == [f"{int(CURRENT) + 1:04}"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("53100", "disk is full"),
        ("53200", "ran out of"),
        ("57P01", "is shutting down"),
        ("57P03", "starting"),
        ("08006", "was lost"),
        ("42501", "may not change the schema"),
        ("42P07", "Migration"),
    ],
)
async def test_an_error_of_the_server_is_told_in_a_sentence(
    database: str, migrations: Path, code: str, words: str
) -> None:
    raising = f"DO $$ BEGIN RAISE EXCEPTION 'of the server' USING ERRCODE = '{code}'; END $$"
    add_revisions(migrations, raising)
    told = await sentence(database)
    assert words in told
    assert "of the server" in told
