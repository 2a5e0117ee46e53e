"""`daybook migrate` with DATABASE_SHARDED=true, on a Citus cluster and on a Postgres that is none."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from commands.commands import DeleteTask, EraseTask
from db import distribute
from db import migrate as migrating
from db.distribute import TABLES, NotCitus, NotDistributed, Unguarded, check_distribution
from db.dsn import connect_arguments
from db.migrate import TableInUse, migrate
from db.pool import Pool, open_pool
from events.store.append import IdempotencyKeyTaken, VersionTaken
from events.store.content import erase_content_of_task
from tests import schema
from tests.arrange import build_no_indexes, create, store_of
from tests.arrange import run as run_command
from tests.conftest import PARTITIONS, execute, needs_citus, on_plain_postgres
from tests.integration.test_group_commit import creation
from tests.processes import run
from tests.schema import REVISIONS
from tests.service import sql

COUNTS = "SELECT (SELECT count(*) FROM streams), (SELECT count(*) FROM events), (SELECT count(*) FROM tasks)"


@on_plain_postgres
def test_a_database_without_citus_is_refused_and_left_alone(empty_database: str, folder: Path) -> None:
    refused = run(folder, "migrate", DATABASE_URL=empty_database, DATABASE_SHARDED="true")
    assert refused.returncode == 2
    assert "no Citus coordinator" in refused.stderr
    assert "Traceback" not in refused.stderr
    unchanged = run(folder, "migrate", "--check", DATABASE_URL=empty_database)
    assert (unchanged.returncode, "run `daybook migrate` first" in unchanged.stderr) == (2, True)


@on_plain_postgres
async def test_a_database_without_citus_is_not_taken_for_distributed(database: str) -> None:
    with pytest.raises(NotCitus, match="no Citus coordinator"):
        await check_distribution(database)
    with pytest.raises(NotCitus):
        await asyncio.to_thread(migrate, database, sharded=True)


@pytest.mark.usefixtures("unsharded")
def test_the_check_says_that_nothing_is_to_be_done(database: str, folder: Path) -> None:
    said = run(folder, "migrate", "--check", DATABASE_URL=database)
    assert said.returncode == 0
    assert said.stdout.startswith("The schema is up to date.\n")


def test_partitions_are_not_for_a_cluster(database: str, folder: Path) -> None:
    for options in ({"DATABASE_SHARDED": "true"}, {}):
        check = () if options else ("--check",)
        refused = run(folder, "migrate", "--partitions", "4", *check, DATABASE_URL=database, **options)
        assert refused.returncode == 2
        assert "--partitions goes neither with" in refused.stderr


async def test_the_sharded_pool_plans_by_values_and_sees_shards(database: str) -> None:
    for sharded, plans in ((True, "auto"), (False, "force_generic_plan")):
        async with open_pool(database, sharded=sharded) as pool:
            assert await pool.fetchval("SHOW plan_cache_mode") == plans
            assert await pool.fetchval("SHOW jit") == "off"
            visibility = await pool.fetchval("SELECT current_setting('citus.override_table_visibility', true)")
            assert (visibility == "off") == sharded


async def _like_citus(database: str) -> None:
    """Distribute the tables as `distribute` does, with a function that does nothing in the place of Citus's."""
    connection = await asyncpg.connect(**connect_arguments(database))
    async with connection.transaction():
        await connection.execute(
            "CREATE FUNCTION create_distributed_table(text, text, colocate_with text) RETURNS void LANGUAGE sql AS ''"
        )
        for table in TABLES:
            await distribute._distribute(connection, table)
        await connection.execute("DROP FUNCTION create_distributed_table")
    await connection.close()


