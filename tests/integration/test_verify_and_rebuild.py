"""Verify names all damage that SQL can do; rebuild mends the projection, and leaves the log as it is."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from typing import Any, TypeAlias
from uuid import NAMESPACE_OID, uuid4, uuid5

import asyncpg
import orjson
import pytest

import events.integrity.rebuild as rebuild_module
import events.integrity.verify as verify_module
from bench.load import Author, load
from db.dsn import connect_arguments
from db.pool import Connection, Pool
from events.integrity import reads, work_units
from events.integrity.rebuild import Rebuilt, rebuild
from events.integrity.spot_check import spot_check
from events.integrity.verify import Verified, verify
from events.integrity.work_units import StreamSize
from events.projection import TaskRow, project, task_document, task_of
from events.search_text import search_text
from events.serialization import DATA_VERSION
from events.task import Task
from tests import independent
from tests.conftest import FROM_TEMPLATE, let_the_log_change, new_database, on_plain_postgres
from tests.service import WRONG_TITLE, sql

EVENTS = 40


async def connected(dsn: str) -> asyncpg.Connection:
    return await asyncpg.connect(**connect_arguments(dsn))


@pytest.fixture(scope="module")
def shared(server: str) -> Iterator[str]:
    """Yield the DSN of a database for the whole module: each test damages its own user, unhindered."""

    async def unguarded(stack: AsyncExitStack) -> str:
        dsn = await stack.enter_async_context(new_database(server, FROM_TEMPLATE))
        await let_the_log_change(dsn)
        connection = await connected(dsn)
        for table, constraint in (("events", "seq"), ("events", "salt")):
            await connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {table}_{constraint}_check")
        await connection.close()
        return dsn

    stack = AsyncExitStack()
    with asyncio.Runner() as runner:
        yield runner.run(unguarded(stack))
        runner.run(stack.aclose())


@pytest.fixture
async def connection(shared: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await connected(shared)
    yield connection
    await connection.close()


@pytest.fixture(autouse=True, params=[work_units.BATCH, 7], ids=["at once", "piece by piece"])
def _batch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have logs read at once, or piece by piece, as those that are too long for that."""
    for module in (reads, verify_module, rebuild_module):
        monkeypatch.setattr(module, "BATCH", request.param)
    monkeypatch.setattr(reads, "MAX_EVENTS", request.param + 2)


@pytest.fixture
async def user(connection: asyncpg.Connection, request: pytest.FixtureRequest) -> str:
    """Make a user with tasks and a past, which is the same for all tests."""
    name = f"user-{uuid5(NAMESPACE_OID, request.node.nodeid)}"
    author = Author(name)
    author.chance.seed(5)
    await load(connection, author, EVENTS)
    return name


async def check(connection: Connection, user: str) -> Verified:
    """Verify one user, seeing to it that nothing changes."""
    before = await everything(connection, user)
    result = await verify(connection, [StreamSize(user, EVENTS)])
    assert await everything(connection, user) == before
    return result


async def everything(connection: Connection, user: str) -> list[list[tuple[Any, ...]]]:
    return [
        sorted(
            (tuple(row) for row in await connection.fetch(f"SELECT * FROM {table} WHERE user_id = $1", user)), key=repr
        )
        for table in ("streams", "events", "tasks")
    ]


async def test_a_sound_log_has_no_mismatch(connection: asyncpg.Connection, user: str) -> None:
    assert await check(connection, user) == Verified(1, EVENTS, len(await reads.tasks(connection, [user])), [])
    assert (await rebuild(connection, [StreamSize(user, EVENTS)])).written == 0


