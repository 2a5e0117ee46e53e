"""The books as they are stored, for verify and rebuild: of several users at once, or of one at any length."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from operator import itemgetter
from uuid import UUID

import asyncpg

from db.pool import Connection
from events import log
from events.chain_verifier import ChainVerifier, Journal
from events.mismatch import Mismatch
from events.projection import Fold
from events.serialization import parsed
from events.work_units import BATCH

MOST = BATCH + BATCH // 4
"""Events that several users may have together; where there are more, their streams told too few."""

FIRST_TASK, LAST_TASK = UUID(int=0), UUID(int=2**128 - 1)

UNREADABLE = (ValueError, OverflowError)
"""What the driver raises where a row holds what Python can't, such as times before our era."""


def unreadable(user_id: str, error: Exception) -> Mismatch:
    """Of a user whose books can't even be read."""
    return Mismatch(table="events", user_id=user_id, message=f"there is a value that can't be read: {error}")


# A table that was just emptied seems so small to the planner that it would read all of it, batch after batch, while it
# fills up.
BY_INDEX = "SET LOCAL enable_seqscan = off"


@asynccontextmanager
async def snapshot(connection: Connection) -> AsyncIterator[None]:
    """All that is read within is as it was at one moment; nothing is written."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute(BY_INDEX)
        yield


# Five seconds are long enough for any write to end; who holds a stream for longer is no write of the service. Where we
# aren't heard of any more, the server ends our own locks after a minute.
PATIENCE = f"SET LOCAL lock_timeout = '5s'; SET LOCAL idle_in_transaction_session_timeout = '60s'; {BY_INDEX}"


@asynccontextmanager
async def turn(connection: Connection) -> AsyncIterator[None]:
    """A transaction that writes, and sees what was committed while it waited for a lock."""
    async with connection.transaction(isolation="read_committed"):
        await connection.execute(PATIENCE)
        yield


STREAMS = "SELECT user_id, seq, hash FROM streams WHERE user_id = ANY($1)"


async def streams(connection: Connection, users: Sequence[str]) -> dict[str, Journal]:
    """Where these users' streams end; of who has none, nothing."""
    rows = await connection.fetch(STREAMS, users)
    return {row["user_id"]: Journal(row["seq"], row["hash"]) for row in rows}


EVENTS = f"SELECT {log.COLUMNS} FROM events WHERE user_id = ANY($1) LIMIT $2"  # noqa: S608 - a constant fragment


async def events(connection: Connection, users: Sequence[str]) -> Sequence[asyncpg.Record]:
    """These users' events, each user's in order: all of them, or `MOST` where they are too many."""
    return _in_order(await connection.fetch(EVENTS, users, MOST))


def _in_order(rows: list[asyncpg.Record]) -> list[asyncpg.Record]:
    """Sorted here, which takes a tenth of the time that Postgres would."""
    rows.sort(key=itemgetter("seq"))
    return rows


EVENTS_OF_ONE = f"SELECT {log.COLUMNS} FROM events WHERE user_id = $1 AND seq > $2 ORDER BY seq LIMIT $3"  # noqa: S608 - a constant fragment


async def prove(connection: Connection, user_id: str) -> ChainVerifier:
    """A user's whole log, in constant memory; the proof is still to be ended with the stream."""
    proof = ChainVerifier(user_id)
    while rows := await connection.fetch(EVENTS_OF_ONE, user_id, proof.seq, BATCH):
        for row in rows:
            proof.take(row, parsed(row["data"]))
    return proof


# In the order that `Fold.take` wants them.
_FACTS = "user_id, seq, task_id, version, type, at, convert_to(data::text, 'UTF8') AS data"

FACTS = f"SELECT {_FACTS} FROM events WHERE user_id = ANY($1) LIMIT $2"  # noqa: S608 - a constant fragment


async def facts(connection: Connection, users: Sequence[str]) -> Sequence[asyncpg.Record]:
    """As `events`, with no more of each than the fold needs."""
    return _in_order(await connection.fetch(FACTS, users, MOST))


FACTS_SINCE = f"SELECT {_FACTS} FROM events WHERE user_id = $1 AND seq > $2 ORDER BY seq"  # noqa: S608 - a constant fragment


async def facts_since(connection: Connection, user_id: str, seq: int) -> Sequence[asyncpg.Record]:
    """What was appended behind event `seq`: little, since it was a moment ago that this was the last."""
    return await connection.fetch(FACTS_SINCE, user_id, seq)


@dataclass(frozen=True, slots=True)
class Folded:
    """The tasks from id `first` to id `last` (both inclusive), and how many events they were folded from."""

    fold: Fold
    first: UUID
    last: UUID
    events: int


FACTS_BY_TASK = f"""
SELECT {_FACTS} FROM events
WHERE user_id = $1 AND seq <= $2 AND (task_id, version) > ($3, $4)
ORDER BY task_id, version LIMIT $5
"""  # noqa: S608 - a constant fragment


async def folded(connection: Connection, user_id: str, *, upto: int) -> AsyncIterator[Folded]:
    """A user's tasks as the first `upto` events leave them, range by range in order of their ids.

    In constant memory, however long the log is.
    """
    fold, first, events, key = Fold(), FIRST_TASK, 0, (FIRST_TASK, 0)
    while True:
        rows = await connection.fetch(FACTS_BY_TASK, user_id, upto, *key, BATCH)
        for _, seq, task, version, type_, at, data in rows:
            fold.take(user_id, seq, task, version, type_, at, parsed(data))
        events += len(rows)
        if len(rows) < BATCH:
            yield Folded(fold, first, LAST_TASK, events)
            return
        unfinished: UUID = rows[-1]["task_id"]
        key = (unfinished, rows[-1]["version"])
        if unfinished != first:
            yield Folded(fold.all_but((user_id, unfinished)), first, UUID(int=unfinished.int - 1), events)
            first, events = unfinished, 0


# A time that Python can't hold is none.
TASKS = """
SELECT user_id, id, title, description, completed,
    CASE WHEN created_at BETWEEN '0002-01-01' AND '9998-12-31' THEN created_at END AS created_at,
    CASE WHEN updated_at BETWEEN '0002-01-01' AND '9998-12-31' THEN updated_at END AS updated_at,
    version
FROM tasks WHERE user_id = ANY($1) AND id BETWEEN $2 AND $3
"""


async def tasks(
    connection: Connection, users: Sequence[str], first: UUID = FIRST_TASK, last: UUID = LAST_TASK
) -> Sequence[asyncpg.Record]:
    """The rows of `tasks` that these users have, from id `first` to id `last` (both inclusive)."""
    return await connection.fetch(TASKS, users, first, last)


POSTED = "SELECT DISTINCT user_id FROM tasks WHERE user_id = ANY($1)"


async def posted(connection: Connection, users: Sequence[str]) -> set[str]:
    """Who of these users has any row in `tasks`."""
    async with snapshot(connection):
        return {row["user_id"] for row in await connection.fetch(POSTED, users)}
