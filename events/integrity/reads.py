"""Reads of streams, events and tasks for verify and rebuild: several users at once, or one with a log of any length."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from operator import itemgetter
from uuid import UUID

import asyncpg

from db.pool import Connection
from events.integrity.mismatch import Mismatch
from events.integrity.replay import Fold
from events.integrity.work_units import BATCH
from events.store import log

MAX_EVENTS = BATCH + BATCH // 4
"""Largest number of events read for several users together. If there are more, the streams counted too few of them."""

FIRST_TASK, LAST_TASK = UUID(int=0), UUID(int=2**128 - 1)

UNREADABLE = (ValueError, OverflowError)
"""Errors of the driver for a value that Python can't hold, such as a time before our era."""


def unreadable_row(user_id: str, error: Exception) -> Mismatch:
    """Make the mismatch for a user with a row that can't be read."""
    return Mismatch(table="events", user_id=user_id, message=f"there is a value that can't be read: {error}")


# On Citus, the settings of a transaction stay on the coordinator without this one. Elsewhere, nothing reads it.
_ON_EVERY_SERVER = "SET LOCAL citus.propagate_set_commands = 'local'"
# To the planner, a table that was just emptied looks so small that it would read all of it for every batch, while the
# table fills up again.
BY_INDEX = f"{_ON_EVERY_SERVER}; SET LOCAL enable_seqscan = off"


@asynccontextmanager
async def snapshot(connection: Connection) -> AsyncIterator[None]:
    """Open a read-only transaction that sees the database at one moment (REPEATABLE READ)."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute(BY_INDEX)
        yield


# A write holds its lock for milliseconds, so one that is held for 5 s isn't the service's, or a long restoration's. If
# this process disappears, the server releases its locks after 60 s.
TIMEOUTS = f"{BY_INDEX}; SET LOCAL lock_timeout = '5s'; SET LOCAL idle_in_transaction_session_timeout = '60s'"


@asynccontextmanager
async def turn(connection: Connection) -> AsyncIterator[None]:
    """Open a writing transaction that sees commits made while it waited for a lock (READ COMMITTED)."""
    async with connection.transaction(isolation="read_committed"):
        await connection.execute(TIMEOUTS)
        yield


EVENTS = f"SELECT {log.COLUMNS} FROM events WHERE user_id = ANY($1) LIMIT $2"  # noqa: S608 - a constant fragment


async def events(connection: Connection, users: Sequence[str]) -> Sequence[asyncpg.Record]:
    """Read these users' events, each user's in order of `seq`; if there are too many, `MAX_EVENTS` of them."""
    return _in_order(await connection.fetch(EVENTS, users, MAX_EVENTS))


def _in_order(rows: list[asyncpg.Record]) -> list[asyncpg.Record]:
    """Sort rows by `seq` in Python, in a tenth of the time that Postgres takes."""
    rows.sort(key=itemgetter("seq"))
    return rows


EVENTS_OF_ONE = f"SELECT {log.COLUMNS} FROM events WHERE user_id = $1 AND seq > $2 ORDER BY seq LIMIT $3"  # noqa: S608 - a constant fragment


async def events_of_one(connection: Connection, user_id: str) -> AsyncIterator[Sequence[asyncpg.Record]]:
    """Read a user's whole log in order, batch by batch."""
    seq = 0
    while rows := await connection.fetch(EVENTS_OF_ONE, user_id, seq, BATCH):
        yield rows
        seq = rows[-1]["seq"]


# In the order of the parameters of `Fold.take`.
_COLUMNS_TO_FOLD = "user_id, seq, task_id, version, type, at, textsend(data::text) AS data"

FOLDABLE = f"SELECT {_COLUMNS_TO_FOLD} FROM events WHERE user_id = ANY($1) LIMIT $2"  # noqa: S608 - a constant fragment


async def foldable(connection: Connection, users: Sequence[str]) -> Sequence[asyncpg.Record]:
    """Read these users' events as `events` does, but only the columns that the fold needs."""
    return _in_order(await connection.fetch(FOLDABLE, users, MAX_EVENTS))


FOLDABLE_SINCE = f"SELECT {_COLUMNS_TO_FOLD} FROM events WHERE user_id = $1 AND seq > $2 ORDER BY seq"  # noqa: S608 - a constant fragment


async def foldable_since(connection: Connection, user_id: str, seq: int) -> Sequence[asyncpg.Record]:
    """Read the events after number `seq`, in order: few, since `seq` was the last one a moment ago."""
    return await connection.fetch(FOLDABLE_SINCE, user_id, seq)


@dataclass(frozen=True, slots=True)
class Folded:
    """A user's tasks from id `first` to id `last` (both inclusive), and the number of events folded into them."""

    fold: Fold
    first: UUID
    last: UUID
    events: int


FOLDABLE_BY_TASK = f"""
SELECT {_COLUMNS_TO_FOLD} FROM events
WHERE user_id = $1 AND seq <= $2 AND (task_id, version) > ($3, $4)
ORDER BY task_id, version LIMIT $5
"""  # noqa: S608 - a constant fragment


async def folded(connection: Connection, user_id: str, *, upto: int) -> AsyncIterator[Folded]:
    """Fold a user's first `upto` events into tasks, range by range in order of the tasks' ids.

    Takes constant memory, however long the log is.
    """
    fold, first, events, key = Fold(), FIRST_TASK, 0, (FIRST_TASK, 0)
    while True:
        rows = await connection.fetch(FOLDABLE_BY_TASK, user_id, upto, *key, BATCH)
        fold.take_rows(rows)
        events += len(rows)
        if len(rows) < BATCH:
            yield Folded(fold, first, LAST_TASK, events)
            return
        unfinished: UUID = rows[-1]["task_id"]
        key = (unfinished, rows[-1]["version"])
        if unfinished != first:
            yield Folded(fold.all_but((user_id, unfinished)), first, UUID(int=unfinished.int - 1), events)
            first, events = unfinished, 0


# In the order of `TaskRow`. A time that Python can't hold is read as null.
TASKS = """
SELECT user_id, id, version, completed, priority, due_date, tags,
    CASE WHEN created_at BETWEEN '0002-01-01' AND '9998-12-31' THEN created_at END AS created_at,
    CASE WHEN updated_at BETWEEN '0002-01-01' AND '9998-12-31' THEN updated_at END AS updated_at,
    CASE WHEN completed_at BETWEEN '0002-01-01' AND '9998-12-31' THEN completed_at END AS completed_at,
    title_key, search_text, document
FROM tasks WHERE user_id = ANY($1) AND id BETWEEN $2 AND $3
"""


async def tasks(
    connection: Connection, users: Sequence[str], first: UUID = FIRST_TASK, last: UUID = LAST_TASK
) -> Sequence[asyncpg.Record]:
    """Read these users' rows of `tasks`, from id `first` to id `last` (both inclusive)."""
    return await connection.fetch(TASKS, users, first, last)


USERS_WITH_TASKS = "SELECT DISTINCT user_id FROM tasks WHERE user_id = ANY($1)"


async def users_with_tasks(connection: Connection, users: Sequence[str]) -> set[str]:
    """Return the users, of the given ones, that have a row in `tasks`."""
    async with snapshot(connection):
        return {row["user_id"] for row in await connection.fetch(USERS_WITH_TASKS, users)}