# Damage to the projection: SQL with the user as $1 and, where it says $2, one of their tasks; then what is told of it.
Told: TypeAlias = tuple[str, object, object]
PROJECTION: Mapping[str, tuple[str, Callable[[Task], Told]]] = {
    "wrong title": (f"UPDATE tasks SET {WRONG_TITLE}", lambda task: ("title", "Wrong", task.title)),
    "wrong description": (
        """UPDATE tasks SET document = jsonb_set(document::jsonb, '{description}', '""')::text""",
        lambda task: ("description", "", task.description),
    ),
    "wrong in the document alone": (
        "UPDATE tasks SET document = replace(document, '\"version\":', '\"version\":7')",
        lambda task: ("version", int(f"7{task.version}"), task.version),
    ),
    "no document": (
        "UPDATE tasks SET document = '{'",
        lambda task: ("document", "{", task_document(task).decode()[:200] + "…" * (len(task_document(task)) > 200)),
    ),
    **{
        f"a document that is {value}": (
            f"UPDATE tasks SET document = '{value}'",
            lambda task, value=value: (  # type: ignore[misc] # mypy can't tell a lambda's default
                "document",
                value,
                task_document(task).decode()[:200] + "…" * (len(task_document(task)) > 200),
            ),
        )
        for value in ("[]", "null", "5", '"x"')
    },
    "a document without a field": (
        "UPDATE tasks SET document = replace(document, '\"completed\"', '\"done\"')",
        lambda task: (
            "document",
            task_document(task).decode().replace('"completed"', '"done"')[:200] + "…",
            task_document(task).decode()[:200] + "…",
        ),
    ),
    "wrong title_key": ("UPDATE tasks SET title_key = 'x'", lambda task: ("title_key", "x", search_text(task.title))),
    "wrong completed": (
        "UPDATE tasks SET completed = NOT completed",
        lambda task: ("completed", not task.completed, task.completed),
    ),
    "wrong version": ("UPDATE tasks SET version = version + 1", lambda t: ("version", t.version + 1, t.version)),
    "wrong created_at": (
        "UPDATE tasks SET created_at = '2001-02-03T04:05:06Z'",
        lambda task: ("created_at", "2001-02-03T04:05:06.000000Z", rfc(task.created_at)),
    ),
    "wrong updated_at": (
        "UPDATE tasks SET updated_at = '2101-02-03T04:05:06.000007Z'",
        lambda task: ("updated_at", "2101-02-03T04:05:06.000007Z", rfc(task.updated_at)),
    ),
    "missing": ("DELETE FROM tasks", lambda task: ("version", None, task.version)),
}


def rfc(moment: Any) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z"


@pytest.mark.parametrize("damage", PROJECTION)
async def test_a_row_that_is_not_as_the_log_says_is_named_and_mended(
    connection: asyncpg.Connection, user: str, damage: str
) -> None:
    sound = await everything(connection, user)
    task = task_of((await reads.tasks(connection, [user]))[0]["document"].encode())
    sql, told = PROJECTION[damage]
    await connection.execute(f"{sql} WHERE user_id = $1 AND id = $2", user, task.id)
    [found] = (await check(connection, user)).mismatches
    assert (found.table, found.user_id, found.task_id, found.seq) == ("tasks", user, task.id, None)
    assert (found.field, found.found, found.expected) == told(task)
    result = await rebuild(connection, [StreamSize(user, EVENTS)])
    assert result == Rebuilt(1, EVENTS, written=1, removed=0, right=len(sound[2]) - 1)
    assert await everything(connection, user) == sound


@pytest.mark.parametrize("known", [True, False])
async def test_a_row_without_a_task_is_named_and_removed(
    connection: asyncpg.Connection, user: str, known: bool
) -> None:
    """The row is either of a task that was deleted, or of one that the log never had."""
    sound = await everything(connection, user)
    deleted = "SELECT task_id FROM events WHERE user_id = $1 AND type = 'TaskDeleted' ORDER BY seq DESC LIMIT 1"
    task_id = await connection.fetchval(deleted, user) if known else uuid4()
    now = await connection.fetchval("SELECT now()")
    row = project(Task(user, task_id, "Extra", None, False, None, None, [], now, now, None, 7))
    await connection.copy_records_to_table("tasks", records=[row], columns=TaskRow._fields)
    [found] = (await check(connection, user)).mismatches
    assert (found.table, found.task_id, found.field, found.found, found.expected) == (
        "tasks",
        task_id,
        "version",
        7,
        None,
    )
    assert await rebuild(connection, [StreamSize(user, EVENTS)]) == Rebuilt(1, EVENTS, removed=1, right=len(sound[2]))
    assert await everything(connection, user) == sound


