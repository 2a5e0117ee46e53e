"""Arrangements that several tests share: commands that are carried out, and moments that are waited for."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary

import asyncpg
import pytest
from uuid_utils.compat import uuid7

from commands.commands import Command, CreateTask
from commands.erasure import UserErasure
from commands.handler import handle
from commands.precondition import UNCONDITIONAL
from db import indexes, time_slices
from db.pool import Executor, Pool
from events.serialization import DATA_VERSION
from events.store.event_store import EventStore
from events.task import Metadata, Task

METADATA = Metadata(request_id="r-1", client_address="192.0.2.7", client_agent="tests")


_stores = WeakKeyDictionary[Pool, EventStore]()


def store_of(pool: Pool) -> EventStore:
    """Return the event store on this pool: one for each, as a process has it."""
    if pool not in _stores:
        _stores[pool] = EventStore(pool)
    return _stores[pool]


def end_a_slice_at_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each step of work that is done in time slices take a slice: five milliseconds by its clock."""

    class Clock:
        perf_counter = count(0, 0.005).__next__

    monkeypatch.setattr(time_slices, "time", Clock)


class BusyLoop:
    """An event loop that is always busy. `turns` counts the turns it has made since."""

    turns = 0


@asynccontextmanager
async def busy_loop() -> AsyncIterator[BusyLoop]:
    """Keep the event loop busy for the block, as other requests would."""
    busy, done = BusyLoop(), False

    async def others() -> None:
        while not done:
            busy.turns += 1
            await asyncio.sleep(0)

    working = asyncio.create_task(others())
    await asyncio.sleep(0)
    try:
        yield busy
    finally:
        done = True
        await working


async def run(pool: Pool, command: Command) -> Task | None:
    """Carry the command out as its user, and return the task as it left it."""
    return (await handle(store_of(pool), command, actor=command.user_id, metadata=METADATA)).task


async def create(pool: Pool, user_id: str = "ann", title: str = "Buy milk") -> Task:
    """Create a task of this user."""
    task = await run(pool, CreateTask(user_id=user_id, task_id=uuid7(), fields={"title": title}))
    assert task is not None
    return task


async def erase_all(pool: Pool, user_id: str) -> None:
    """Erase all of the user's content."""
    erasure = UserErasure(
        store_of(pool), user_id, reason=None, precondition=UNCONDITIONAL, actor=user_id, metadata=METADATA
    )
    await erasure.handle()


async def until(condition: Callable[[], object]) -> None:
    """Wait until the condition holds. Raise `TimeoutError` after ten seconds."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


# Not from pg_stat_activity, of which a transaction sees the same snapshot until its end.
_WAITING = "SELECT DISTINCT pid FROM pg_locks WHERE NOT granted"


async def until_locked_out(watching: Executor, number: int = 1) -> int:
    """Wait until so many statements wait for locks, and return the process id of one's backend."""
    while len(waiting := await watching.fetch(_WAITING)) < number:
        await asyncio.sleep(0.01)
    return int(waiting[0]["pid"])


@dataclass(eq=False)
class Statement:
    """A statement that asyncpg was told to send."""

    query: str
    arguments: tuple[Any, ...]
    rows: int | None = None
    """Number of rows that it returned; `None` until then."""
    failed: bool = False
    in_transaction: bool = False
    """True if a transaction was open when it was answered."""


async def _let_pass(_statement: Statement) -> None:
    """Hand an answer on at once."""


class Statements:
    """The statements that asyncpg was told to fetch rows by, since `note_statements`, on every connection.

    asyncpg's own query loggers tell neither the rows nor the transaction, and can't hold an answer.
    """

    def __init__(self) -> None:
        self.sent: list[Statement] = []
        self.on_answer: Callable[[Statement], Awaitable[None]] = _let_pass
        """Called with each that was answered; what it returned is known to its caller only once this returns."""

    def of(self, query: str) -> list[Statement]:
        """Return those with this text."""
        return [each for each in self.sent if each.query == query]

    @property
    def failures(self) -> int:
        """Return how many have failed."""
        return sum(each.failed for each in self.sent)


def note_statements(monkeypatch: pytest.MonkeyPatch) -> Statements:
    """Note each statement that is sent by asyncpg's `fetch` and `fetchrow` from now on."""
    noted = Statements()

    def noting(send: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def sending(connection: asyncpg.Connection, query: str, *arguments: Any, **options: Any) -> Any:
            statement = Statement(query, arguments)
            noted.sent.append(statement)
            try:
                answer = await send(connection, query, *arguments, **options)
            except Exception:
                statement.failed = True
                raise
            statement.in_transaction = connection.is_in_transaction()
            statement.rows = len(answer) if isinstance(answer, list) else int(answer is not None)
            await noted.on_answer(statement)
            return answer

        return sending

    for name in ("fetch", "fetchrow"):
        monkeypatch.setattr(asyncpg.Connection, name, noting(getattr(asyncpg.Connection, name)))
    return noted


async def build_no_indexes(connection: asyncpg.Connection) -> None:
    """Hold the lock of a process that builds indexes: until this session ends, `migrate` builds none on its database.

    To build them reads tables through, and needs the columns of the newest schema.
    """
    await connection.execute("SELECT pg_advisory_lock($1)", indexes._LOCK_KEY)


class FakeRow(dict[str, object]):
    """A row as a statement returns it: by column name, or value by value."""

    def __iter__(self) -> Iterator[object]:  # type: ignore[override] # as of a record
        return iter(self.values())


def rows_of_history(number: int) -> list[dict[str, object]]:
    """Make so many rows of the log, as `log.HISTORY` reads them: a task of ann's that is toggled."""
    task_id, at = uuid7(), datetime.now(UTC)
    form = '{"v": %d, "changes": {"completed": {"from": %s, "to": %s}}}'
    toggles = [form % (DATA_VERSION, *change) for change in _TOGGLED]
    return [
        {
            **dict.fromkeys(("request_id", "client_address", "client_agent", "idempotency_key", "fingerprint", "salt")),
            "user_id": "ann",
            "seq": version,
            "hash": bytes(32),
            "id": uuid7(),
            "task_id": task_id,
            "version": version,
            "type": "TaskToggled",
            "at": at,
            "actor": "ann",
            "data": toggles[version % 2].encode(),
        }
        for version in range(1, number + 1)
    ]


_TOGGLED = (("true", "false"), ("false", "true"))
