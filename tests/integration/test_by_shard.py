"""On a sharded database, verify and rebuild go through it by shard: each statement is about users of a single one."""

import re
from collections.abc import AsyncIterator, Sequence
from itertools import chain

import asyncpg
import pytest

from bench.load import Author, load
from cli.parallel import Choice, go_through
from cli.worker import Result
from db.dsn import connect_arguments
from db.pool import Pool
from events.integrity import work_units
from events.integrity.rebuild import rebuild
from events.integrity.verify import verify
from events.integrity.work_units import WorkUnit
from tests.conftest import on_plain_postgres

pytestmark = on_plain_postgres
SHARDS = 3
USERS = [f"user-{number:02}" for number in range(20)]
STUB = f"""
CREATE FUNCTION get_shard_id_for_distribution_column(regclass, text) RETURNS bigint
LANGUAGE sql AS 'SELECT 102008 + abs(hashtext($2)) % {SHARDS}'
"""
"""Citus's function, as far as it matters here."""


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(**connect_arguments(database))
    for user in USERS:
        await load(connection, Author(user), 30)
    yield connection
    await connection.close()


async def shards(connection: asyncpg.Connection) -> dict[str, int]:
    await connection.execute(STUB)
    return await work_units.shards(connection, [*USERS, "orphan"])


async def divided(connection: asyncpg.Connection, choice: Choice) -> list[WorkUnit]:
    return [unit async for unit in choice.work_units(connection)]