async def test_an_emptied_projection_comes_back(connection: asyncpg.Connection, user: str) -> None:
    sound = await everything(connection, user)
    await connection.execute("DELETE FROM tasks WHERE user_id = $1", user)
    assert len((await check(connection, user)).mismatches) == len(sound[2])
    unverified = reads.MAX_EVENTS > EVENTS  # a log that is read piece by piece is proved first
    assert await rebuild(connection, [StreamSize(user, EVENTS)]) == Rebuilt(
        1, EVENTS, written=len(sound[2]), unverified=unverified
    )
    assert await everything(connection, user) == sound


SWAP = """
UPDATE events SET seq = 1000 WHERE user_id = $1 AND seq = 20;
UPDATE events SET seq = 20 WHERE user_id = $1 AND seq = {other};
UPDATE events SET seq = {other} WHERE user_id = $1 AND seq = 1000
"""
INSERT = """
INSERT INTO events (user_id, seq, hash, id, task_id, version, type, at, actor, data, salt)
SELECT user_id, {seq}, {hash}, gen_random_uuid(), gen_random_uuid(), 1, 'TaskCreated', at, actor,
    '{{"v": 2, "changes": {{"title": {{"from": null, "to": "x"}}, "description": {{"from": null, "to": null}},
    "completed": {{"from": null, "to": false}}}}}}', salt
FROM events WHERE user_id = $1 AND seq = 20
"""
MAKE_ROOM = """
UPDATE events SET seq = -seq WHERE user_id = $1 AND seq > 20;
UPDATE events SET seq = 1 - seq WHERE user_id = $1 AND seq < 0
"""
UNFITTING = "its hash doesn't follow from its content and the hash before"
SECOND_TO_LAST = "(SELECT hash FROM events WHERE user_id = $1 AND seq = 39)"

