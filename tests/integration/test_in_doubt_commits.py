"""A write whose answer was lost is done once, whatever else happens just then (docs/adr/0013).

The interleavings are too rare to wait for. So the network holds up or loses the statements that they need.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import asyncpg
import pytest
from uuid_utils.compat import uuid7

from commands.batch import Batch, CarriedOut
from commands.commands import Command, CreateTask, DeleteTask, ToggleTask, UpdateTask
from commands.decider import VersionMismatch
from commands.handler import Outcome, handle
from commands.precondition import UNCONDITIONAL, EntityTag, Precondition
from db import errors
from db.dsn import connect_arguments
from db.errors import ConnectionLost, TooBusy
from db.pool import Pool, open_pool
from events.projection import TaskRow
from events.store import in_doubt, log
from events.store.event_store import EventStore, LockedStream
from events.store.in_doubt import InDoubt
from events.task import Metadata
from tests.arrange import store_of, until_locked_out
from tests.conftest import execute as run_sql
from tests.conftest import named
from tests.network import Link, Request
from tests.service import SHARDED

VICTIMS = "SELECT count(*) FROM events WHERE request_id = 'victim'"


async def do(pool: Pool, command: Command, request: str) -> Outcome:
    return await handle(store_of(pool), command, actor="ann", metadata=Metadata(request_id=request))


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a busy machine take its time."""
    monkeypatch.setattr(in_doubt, "RESOLVE_SECONDS", 30)
    monkeypatch.setattr(errors, "_RETRYING", 30)


@pytest.mark.parametrize("what", ["toggle", "delete"])
async def test_a_first_try_that_arrives_late_is_found(
    database: str, pool: Pool, other: asyncpg.Connection, what: str
) -> None:
    """The second try is refused, although no event has its version: by a transaction that it can't be put in order
    with (a toggle), or because the row is gone until a rebuild writes it (a deletion). Then the first try arrives."""
    if what == "toggle":
        name = connect_arguments(database)["database"]
        await run_sql(
            named(database, name), f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'"
        )
    task_id = uuid7()
    link, tries, late = Link(database), 0, asyncio.Event()
    rows: list[tuple[object, ...]] = []

    async def on_request(request: Request) -> None:
        nonlocal tries
        if b"victim" not in request.data:
            return
        tries += 1
        if tries == 1:  # on its way still, when the client's end of the connection is gone
            request.client.abort()
            await late.wait()
        elif tries == 3:  # the second was refused, and then the event wasn't found in the log
            if rows:
                async with pool.acquire() as rebuild:
                    await rebuild.copy_records_to_table("tasks", records=rows, columns=TaskRow._fields)
            late.set()
            while not await pool.fetchval(VICTIMS):
                await asyncio.sleep(0.01)

    async with link.open() as dsn, open_pool(dsn, sharded=SHARDED) as far:
        await do(far, CreateTask(user_id="ann", task_id=task_id, fields={"title": "x"}), "before")
        link.on_request = on_request
        transaction = other.transaction()
        await transaction.start()
        await other.execute("UPDATE streams SET seq = seq")
        if what == "delete":
            rows += map(tuple, await other.fetch(f"DELETE FROM tasks RETURNING {', '.join(TaskRow._fields)}"))
        kind = ToggleTask if what == "toggle" else DeleteTask
        writing = asyncio.create_task(do(far, kind(user_id="ann", task_id=task_id), "victim"))
        await until_locked_out(pool)
        await transaction.commit()
        outcome = await writing
    assert (outcome.what, outcome.task and outcome.task.completed) == ("done", True if what == "toggle" else None)
    assert tries == 3
    [victim] = await pool.fetch("SELECT hash FROM events WHERE request_id = 'victim'")
    assert victim["hash"] == outcome.hash


@pytest.mark.parametrize(("losses", "fails"), [(1, False), (3, False), (10**6, True)])
async def test_a_lost_connection_followed_by_another_writers_event_is_decided_anew(
    database: str, pool: Pool, losses: int, fails: bool
) -> None:
    """The connection is lost again and again, also under the lock, which ends with it."""
    task_id = uuid7()
    await do(pool, CreateTask(user_id="ann", task_id=task_id, fields={"title": "x"}), "before")
    link, tries = Link(database), 0

    async def on_request(request: Request) -> None:
        nonlocal tries
        if b"victim" not in request.data:
            return
        tries += 1
        if tries % 2 and tries < 2 * losses:  # each event is sent twice: its first try never gets there
            request.server.abort()
            await do(pool, ToggleTask(user_id="ann", task_id=task_id), "other")

    link.on_request = on_request
    async with link.open() as dsn, open_pool(dsn, sharded=SHARDED) as far:
        change = do(far, UpdateTask(user_id="ann", task_id=task_id, fields={"title": "y"}), "victim")
        if fails:
            with pytest.raises((TooBusy, InDoubt)):
                await change
        else:
            outcome = await change
            assert outcome.task is not None
            assert (outcome.task.title, outcome.task.version) == ("y", 2 + losses)
    assert await pool.fetchval(VICTIMS) == (0 if fails else 1)