@pytest.mark.parametrize("taken", [1, 1000, 1_000_000])
async def test_a_unit_is_of_one_shard_and_everyone_is_in_one(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    monkeypatch.setattr(work_units, "_PAGE", 4)
    monkeypatch.setattr(work_units, "_TAKEN", taken)
    await connection.execute("UPDATE tasks SET user_id = 'orphan' WHERE user_id = 'user-07'")
    shard_of = await shards(connection)
    units = await divided(connection, Choice(sharded=True))
    assert all(len({shard_of[stream.user_id] for stream in unit.streams}) == 1 for unit in units)
    everyone = list(chain.from_iterable(unit.streams for unit in units))
    assert sorted(everyone) == sorted(chain.from_iterable(unit.streams for unit in await divided(connection, Choice())))
    assert all(stream.user_id > unit.after for unit in units for stream in unit.streams)
    assert [unit.after for unit in units] == sorted(unit.after for unit in units)
    if taken > 1000:
        assert len(units) == SHARDS


async def test_a_sample_is_divided_too(connection: asyncpg.Connection) -> None:
    shard_of = await shards(connection)
    units = await divided(connection, Choice(sample=10, sharded=True))
    assert len(units) == len({shard_of[stream.user_id] for unit in units for stream in unit.streams})
    assert sum(len(unit.streams) for unit in units) == 10


async def test_one_user_needs_no_shard(connection: asyncpg.Connection) -> None:
    [unit] = await divided(connection, Choice(user="user-03", sharded=True))
    assert [stream.user_id for stream in unit.streams] == ["user-03"]


async def test_without_citus_the_units_are_as_they_were(connection: asyncpg.Connection) -> None:
    assert await divided(connection, Choice(sharded=True)) == await divided(connection, Choice())


async def test_each_statement_is_about_users_of_one_shard(connection: asyncpg.Connection) -> None:
    shard_of = await shards(connection)
    units = await divided(connection, Choice(sharded=True))
    await connection.execute("UPDATE tasks SET title_key = 'x' WHERE user_id < 'user-05'")
    await connection.execute("DELETE FROM tasks WHERE user_id > 'user-15'")
    await connection.execute("UPDATE tasks SET id = gen_random_uuid() WHERE user_id = 'user-10'")
    statements = list[tuple[str, set[int]]]()

    def note(sent: asyncpg.connection.LoggedQuery) -> None:
        users = [each for each in sent.args or () if isinstance(each, str)]
        for several in sent.args or ():
            users += several if isinstance(several, Sequence) else ()
        statements.append((sent.query, {shard_of[user] for user in users if user in shard_of}))

    with connection.query_logger(note):
        rebuilt = [await rebuild(connection, unit.streams) for unit in units]
        verified = [await verify(connection, unit.streams) for unit in units]
    assert sum(each.written for each in rebuilt) > 0
    assert sum(each.removed for each in rebuilt) > 0
    assert [each for result in verified for each in result.mismatches] == []
    kinds = ("LOCK", "UPDATE tasks", "DELETE FROM tasks", "FROM events", "FROM streams", "FROM tasks")
    assert all(any(kind.replace("LOCK", "FOR UPDATE") in query for query, _ in statements) for kind in kinds)
    ours = [(query, of) for query, of in statements if re.search(r"\b(streams|events|tasks)\b.*\$1", query, re.DOTALL)]
    assert [(query, of) for query, of in ours if len(of) != 1] == []


class Counted:
    """A report that counts what the command would print."""

    def __init__(self) -> None:
        self.users = self.mismatches = 0

    def begin(self, events: int | None) -> None:
        assert events

    def add(self, result: Result) -> None:
        self.users += result.users
        self.mismatches += len(result.mismatches)

    def stopping(self) -> None:
        raise AssertionError("nothing stops it")


async def test_commands_go_through_it_by_shard(connection: asyncpg.Connection, database: str) -> None:
    await shards(connection)
    await connection.execute("TRUNCATE tasks")
    for job in ("rebuild", "verify"):
        counted = Counted()
        await go_through(database, job, Choice(sharded=True), workers=2, report=counted)
        assert (counted.users, counted.mismatches) == (len(USERS), 0)


REFUSING = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', '{message}' USING ERRCODE = 'XX000';
END
$$;
CREATE TRIGGER refuse BEFORE INSERT ON tasks FOR EACH ROW WHEN (new.user_id = 'user-07') EXECUTE FUNCTION refuse();
"""
SHARDS_SAY = [
    'null value in column "title_key" of relation "tasks_102040" violates not-null constraint',
    'new row for relation "tasks_p03_102040" violates check constraint "tasks_version_check"',
    'duplicate key value violates unique constraint "tasks_pkey_102040"',
    "l'elemento di « tasks_102040 » non va",
]


@pytest.mark.parametrize("message", SHARDS_SAY)
async def test_a_violation_in_a_copy_to_a_shard_is_named_and_the_others_are_rebuilt(
    connection: asyncpg.Connection, message: str
) -> None:
    await connection.execute("TRUNCATE tasks")
    await connection.execute(REFUSING.format(message=message.replace("'", "''")))
    [unit] = await divided(connection, Choice())
    result = await rebuild(connection, unit.streams)
    [found] = result.mismatches
    assert (found.user_id, found.message.endswith(message)) == ("user-07", True)
    assert await connection.fetchval("SELECT count(DISTINCT user_id) FROM tasks") == len(USERS) - 1


@pytest.mark.parametrize("message", ["could not open relation", 'cache lookup failed for "tasks_p03"'])
async def test_any_other_internal_error_ends_the_rebuild(connection: asyncpg.Connection, message: str) -> None:
    await connection.execute("TRUNCATE tasks")
    await connection.execute(REFUSING.format(message=message))
    [unit] = await divided(connection, Choice())
    with pytest.raises(asyncpg.InternalServerError, match=message):
        await rebuild(connection, unit.streams)


async def test_users_without_a_stream_lose_their_rows_unless_they_have_one_by_now(pool: Pool) -> None:
    from events.integrity import rebuild as module

    async with pool.acquire() as connection:
        for user in ("ann", "bob"):
            await load(connection, Author(user), 10)
        await connection.execute("DELETE FROM streams WHERE user_id = 'bob'")
        rows = [tuple(row) for row in await connection.fetch("SELECT user_id, id FROM tasks")]
        of_bob = [row for row in rows if row[0] == "bob"]
        assert await module._remove(connection, rows, []) == len(of_bob) > 0
        assert await module._remove(connection, rows, ["ann"]) == len(rows) - len(of_bob) > 0
        assert await connection.fetchval("SELECT count(*) FROM tasks") == 0