# Damage to the log: SQL with the user as $1; then table, seq, field of each mismatch, and a piece of its message.
LOG: Mapping[str, tuple[str, list[tuple[str, int | None, str, str]]]] = {
    **{
        f"changed {column}": (
            f"UPDATE events SET {column} = {value} WHERE user_id = $1 AND seq = 20",
            [("events", 20, "hash", f"event 20 was changed: {UNFITTING}")],
        )
        for column, value in {
            "data": """jsonb_set(data, '{changes,x}', '{"from": 1, "to": 2}')""",
            "at": "timestamptz '2001-02-03 04:05:06Z'",
            "actor": "'mallory'",
            "request_id": "NULL",
            "client_address": "'203.0.113.1'",
            "salt": "sha256(salt)::bytea",
        }.items()
    },
    "changed hash": (
        "UPDATE events SET hash = sha256('x') WHERE user_id = $1 AND seq = 20",
        [("events", 20, "hash", "event 20"), ("events", 21, "hash", "event 21")],
    ),
    "removed": (
        "DELETE FROM events WHERE user_id = $1 AND seq = 20",
        [("events", 20, "seq", "event 20 is missing: event 21 comes next")],
    ),
    "removed first": (
        "DELETE FROM events WHERE user_id = $1 AND seq <= 3",
        [("events", 1, "seq", "events 1 to 3 are missing: event 4 comes next")],
    ),
    "removed tail": (
        "DELETE FROM events WHERE user_id = $1 AND seq > 37",
        [("events", 38, "seq", "events 38 to 40 are missing: the head is event 40")],
    ),
    "removed all": (
        "DELETE FROM events WHERE user_id = $1",
        [("events", 1, "seq", "events 1 to 40 are missing: the head is event 40")],
    ),
    "swapped": (
        SWAP.format(other=21),
        [
            ("events", 20, "hash", f"event 20 was changed: {UNFITTING}"),
            ("events", 21, "hash", f"event 21 was changed: {UNFITTING}"),
            ("events", 22, "hash", f"event 22 was changed: {UNFITTING}"),
        ],
    ),
    "swapped far apart": (
        SWAP.format(other=30),
        [
            ("events", 20, "hash", UNFITTING),
            ("events", 21, "hash", UNFITTING),
            ("events", 30, "hash", UNFITTING),
            ("events", 31, "hash", UNFITTING),
        ],
    ),
    "swapped with the first": (
        SWAP.format(other=1),
        [
            ("events", 1, "hash", UNFITTING),
            ("events", 2, "hash", UNFITTING),
            ("events", 20, "hash", UNFITTING),
            ("events", 21, "hash", UNFITTING),
        ],
    ),
    "inserted": (
        MAKE_ROOM + ";\n" + INSERT.format(seq=21, hash="sha256('x')"),
        [
            ("events", 21, "hash", UNFITTING),
            ("events", 22, "hash", UNFITTING),
            ("streams", None, "seq", "the stream is at event 40, and the log goes on to event 41"),
        ],
    ),
    "added": (
        INSERT.format(seq=41, hash="sha256('x')"),
        [
            ("events", 41, "hash", UNFITTING),
            ("streams", None, "seq", "the stream is at event 40, and the log goes on to event 41"),
        ],
    ),
    "numbered anew": (
        "UPDATE events SET seq = seq + 5 WHERE user_id = $1 AND seq = 40",
        [
            ("events", 40, "seq", "event 40 was changed: it is numbered 45"),
            ("streams", None, "seq", "the stream is at event 40, and the log goes on to event 45"),
        ],
    ),
    "stream set back": (
        f"UPDATE streams SET seq = 39, hash = {SECOND_TO_LAST} WHERE user_id = $1",
        [("streams", None, "seq", "the stream is at event 39, and the log goes on to event 40")],
    ),
    "stream with another hash": (
        f"UPDATE streams SET hash = {SECOND_TO_LAST} WHERE user_id = $1",
        [("streams", None, "hash", "the stream has another hash than its last event, 40")],
    ),
    "no stream": (
        "DELETE FROM streams WHERE user_id = $1",
        [("streams", None, "seq", "there is no stream, and events up to 40")],
    ),
}


async def spoil(connection: asyncpg.Connection, user: str, sql: str) -> None:
    async with connection.transaction():
        for statement in sql.split(";\n"):
            await connection.execute(statement, user)


@pytest.mark.parametrize("damage", LOG)
async def test_damage_to_the_log_is_named_and_no_row_changes_on_its_word(
    connection: asyncpg.Connection, user: str, damage: str
) -> None:
    sql, told = LOG[damage]
    await spoil(connection, user, sql)
    await connection.execute(f"UPDATE tasks SET {WRONG_TITLE} WHERE user_id = $1", user)
    found = [
        each for each in (await check(connection, user)).mismatches if each.table != "tasks" and each.field != "data"
    ]
    assert [(each.table, each.seq, each.field) for each in found] == [each[:3] for each in told]
    for each, (*_, piece) in zip(found, told, strict=True):
        assert piece in each.message
    before = await everything(connection, user)
    result = await rebuild(connection, [StreamSize(user, EVENTS)])
    assert (result.written, result.removed) == (0, 0)
    assert result.mismatches == found
    assert await everything(connection, user) == before


async def seal(connection: asyncpg.Connection, user: str) -> None:
    """Make all hashes anew, so that the chain holds whatever the log has: as a newer release might leave it."""
    rows = await connection.fetch("SELECT *, data::text AS data FROM events WHERE user_id = $1 ORDER BY seq", user)
    for row, hash_ in zip(rows, independent.chain(rows), strict=True):
        await connection.execute("UPDATE events SET hash = $3 WHERE user_id = $1 AND seq = $2", user, row["seq"], hash_)
        await connection.execute("UPDATE streams SET hash = $2 WHERE user_id = $1", user, hash_)


