"""Statements on the event log: lock a user's stream, read events back, find one."""

import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence, Set
from contextlib import aclosing
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from asyncpg import Record

from db.pool import Connection, Executor
from db.time_slices import TimeSlices
from events.hash_chain import Head
from events.serialization import Row, from_row
from events.store.append import RecordedEvent
from events.task import ENDS, Event

LOCK_STREAM = "SELECT seq, hash FROM daybook_lock_stream($1)"


async def lock_stream(connection: Connection, user_id: str) -> Head:
    """Lock a user's stream until the transaction ends, and return the number and hash of its last event.

    A user without events has no stream yet, so that nothing is locked.
    """
    row = await connection.fetchrow(LOCK_STREAM, user_id)
    return Head() if row is None else Head(row["seq"], row["hash"])


# As text, Python would take up to four bytes for every character, by the widest one; as UTF-8, it takes one for most.
_DATA = "textsend(data::text)"
COLUMN_NAMES = """user_id, seq, hash, id, task_id, version, type, at, actor, data,
       request_id, client_address, client_agent, idempotency_key, fingerprint, salt, personal"""
COLUMNS = COLUMN_NAMES.replace(" data,", f" {_DATA} AS data,")
"""Columns of `events` that `events.serialization.from_row` and `events.records` need."""

READ_BATCH = 200
"""Largest number of events read at once: enough to make round trips cheap."""
BATCH_BYTES = 256 * 1024
"""Bytes of `data` that make a batch of long events full: `READ_BATCH` of the largest would take 12 MB."""

# What is stored uncompressed, in a row of 2 KB, is short. Of the rest, the length must be found out.
_SHORT_DATA = f"""
    CASE WHEN pg_column_compression(data) IS NULL AND pg_column_size(data) <= 2000 OR octet_length(data::text) <= 4096
        THEN {_DATA}
    WHEN data IS NOT NULL THEN ''::bytea END
"""


class Batched(NamedTuple):
    """A statement that reads events batch by batch, in two forms: few users have long events."""

    short: str
    """Has no bytes for `data` that are long."""
    bounded: str
    """Returns as many of its events as have `BATCH_BYTES`, and takes half as long again for each."""


def batched(names: str, statement: str, *, order: str) -> Batched:
    """Make both forms of a statement with these columns, one of them `data`, whose events are in this order."""
    bounded = f"""
SELECT {names} FROM (
    SELECT found.*, sum(coalesce(length(data), 0)) OVER (ORDER BY {order} ROWS UNBOUNDED PRECEDING) AS bytes
    FROM ({statement}) AS found
) AS counted
WHERE bytes - coalesce(length(data), 0) < {BATCH_BYTES} ORDER BY {order}
"""  # noqa: S608 - constant fragments
    return Batched(statement.replace(_DATA, _SHORT_DATA), bounded)


async def fetch_batch(
    statement: Batched, form: str, fetch: Callable[..., Awaitable[Sequence[Record]]], *arguments: Any
) -> tuple[Sequence[Record], str, bool]:
    """Fetch a batch by `form`, or by the bounded form if data are long.

    Return the rows, the form to go on with, and whether there may be more rows, since these fill a batch.
    """
    rows = await fetch(form, *arguments)
    if form == statement.short:
        if b"" not in [row["data"] for row in rows]:
            return rows, form, False
        rows = await fetch(statement.bounded, *arguments)
    return rows, statement.bounded, sum(len(row["data"] or b"") for row in rows) >= BATCH_BYTES