@pytest.mark.parametrize("moved", [False, True])
async def test_a_creation_is_tried_again_only_on_its_condition(database: str, pool: Pool, moved: bool) -> None:
    """The connection ends in the append, and then another writer may be first."""
    create = CreateTask(
        user_id="ann", task_id=uuid7(), fields={"title": "x"}, precondition=Precondition({EntityTag(0)})
    )
    link, tries = Link(database), 0

    async def on_request(request: Request) -> None:
        nonlocal tries
        if b"victim" not in request.data:
            return
        tries += 1
        if tries == 1:
            request.server.abort()
            if moved:
                await do(pool, replace(create, task_id=uuid7()), "other")

    link.on_request = on_request
    async with link.open() as dsn, open_pool(dsn, sharded=SHARDED) as far:
        if moved:
            with pytest.raises(VersionMismatch):
                await do(far, create, "victim")
        else:
            outcome = await do(far, create, "victim")
            assert (outcome.what, outcome.hash) == ("done", await pool.fetchval("SELECT hash FROM events"))
    assert tries == 2
    assert await pool.fetchval(VICTIMS) == (not moved)


class _LosesTheFirst(EventStore):
    """A store that loses the connection of the first transaction as its COMMIT is under way.

    It is carried out when the next try waits for it.
    """

    def __init__(self, pool: Pool, connection: asyncpg.Connection) -> None:
        super().__init__(pool)
        self._of_tests, self._connection = pool, connection
        self.tries = 0
        self.late: asyncio.Task[object] | None = None

    @asynccontextmanager
    async def locked(self, user_id: str) -> AsyncIterator[LockedStream]:
        self.tries += 1
        if self.tries > 1:
            async with super().locked(user_id) as stream:
                yield stream
            return
        await self._connection.execute("BEGIN")
        yield LockedStream(self._connection, await log.lock_stream(self._connection, user_id))
        self.late = asyncio.create_task(self._commit())
        raise ConnectionLost("as COMMIT was under way")

    async def _commit(self) -> None:
        await until_locked_out(self._of_tests)
        await self._connection.execute("COMMIT")


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("key", [None, "k-1"])
@pytest.mark.parametrize("atomic", [True, False])
async def test_a_batch_whose_commit_takes_long_is_carried_out_once(
    pool: Pool, other: asyncpg.Connection, new: bool, key: str | None, atomic: bool
) -> None:
    """A user without an event has no stream yet whose lock the next try waits for."""
    create = CreateTask(user_id="ann", task_id=uuid7(), fields={"title": "x"})
    if not new:
        await do(pool, replace(create, task_id=uuid7()), "before")
    store = _LosesTheFirst(pool, other)
    commands: list[Command] = [create, UpdateTask(user_id="ann", task_id=create.task_id, fields={"title": "y"})]
    metadata = Metadata(request_id="victim", idempotency_key=key, fingerprint=b"x" * 32 if key else None)
    batch = Batch(store, "ann", commands, atomic=atomic, precondition=UNCONDITIONAL, actor="ann", metadata=metadata)
    done = await batch.handle()
    assert store.late is not None
    await store.late
    first = 1 if new else 2
    assert (done.seq, done.replayed) == (first + 1, False)
    assert [each.seq for each in done.changes if isinstance(each, CarriedOut)] == [first, first + 1]
    assert await pool.fetchval(VICTIMS) == 2
    assert (await store.head("ann")).hash == done.list_tag.hash


async def test_a_batch_in_doubt_is_decided_anew_if_another_writer_is_first(
    database: str, pool: Pool, other: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user has no event yet; the first try ends without a commit while the second one is under way."""
    create = CreateTask(user_id="ann", task_id=uuid7(), fields={"title": "x"})
    link, tries = Link(database), list[int]()

    async def nothing(_: object) -> None:
        """Leave the first try open."""

    async def on_request(request: Request) -> None:
        if b"victim" not in request.data:
            return
        tries.append(store.tries)
        if len(tries) == 1:  # the event wasn't found in the log, and is sent again
            await other.execute("ROLLBACK")
            await do(pool, replace(create, task_id=uuid7()), "other")

    monkeypatch.setattr(_LosesTheFirst, "_commit", nothing)
    link.on_request = on_request
    async with link.open() as dsn, open_pool(dsn, sharded=SHARDED) as far:
        store = _LosesTheFirst(far, other)
        batch = Batch(
            store,
            "ann",
            [create],
            atomic=True,
            precondition=UNCONDITIONAL,
            actor="ann",
            metadata=Metadata(request_id="victim"),
        )
        done = await batch.handle()
    assert (done.seq, store.tries, await pool.fetchval(VICTIMS)) == (2, 3, 1)
    assert tries == [2, 3]