UNFIT = {
    "of another release": ("UPDATE events SET type = 'TaskRenamed'", f"TaskRenamed in form {DATA_VERSION} is not"),
    "of another form": (
        f"""UPDATE events SET data = '{{"v": {DATA_VERSION + 1}}}'""",
        f"in form {DATA_VERSION + 1} is not known to this release",
    ),
    "impossible": ("UPDATE events SET version = version + 100", "can't follow a task at version"),
    "without its data": ("""UPDATE events SET data = '{"v": 2}'""", "are damaged"),
}


@pytest.mark.parametrize("what", UNFIT)
@pytest.mark.parametrize("emptied", [False, True])
async def test_a_log_that_cannot_be_folded_is_named_and_left_alone(
    connection: asyncpg.Connection, user: str, what: str, emptied: bool
) -> None:
    sql, told = UNFIT[what]
    last = """
    SELECT max(seq) FROM events AS e WHERE user_id = $1 AND type = 'TaskUpdated' AND NOT EXISTS (
        SELECT FROM events AS later WHERE later.user_id = $1 AND later.task_id = e.task_id AND later.version > e.version
    )"""
    seq = await connection.fetchval(last, user)
    await connection.execute(f"{sql} WHERE user_id = $1 AND seq = $2", user, seq)
    await seal(connection, user)
    await connection.execute(
        "DELETE FROM tasks WHERE user_id = $1" if emptied else f"UPDATE tasks SET {WRONG_TITLE} WHERE user_id = $1",
        user,
    )
    [found] = [each for each in (await check(connection, user)).mismatches if each.table == "events"]
    assert (found.seq, found.field) == (seq, "data")
    assert told in found.message
    before = await everything(connection, user)
    result = await rebuild(connection, [StreamSize(user, EVENTS)])
    assert (result.written, result.removed, result.mismatches) == (0, 0, [found])
    assert await everything(connection, user) == before


ODD: Mapping[str, str] = {
    "a row before our era": "UPDATE tasks SET created_at = '0044-03-15 BC' WHERE user_id = $1 AND id = $2",
    "a row before all times": "UPDATE tasks SET created_at = '-infinity' WHERE user_id = $1 AND id = $2",
    "a row after all times": "UPDATE tasks SET updated_at = 'infinity' WHERE user_id = $1 AND id = $2",
    "an event before our era": "UPDATE events SET at = '0044-03-15 BC' WHERE user_id = $1 AND task_id = $2",
    "an event before all times": "UPDATE events SET at = '-infinity' WHERE user_id = $1 AND task_id = $2",
    "data without end": f"UPDATE events SET data = '{'[' * 1500}{']' * 1500}' WHERE user_id = $1 AND task_id = $2",
    "deep data": f"UPDATE events SET data = '{'[' * 300}{']' * 300}' WHERE user_id = $1 AND task_id = $2",
    "a number without measure": "UPDATE events SET data = '1e400' WHERE user_id = $1 AND task_id = $2",
    "no object": "UPDATE events SET data = '[]' WHERE user_id = $1 AND task_id = $2",
    "a title that is none": (
        "UPDATE events SET data = jsonb_set(data, '{changes,title,to}', '5') WHERE user_id = $1 AND task_id = $2"
    ),
    "a deep title": (
        f"UPDATE events SET data = jsonb_set(data, '{{changes,title,to}}', '{'[' * 300}{']' * 300}') "
        "WHERE user_id = $1 AND task_id = $2"
    ),
    "a restoration of nothing": (
        "UPDATE events SET type = 'TaskRestored', data = jsonb_set(data, '{restored}', "
        """'{"version": "x", "created_at": "2026-01-01T00:00:00Z"}') WHERE user_id = $1 AND task_id = $2"""
    ),
}


