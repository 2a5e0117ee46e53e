"""The schema is complete, named and commented, and several processes can migrate it at once."""

import asyncio
import os
import re
import sys
from pathlib import Path

import asyncpg
import pytest
from typer.testing import CliRunner

from cli.main import app
from db import migrate as migrating
from db.dsn import connect_arguments
from db.migrate import OtherPartitions, TableInUse, migrate
from db.pool import Pool
from db.schema import CURRENT, DevelopmentSchema, NewerSchema, check_schema
from events.integrity import work_units
from events.integrity.rebuild import rebuild
from events.integrity.verify import verify
from tests import schema
from tests.arrange import build_no_indexes
from tests.conftest import PARTITIONS, execute, on_plain_postgres
from tests.revisions import add_revisions
from tests.schema import REVISIONS
from tests.service import serving


async def test_servers_that_start_at_once_migrate_once(empty_database: str) -> None:
    migrating = (sys.executable, "-m", "cli", "migrate")
    environment = {**os.environ, "DATABASE_URL": empty_database}
    servers = [
        await asyncio.create_subprocess_exec(*migrating, env=environment, stdout=asyncio.subprocess.PIPE)
        for _ in range(4)
    ]
    said = [(await server.communicate())[0].decode().partition("\n")[0] for server in servers]
    assert sorted(re.findall(r"\d{4}", " ".join(said))) == REVISIONS  # each by one of them
    assert all(re.fullmatch(r"Applied [\d, ]+\.|The schema is up to date\.", each) for each in said)
    assert [server.returncode for server in servers] == [0] * 4


async def test_migrating_again_does_nothing(database: str) -> None:
    assert await asyncio.to_thread(migrate, database) == []


@pytest.mark.parametrize("revision", REVISIONS)
async def test_a_database_of_before_the_first_release_is_refused(empty_database: str, revision: str) -> None:
    await execute(
        empty_database,
        "CREATE TABLE journals (user_id text)",
        "CREATE TABLE alembic_version (version_num text PRIMARY KEY)",
        f"INSERT INTO alembic_version VALUES ('{revision}')",
    )
    with pytest.raises(DevelopmentSchema, match=r"before 0\.1\.0"):
        await check_schema(empty_database)
    with pytest.raises(DevelopmentSchema, match=r"before 0\.1\.0"):
        await asyncio.to_thread(migrate, empty_database)