@on_plain_postgres
async def test_a_table_to_be_distributed_is_made_anew_without_partitions(
    database: str, empty_database: str, pool: Pool
) -> None:
    await create(pool)
    before = await pool.fetchrow(COUNTS)
    await execute(database, "CREATE ROLE reader", "GRANT SELECT ON tasks TO reader", "GRANT SELECT ON tasks TO PUBLIC")
    await _like_citus(database)
    assert await pool.fetchrow(COUNTS) == before
    assert await pool.fetchval("SELECT has_table_privilege('reader', 'tasks', 'SELECT')")
    await execute(database, "REVOKE ALL ON tasks FROM reader, PUBLIC", "DROP ROLE reader")
    await asyncio.to_thread(_flat, empty_database)
    await execute(empty_database, "ALTER TABLE events VALIDATE CONSTRAINT events_personal_check")
    assert schema.text(database) == schema.text(empty_database)


def _flat(dsn: str) -> None:
    migrate(dsn, partitions=0)


@on_plain_postgres
async def test_conflicts_are_told_apart_by_the_names_that_shards_have(pool: Pool) -> None:
    for number in range(PARTITIONS):
        for name in ("task_version_key", "idempotency_key"):
            await sql(pool, f"ALTER INDEX events_p{number:02}_{name} RENAME TO events_{name}_10{number}")
    first = creation("ann", key="k")
    store = store_of(pool)
    await store.append(first)
    with pytest.raises(VersionTaken):
        await store.append(creation("ann", task_id=first.event.task_id))
    with pytest.raises(IdempotencyKeyTaken):
        await store.append(creation("ann", key="k"))


@needs_citus
async def test_a_filled_database_is_distributed(empty_database: str) -> None:
    await asyncio.to_thread(migrate, empty_database, partitions=4)
    with pytest.raises(NotDistributed):
        await check_distribution(empty_database)
    async with open_pool(empty_database, sharded=False) as pool:
        for number in range(20):
            await create(pool, f"user-{number}")
        before = await pool.fetchrow(COUNTS)
    assert await asyncio.to_thread(migrate, empty_database, sharded=True) == []
    assert (await check_distribution(empty_database)).startswith("The tables are distributed: 4 shards of each, on ")
    async with open_pool(empty_database, sharded=True) as pool:
        assert await pool.fetchrow(COUNTS) == before
        left = "SELECT relname FROM pg_class WHERE relname ~ '^(streams|events|tasks)_(local|p0)'"
        assert await pool.fetch(left) == []
        await create(pool, "user-0")
        with pytest.raises(asyncpg.RestrictViolationError):
            await pool.fetch("UPDATE events SET actor = 'eve' WHERE user_id = 'user-0'")
        for table in TABLES:  # nothing of it has stayed on the coordinator
            assert await pool.fetchval(f"SELECT pg_relation_size('{table}')") == 0