@on_plain_postgres  # it takes users of several shards together
@pytest.mark.parametrize("damage", ODD)
@pytest.mark.parametrize("emptied", [False, True])
async def test_what_python_cannot_hold_is_named_and_keeps_nobody_else_from_being_mended(
    connection: asyncpg.Connection, user: str, damage: str, emptied: bool
) -> None:
    other = f"{user}-other"
    await load(connection, Author(other), EVENTS)
    sound = [await everything(connection, each) for each in (user, other)]
    task = (await reads.tasks(connection, [user]))[0]
    await connection.execute(ODD[damage], user, task["id"])
    streams = [StreamSize(user, EVENTS), StreamSize(other, EVENTS)]
    assert {each.user_id for each in (await verify(connection, streams)).mismatches} == {user}
    if emptied:
        await connection.execute("DELETE FROM tasks WHERE user_id = $1", user)
    await connection.execute(f"UPDATE tasks SET {WRONG_TITLE} WHERE user_id = $1", other)
    result = await rebuild(connection, streams)
    orjson.dumps(result, default=str)  # as it is told by a worker
    assert await everything(connection, other) == sound[1]
    if damage.startswith("a row"):
        assert result.mismatches == []
        assert await everything(connection, user) == sound[0]
    elif damage != "a title that is none" or not emptied:
        assert {each.user_id for each in result.mismatches} == {user}


@on_plain_postgres  # it takes users of several shards together
async def test_nobody_waits_for_the_sake_of_another_of_the_batch(pool: Pool) -> None:
    async with pool.acquire() as connection, pool.acquire() as holder:
        for user in ("ann", "bob", "cleo"):
            await load(connection, Author(user), 5)
        await connection.execute("TRUNCATE tasks")
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute("SELECT FROM streams WHERE user_id = 'cleo' FOR UPDATE")
        waiting = asyncio.create_task(rebuild(connection, [StreamSize(user, 5) for user in ("ann", "bob", "cleo")]))
        posted = "SELECT count(DISTINCT user_id) FROM tasks"
        while await pool.fetchval(posted) < 2:
            await asyncio.sleep(0.01)
        for user in ("ann", "bob"):
            assert await pool.fetchval("SELECT seq FROM streams WHERE user_id = $1 FOR UPDATE NOWAIT", user) == 5
        assert not waiting.done()
        await transaction.rollback()
        result = await waiting
        assert (result.users, result.events, result.mismatches) == (3, 15, [])
        assert await pool.fetchval(posted) == 3


@pytest.mark.parametrize("damage", ["removed", "removed first", "removed tail", "stream set back", "no stream"])
async def test_an_emptied_projection_does_not_come_back_from_a_log_with_gaps(
    connection: asyncpg.Connection, user: str, damage: str
) -> None:
    await spoil(connection, user, LOG[damage][0])
    await connection.execute("DELETE FROM tasks WHERE user_id = $1", user)
    result = await rebuild(connection, [StreamSize(user, EVENTS)])
    assert {each.table for each in result.mismatches} & {"events", "streams"}
    assert result.written == 0
    assert await reads.tasks(connection, [user]) == []


@on_plain_postgres  # it takes users of several shards together
async def test_what_no_row_can_hold_is_named_and_the_others_are_rebuilt(
    connection: asyncpg.Connection, user: str
) -> None:
    others = [f"{user}-{number}" for number in range(2)]
    for other in others:
        await load(connection, Author(other), EVENTS)
    created = "SELECT max(seq) FROM events WHERE user_id = $1 AND type = 'TaskCreated' AND task_id = ANY($2)"
    untouched = [row["id"] for row in await reads.tasks(connection, [user]) if row["version"] == 1]
    seq = await connection.fetchval(created, user, untouched)
    null = "UPDATE events SET data = jsonb_set(data, '{changes,title,to}', 'null') WHERE user_id = $1 AND seq = $2"
    await connection.execute(null, user, seq)
    await seal(connection, user)
    streams = [StreamSize(each, 2) for each in (others[0], user, others[1])]
    sound = [await everything(connection, other) for other in others]
    await connection.execute("DELETE FROM tasks WHERE user_id = ANY($1)", [user, *others])
    result = await rebuild(connection, streams)
    [found] = result.mismatches
    assert (found.user_id, "what tasks can't hold" in found.message) == (user, True)
    assert [await everything(connection, other) for other in others] == sound