async def test_a_newer_schema_is_refused(database: str) -> None:
    await execute(database, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(NewerSchema, match="9999"):
        await asyncio.to_thread(migrate, database)


async def test_a_newer_schema_beside_ours_is_refused_too(database: str) -> None:
    await execute(database, "INSERT INTO alembic_version VALUES ('9999')")
    with pytest.raises(NewerSchema, match="9999"):
        await check_schema(database)


async def test_a_migration_that_cannot_get_its_lock_leaves_nothing(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrating, "_TRYING_SECONDS", 0.1)
    connection = await asyncpg.connect(**connect_arguments(empty_database))
    async with connection.transaction():
        await connection.execute("CREATE TABLE streams (x int)")  # uncommitted: the name is taken, and waited for
        with pytest.raises(TableInUse, match="lock timeout"):
            await asyncio.to_thread(migrate, empty_database)
    assert await connection.fetchval("SELECT to_regclass('events')") is None
    await connection.close()


async def test_the_head_is_what_a_migrated_database_says(pool: Pool) -> None:
    assert await pool.fetchval("SELECT version_num FROM alembic_version") == CURRENT


@on_plain_postgres
def test_the_schema_for_readers_is_what_the_migrations_make(database: str) -> None:
    assert schema.SNAPSHOT.read_text() == schema.text(database), "make schema"


async def test_every_constraint_and_index_says_what_it_defends(pool: Pool) -> None:
    undescribed = await pool.fetch("""
        SELECT conname FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid
        WHERE t.relname IN ('streams', 'events', 'tasks', 'accesses') AND c.contype <> 'n'
          AND obj_description(c.oid, 'pg_constraint') IS NULL
        UNION ALL
        SELECT i.relname FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
        WHERE t.relname IN ('streams', 'events', 'tasks', 'accesses') AND obj_description(i.oid, 'pg_class') IS NULL
          AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.oid)
    """)
    assert undescribed == []


async def test_partitions_have_the_names_that_errors_are_told_apart_by(pool: Pool) -> None:
    names = {row[0] for row in await pool.fetch("SELECT indexrelid::regclass::text FROM pg_index")}
    for number in range(PARTITIONS):
        assert {
            f"events_p{number:02}_pkey",
            f"events_p{number:02}_task_version_key",
            f"events_p{number:02}_idempotency_key",
            f"tasks_p{number:02}_pkey",
            f"tasks_p{number:02}_created_at_idx",
        } <= names
    attached = await pool.fetchval(
        "SELECT count(*) FROM pg_inherits WHERE inhparent = 'events_idempotency_key'::regclass"
    )
    assert attached == PARTITIONS


TABLES = """
SELECT c.oid::regclass::text AS name, c.relfilenode AS file, s.seq_scan AS scans
FROM pg_class c JOIN pg_stat_user_tables s ON s.relid = c.oid WHERE c.relname <> 'alembic_version'
"""


async def disturbed(dsn: str) -> set[str]:
    """Migrate. Return the tables that were there before and that it rewrote or read through, rows or no rows.

    Any user of such a table is kept waiting for as long as its size takes. The building of indexes reads tables, too,
    but keeps nobody waiting, and is left out.
    """
    connection = await asyncpg.connect(**connect_arguments(dsn))
    await build_no_indexes(connection)
    before = {row["name"]: row for row in await connection.fetch(TABLES)}
    await asyncio.to_thread(migrate, dsn)
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    while await connection.fetchval(others):  # what a session did is counted when it ends
        await asyncio.sleep(0.01)
    after = {row["name"]: row for row in await connection.fetch(TABLES)}
    await connection.close()
    return {name for name, row in before.items() if after.get(name) != row}


@on_plain_postgres
async def test_no_migration_rewrites_a_table_or_reads_it_through(empty_database: str, migrations: Path) -> None:
    versions = sorted((migrations / "versions").glob("*.py"))
    later = [(path, path.read_text()) for path in versions]
    for path in versions:
        path.unlink()
    for path, text in later:
        path.write_text(text)
        assert await disturbed(empty_database) == set(), path.name


@on_plain_postgres
@pytest.mark.parametrize(
    ("statement", "disturbs"),
    [
        ("ALTER TABLE tasks ADD COLUMN x text GENERATED ALWAYS AS (lower(document)) STORED", True),
        ("ALTER TABLE streams ALTER COLUMN seq TYPE numeric", True),
        ("ALTER TABLE tasks ADD CONSTRAINT c CHECK (version < 1000)", True),
        ("CREATE INDEX ON tasks (updated_at)", True),
        ("UPDATE tasks SET version = version + 1", True),
        ("ALTER TABLE tasks ADD COLUMN x text", False),
        ("ALTER TABLE tasks ADD COLUMN x integer NOT NULL DEFAULT 1", False),
        ("ALTER TABLE tasks_p00 ADD CONSTRAINT c CHECK (version < 1000) NOT VALID", False),
    ],
)
async def test_what_is_found_to_disturb(database: str, migrations: Path, statement: str, *, disturbs: bool) -> None:
    add_revisions(migrations, statement)
    assert bool(await disturbed(database)) is disturbs


@on_plain_postgres
async def test_a_database_may_have_another_number_of_partitions(empty_database: str) -> None:
    assert await asyncio.to_thread(migrate, empty_database, partitions=3) == REVISIONS
    async with serving(empty_database) as service:
        for number in range(20):
            client = service.as_user(f"user-{number}")
            made = await client.post(f"/api/user-{number}/tasks", json={"title": "x"})
            changed = await client.patch(f"/api/user-{number}/tasks/{made.json()['id']}/complete")
            assert (await client.get(f"/api/user-{number}/tasks")).json() == [changed.json()]
            await client.aclose()
    connection = await asyncpg.connect(**connect_arguments(empty_database))
    counts = await connection.fetch("SELECT tableoid::regclass::text, count(*) FROM tasks GROUP BY 1 ORDER BY 1")
    assert [row[0] for row in counts] == ["tasks_p00", "tasks_p01", "tasks_p02"]
    await connection.execute("TRUNCATE tasks")
    async for unit in work_units.everyone(connection):
        rebuilt, verified = await rebuild(connection, unit.streams), await verify(connection, unit.streams)
        assert (rebuilt.written, rebuilt.mismatches, verified.mismatches) == (20, [], [])
    await connection.close()


@on_plain_postgres
async def test_the_number_of_partitions_is_refused_if_there_are_others(database: str) -> None:
    with pytest.raises(OtherPartitions):
        await asyncio.to_thread(migrate, database, partitions=16)
    assert await asyncio.to_thread(migrate, database, partitions=PARTITIONS) == []


@pytest.mark.parametrize("number", ["0", "101", "many"])
def test_a_number_of_partitions_is_from_1_to_100(number: str) -> None:
    result = CliRunner().invoke(app, ["migrate", "--partitions", number])
    assert result.exit_code == 2
    assert "--partitions" in result.output