def next_size(size: int, rows: Sequence[Record], *, full: bool) -> int:
    """Return how many events to ask for after these, of `size` that were asked for.

    The database reads as many, also if fewer fit: so it is a few more than fitted, and more again where all did.
    """
    return min(READ_BATCH, 1 + len(rows) * 5 // 4 if full else 2 * size)


Fetch: TypeAlias = Callable[[str, Record | None, int], Awaitable[Sequence[Record]]]
"""A read, by a form of the statement, of the events behind a row, or of the first ones: so many at the most."""


async def in_batches(
    statement: Batched,
    fetch: Fetch,
    *,
    most: int | None = None,
    before_more: Callable[[], Awaitable[object]] | None = None,
) -> AsyncGenerator[Sequence[Record], None]:
    """Read events batch by batch, or the first `most` of them.

    `before_more` is called before more than `READ_BATCH` are read.
    """
    form, last, size, left = statement.short, None, READ_BATCH, sys.maxsize if most is None else most
    seen = 0
    while True:
        limit = min(size, left)
        rows, form, full = await fetch_batch(statement, form, fetch, last, limit)
        if not rows:
            return
        left -= len(rows)
        size = next_size(size, rows, full=full)
        yield rows
        if not left or (len(rows) < limit and not full):
            return
        if seen < READ_BATCH <= (seen := seen + len(rows)) and before_more is not None:
            await before_more()
        last = rows[-1]
        del rows  # before the next batch is read


HEADS = "SELECT user_id, seq, hash FROM streams WHERE user_id = ANY ($1)"


async def heads(database: Executor, users: Sequence[str]) -> Mapping[str, Head]:
    """Read the number and hash of these users' last events. Users without events are left out."""
    return {row["user_id"]: Head(row["seq"], row["hash"]) for row in await database.fetch(HEADS, users)}


HEAD = "SELECT seq, hash FROM streams WHERE user_id = $1"


async def head(database: Executor, user_id: str) -> Head:
    """Read the number and hash of a user's last event."""
    row = await database.fetchrow(HEAD, user_id)
    return Head() if row is None else Head(*row)


HEADS_SINCE_CHANGE = """
SELECT seq, hash FROM events
WHERE user_id = $1 AND seq = ANY ($2::bigint[]) AND seq >= (
    SELECT seq FROM events WHERE user_id = $1 AND type <> 'TaskErased' ORDER BY seq DESC LIMIT 1
)
"""


async def heads_since_change(database: Executor, user_id: str, seqs: Sequence[int]) -> Sequence[Head]:
    """Read the number and hash of those of the events that only `TaskErased` follow in the user's stream."""
    return [Head(*row) for row in await database.fetch(HEADS_SINCE_CHANGE, user_id, seqs)]


_READ = f"SELECT {COLUMNS} FROM events WHERE user_id = $1 AND seq > $2 AND seq <= $3 ORDER BY seq LIMIT $4"  # noqa: S608 - a constant fragment
READ = batched(COLUMN_NAMES, _READ, order="seq")


async def read(database: Executor, user_id: str, *, upto: int, after: int = 0) -> AsyncIterator[RecordedEvent]:
    """Read a user's events in order, after number `after`, up to and with `upto`.

    They are read batch by batch, in constant memory and without a transaction, since the log only grows. On a pool, a
    connection is held only while a batch is fetched. Raise `UnknownEvent` (events.serialization).
    """

    def fetch(form: str, last: Record | None, limit: int) -> Awaitable[Sequence[Record]]:
        return database.fetch(form, user_id, after if last is None else last["seq"], upto, limit)

    async for rows in in_batches(READ, fetch):
        for row in rows:
            yield _recorded(row)


_HISTORY = f"""
SELECT {COLUMNS} FROM events
WHERE user_id = $1 AND task_id = $2 AND version > $3
  AND version <= coalesce($4::integer, 2147483647) AND at <= coalesce($5::timestamptz, 'infinity')
ORDER BY version LIMIT $6
"""  # noqa: S608 - a constant fragment
HISTORY = batched(COLUMN_NAMES, _HISTORY, order="version")


async def history(
    database: Executor,
    user_id: str,
    task_id: UUID,
    *,
    after: int = 0,
    version: int | None = None,
    at: datetime | None = None,
    slices: TimeSlices,
    before_more: Callable[[], Awaitable[object]] | None = None,
) -> AsyncGenerator[RecordedEvent, None]:
    """Read a task's events in order, after version `after`, up to and with `version` and the moment `at`.

    They are read batch by batch, as by `read`, with a pause after each; `before_more` is called before more than
    `READ_BATCH` are. Raise `UnknownEvent` (events.serialization).
    """

    def fetch(form: str, last: Record | None, limit: int) -> Awaitable[Sequence[Record]]:
        seen = after if last is None else last["version"]
        return database.fetch(form, user_id, task_id, seen, version, at, limit)

    async with aclosing(in_batches(HISTORY, fetch, before_more=before_more)) as batches:
        async for rows in batches:
            slices.restart()
            for row in rows:
                yield _recorded(row)
                await slices.pause()


OF_SEQ = """
SELECT task_id, version FROM events
WHERE user_id = $1 AND seq = coalesce($2::bigint, (SELECT seq FROM streams WHERE user_id = $1))
"""


async def of_seq(database: Executor, user_id: str, seq: int | None) -> tuple[UUID, int] | None:
    """Find a user's event number `seq`, or the last one; return its task's id and version, or `None`."""
    row = await database.fetchrow(OF_SEQ, user_id, seq)
    return None if row is None else (row["task_id"], row["version"])


LAST = "SELECT type FROM events WHERE user_id = $1 AND task_id = $2 ORDER BY version DESC LIMIT 1"


async def is_there(database: Executor, user_id: str, task_id: UUID) -> bool:
    """Say if the task exists by the log: it has events, and the last one is no end."""
    last: str | None = await database.fetchval(LAST, user_id, task_id)
    return last is not None and last not in ENDS


KNOWN = "SELECT DISTINCT task_id FROM events WHERE user_id = $1 AND task_id = ANY ($2)"


async def known(database: Executor, user_id: str, ids: Sequence[UUID]) -> Set[UUID]:
    """Return those of the tasks that have events, also if they are deleted."""
    return {row["task_id"] for row in await database.fetch(KNOWN, user_id, ids)}


FIND = f"SELECT {COLUMNS} FROM events WHERE user_id = $1 AND idempotency_key = $2"  # noqa: S608 - a constant fragment


async def find(database: Executor, user_id: str, idempotency_key: str) -> RecordedEvent | None:
    """Find the event of the request with this idempotency key. Raise `UnknownEvent` (events.serialization)."""
    row = await database.fetchrow(FIND, user_id, idempotency_key)
    return None if row is None else _recorded(row)


def _recorded(row: Row) -> RecordedEvent:
    return RecordedEvent(row["seq"], row["hash"], from_row(row))


PLACE = "SELECT seq, hash FROM events WHERE user_id = $1 AND task_id = $2 AND version = $3 AND id = $4"


async def find_appended(database: Executor, event: Event) -> RecordedEvent | None:
    """Find this event in the log by its id; return `None` if it isn't there."""
    row = await database.fetchrow(PLACE, event.user_id, event.task_id, event.version, event.id)
    return None if row is None else RecordedEvent(row["seq"], row["hash"], event)