async def test_one_user_with_a_damaged_log_keeps_nobody_else_from_being_mended(
    connection: asyncpg.Connection, user: str
) -> None:
    other = f"{user}-other"
    await load(connection, Author(other), EVENTS)
    sound = await everything(connection, other)
    await spoil(connection, user, LOG["changed data"][0])
    await connection.execute(f"UPDATE tasks SET {WRONG_TITLE} WHERE user_id = ANY($1)", [user, other])
    result = await rebuild(connection, [StreamSize(user, 2), StreamSize(other, 2)])
    assert {each.user_id for each in result.mismatches} == {user}
    assert result.users == 2
    assert await everything(connection, other) == sound
    assert {task_of(row["document"].encode()).title for row in await reads.tasks(connection, [user])} == {"Wrong"}


async def visited(connection: asyncpg.Connection, after: str = "") -> list[StreamSize]:
    return [stream async for unit in work_units.everyone(connection, after=after) for stream in unit.streams]


@on_plain_postgres  # it takes users of several shards together
async def test_everyone_is_visited_once_also_without_a_stream(
    connection: asyncpg.Connection, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_units, "_PAGE", 3)
    await spoil(connection, user, LOG["no stream"][0])
    task = (await reads.tasks(connection, [user]))[0]
    rows = [(f"zz-{user}-{number}", *list(task)[1:]) for number in range(4)]
    await connection.copy_records_to_table("tasks", records=rows, columns=TaskRow._fields)
    everybody = "SELECT user_id FROM tasks UNION SELECT user_id FROM events UNION SELECT user_id FROM streams"
    known = sorted(row["user_id"] for row in await connection.fetch(everybody))
    streams = await visited(connection)
    assert sorted(stream.user_id for stream in streams) == known
    assert StreamSize(user, 0) in streams
    orphans = await visited(connection, after="zz-")
    assert sorted(stream.user_id for stream in orphans) == [each for each in known if each > "zz-"]
    assert (await rebuild(connection, orphans)).removed == 4
    assert await visited(connection, after="zz-") == []


async def test_a_sample_finds_users_without_a_stream(pool: Pool) -> None:
    async with pool.acquire() as connection:
        for number in range(3):
            await load(connection, Author(f"user-{number}"), 5)
        await connection.execute("DELETE FROM streams")
        found = [stream.user_id async for unit in work_units.some(connection, 100) for stream in unit.streams]
    assert found == ["user-0", "user-1", "user-2"]


async def test_a_sample_is_of_so_many_users(connection: asyncpg.Connection, user: str) -> None:
    await load(connection, Author(f"{user}-other"), 1)
    everyone = set(await visited(connection))
    drawn = [stream async for unit in work_units.some(connection, 2) for stream in unit.streams if stream.events]
    assert len(drawn) == len(set(drawn)) == 2
    assert set(drawn) <= everyone
    assert [unit async for unit in work_units.one(connection, user)] == [
        work_units.WorkUnit("", [StreamSize(user, EVENTS)])
    ]
    assert [unit async for unit in work_units.one(connection, "nobody")] == [
        work_units.WorkUnit("", [StreamSize("nobody", 0)])
    ]


FOUND_BY_A_SPOT_CHECK = {
    "emptied": "DELETE FROM tasks",
    "behind": "UPDATE tasks SET version = version + 1",
    "removed tail": "DELETE FROM events WHERE seq > 37",
    "stream set back": "UPDATE streams SET seq = 39",
    "stream with another hash": "UPDATE streams SET hash = sha256('x')",
    "no stream": "DELETE FROM streams",
}


@pytest.mark.parametrize("damage", FOUND_BY_A_SPOT_CHECK)
async def test_a_spot_check_finds_what_is_wrong_everywhere(database: str, pool: Pool, damage: str) -> None:
    await let_the_log_change(database)
    async with pool.acquire() as connection:
        for number in range(3):
            await load(connection, Author(f"user-{number}"), EVENTS)
    assert await spot_check(pool) == []
    await sql(pool, FOUND_BY_A_SPOT_CHECK[damage])
    found = await spot_check(pool)
    assert {each.table for each in found} == {
        "emptied": {"tasks"},
        "behind": {"tasks"},
        "removed tail": {"events"},
    }.get(damage, {"streams"})