@pytest.fixture
async def former(empty_database: str, migrations: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the DSN of a database that was distributed before auditors' reads were recorded, and before erasure."""
    later = {path: path.read_text() for path in (migrations / "versions").glob("*.py") if path.name > "0003"}
    for path in later:
        path.unlink()
    connection = await asyncpg.connect(**connect_arguments(empty_database))
    await build_no_indexes(connection)
    with monkeypatch.context() as patch:
        patch.setattr(distribute, "TABLES", ("streams", "events", "tasks"))
        patch.setattr(distribute, "APPEND_ONLY", {"events": 1})
        patch.setattr(distribute, "FUNCTIONS", ("daybook_append", "daybook_lock_stream"))
        assert await asyncio.to_thread(migrate, empty_database, sharded=True) == ["0001", "0002"]
    await connection.close()
    for path, text in later.items():
        path.write_text(text)
    return empty_database


TRIGGERS = """
SELECT DISTINCT result FROM run_command_on_shards('{table}', $$
    SELECT string_agg(format('%%s %%s %%s', regexp_replace(tgname, '_[0-9]+$', ''), tgtype, tgenabled), ', ')
    FROM pg_trigger WHERE tgrelid = '%s'::regclass
$$)
"""


@needs_citus
async def test_a_distributed_database_of_a_former_release_is_upgraded(former: str, database: str) -> None:
    assert await asyncio.to_thread(migrate, former, sharded=True) == REVISIONS[2:]
    assert (await check_distribution(former)).startswith("The tables are distributed: ")
    async with open_pool(former, sharded=True) as pool, open_pool(database, sharded=True) as new:
        for table in ("events", "accesses"):
            triggers = TRIGGERS.format(table=table)
            assert await pool.fetch(triggers) == await new.fetch(triggers)
        task = await create(pool)
        await run_command(pool, DeleteTask(user_id="ann", task_id=task.id))
        await run_command(pool, EraseTask(user_id="ann", task_id=task.id))
        assert await erase_content_of_task(pool, "ann", task.id) == 2


@needs_citus
async def test_a_shard_with_another_trigger_is_found_and_gets_its_tables(database: str) -> None:
    connection = await asyncpg.connect(**connect_arguments(database))
    triggers = TRIGGERS.format(table="accesses")
    [before] = await connection.fetch(triggers)
    shard = await connection.fetchval("SELECT min(shardid) FROM citus_shards WHERE table_name = 'accesses'::regclass")
    name = f"append_only_{shard}"
    changed = (
        f"DROP TRIGGER {name} ON accesses_{shard}; CREATE TRIGGER {name} BEFORE DELETE ON accesses_{shard} "
        f"EXECUTE FUNCTION daybook_refuse(); ALTER TABLE accesses_{shard} ENABLE ALWAYS TRIGGER {name}"
    )
    only_there = f"IF '%s' ~ '_{shard}$' THEN {changed}; END IF"
    await connection.execute("SELECT run_command_on_shards('accesses', $1)", f"DO $$ BEGIN {only_there}; END $$")
    with pytest.raises(NotDistributed):
        await check_distribution(database)
    await asyncio.to_thread(migrate, database, sharded=True)
    await check_distribution(database)
    assert await connection.fetch(triggers) == [before]
    await connection.close()


@needs_citus
async def test_a_shard_in_use_keeps_its_triggers(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrating, "_TRYING_SECONDS", 0.1)
    connection = await asyncpg.connect(**connect_arguments(database))
    dropped = "EXECUTE format('DROP TRIGGER %%I ON %1$s', 'append_only' || substring('%1$s' FROM '_[0-9]+$'))"
    await connection.execute("SELECT run_command_on_shards('accesses', $1)", f"DO $$ BEGIN {dropped}; END $$")
    async with connection.transaction():
        await connection.execute("DELETE FROM accesses")  # of which there are none
        with pytest.raises(TableInUse, match="accesses_"):
            await asyncio.to_thread(migrate, database, sharded=True)
    await asyncio.to_thread(migrate, database, sharded=True)
    await check_distribution(database)
    await connection.close()


@needs_citus
async def test_migrating_again_does_nothing_there(database: str) -> None:
    settings = "SELECT oid, xmin, proconfig FROM pg_proc WHERE proname LIKE 'daybook%' ORDER BY oid"
    connection = await asyncpg.connect(**connect_arguments(database))
    before = await connection.fetch(settings)
    assert await asyncio.to_thread(migrate, database, sharded=True) == []
    assert await connection.fetch(settings) == before
    await connection.close()


@needs_citus
async def test_a_function_of_an_upgrade_gets_its_setting_again(database: str) -> None:
    connection = await asyncpg.connect(**connect_arguments(database))
    await connection.execute("ALTER FUNCTION daybook_append RESET plan_cache_mode")
    with pytest.raises(NotDistributed):
        await check_distribution(database)
    await asyncio.to_thread(migrate, database, sharded=True)
    await check_distribution(database)
    await connection.close()


@needs_citus
async def test_a_shard_whose_trigger_is_off_is_named(database: str) -> None:
    connection = await asyncpg.connect(**connect_arguments(database))
    shard = await connection.fetchval("SELECT min(shardid) FROM citus_shards WHERE table_name = 'events'::regclass")
    await connection.execute("SELECT run_command_on_shards('events', $$ALTER TABLE %s DISABLE TRIGGER USER$$)")
    with pytest.raises(Unguarded, match=f"events_{shard}"):
        await check_distribution(database)
    await connection.close()
