"""The event log: append an event and upsert its task, lock a user's stream, read events back, find one."""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import orjson

from db.batching import BatchLoader
from db.long_reads import LongReads
from db.pool import Connection, Executor, Pool
from db.time_slices import TimeSlices
from events import hash_chain
from events.serialization import Row, encode, from_row, header, meta
from events.task import Event, Task, TaskDeleted


class Conflict(Exception):
    """An append that conflicts with an event in the log, or with a rebuild."""


class VersionConflict(Conflict):
    """The task's row isn't the one that the event was decided on: another writer or a rebuild was first."""


class VersionTaken(VersionConflict):
    """Another event has this task's version: this one can never be in the log."""


class IdempotencyKeyTaken(Conflict):
    """The log already holds another event with this user's idempotency key: this one can never be in it."""


class PendingAppend(NamedTuple):
    """An event to append, and the task after it (`None`: deleted). `on_row`: it was decided on the task's row."""

    event: Event
    task: Task | None
    on_row: bool


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """An event as it is in the log, with number `seq` of its user's stream and its hash in the chain (32 bytes)."""

    seq: int
    hash: bytes
    event: Event


# An acknowledged event must survive a crash, even if the server, the database or the role turns synchronous_commit off.
# Stricter settings stay. The setting is the transaction's, so that it works through a pooler.
_DURABLY = """
    CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', true) END
"""

# One statement, so one round trip and one transaction. Each step reads FROM stream, so that the row lock on the
# user's stream is always taken first: this lock serialises one user's writes, and keeps them free of deadlocks.
# Never ON CONFLICT DO NOTHING on events: it would answer success for an event that was not written.
# The statement sees the tasks as they were when it began. A rebuild that held the lock meanwhile may have inserted the
# row anew, and the statement would not delete that row. So a deletion that was decided on a row must delete one; if it
# doesn't, it divides by zero, which is the way to refuse in plain SQL.
APPEND = f"""
WITH stream AS (
    INSERT INTO streams AS s (user_id, seq, hash) VALUES ($1, 1, sha256($2))
    ON CONFLICT (user_id) DO UPDATE SET seq = s.seq + 1, hash = sha256(s.hash || $2)
    RETURNING seq, hash
), entry AS (
    INSERT INTO events (
        user_id, seq, hash, id, task_id, version, type, at, actor, data,
        request_id, client_address, client_agent, idempotency_key, fingerprint, salt
    )
    SELECT $1, seq, hash, $3, $4, $5, $6, $7, $8, $9::jsonb, $10, $11, $12, $13, $14, $15 FROM stream
), upserted AS (
    INSERT INTO tasks (user_id, id, title, description, completed, created_at, updated_at, version)
    SELECT $1, $4, $17, $18, $19, $20, $7, $5 FROM stream WHERE NOT $16::boolean
    ON CONFLICT (user_id, id) DO UPDATE SET
        title = excluded.title, description = excluded.description, completed = excluded.completed,
        created_at = excluded.created_at, updated_at = excluded.updated_at, version = excluded.version
), deleted AS (
    DELETE FROM tasks USING stream WHERE $16::boolean AND tasks.user_id = $1 AND tasks.id = $4 RETURNING tasks.id
)
SELECT seq, hash, {_DURABLY},
    1 / CASE WHEN $16::boolean AND $21::boolean THEN (SELECT count(*) FROM deleted) ELSE 1 END
FROM stream
"""  # noqa: S608 - a constant fragment


async def append(connection: Connection, event: Event, task: Task | None, *, on_row: bool = True) -> RecordedEvent:
    """Write the event, and upsert `task`, the state after it, in the projection (`None`: delete its row).

    `on_row` says that the event was decided on the task's row. Takes one round trip, and is atomic on its own or within
    the caller's transaction. Raise `VersionConflict` or `IdempotencyKeyTaken`: then this try has written nothing.
    """
    try:
        row = await connection.fetchrow(APPEND, *_arguments(PendingAppend(event, task, on_row)))
    except asyncpg.UniqueViolationError as error:
        raise _conflict(error) or error from error
    except (
        asyncpg.DivisionByZeroError,  # the statement refused
        asyncpg.SerializationError,  # this and the next: the database's default isolation is stricter than ours
        asyncpg.DeadlockDetectedError,
    ) as error:
        raise VersionConflict(str(error)) from error
    assert row is not None  # noqa: S101 - the upsert always returns its row
    return RecordedEvent(row["seq"], row["hash"], event)


def _arguments(pending: PendingAppend) -> tuple[Any, ...]:
    """Return the arguments of `APPEND`, in order. Those of several appends are the rows of `APPEND_MANY`'s input."""
    event, task, on_row = pending
    metadata = event.metadata
    data = encode(event.payload)
    return (
        event.user_id,
        hash_chain.digest(header(event), data, meta(metadata), event.salt),
        event.id,
        event.task_id,
        event.version,
        type(event.payload).__name__,
        event.at,
        event.actor,
        orjson.dumps(data).decode(),
        metadata.request_id,
        metadata.client_address,
        metadata.client_agent,
        metadata.idempotency_key,
        metadata.fingerprint,
        event.salt,
        task is None,
        task and task.title,
        task and task.description,
        task and task.completed,
        task and task.created_at,
        on_row,
    )


# APPEND for many events at once. Each user's events are adjacent: $23 is the position of the first, $24 of the last.
# A user is left out if another transaction has locked their stream, so that no user waits for another, or if they have
# no stream. FOR UPDATE reads the newest version of a stream, however long ago the statement began. Each deletion that
# was decided on a row must delete one, as above.
_APPEND_MANY = """
WITH RECURSIVE input AS MATERIALIZED (
    SELECT * FROM unnest(
        $1::text[], $2::bytea[], $3::uuid[], $4::uuid[], $5::integer[], $6::text[], $7::timestamptz[], $8::text[],
        $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::bytea[], $15::bytea[],
        $16::boolean[], $17::text[], $18::text[], $19::boolean[], $20::timestamptz[], $21::boolean[]
    ) WITH ORDINALITY AS input (
        user_id, digest, id, task_id, version, type, at, actor, data, request_id, client_address, client_agent,
        idempotency_key, fingerprint, salt, deleted, title, description, completed, created_at, on_row, n
    )
), writers AS (
    SELECT * FROM unnest($22::text[], $23::integer[], $24::integer[]) AS writers (user_id, first, last)
), held AS (
    SELECT user_id, seq, hash FROM streams WHERE user_id = ANY ($22) FOR UPDATE{locked}
), begun AS (
    SELECT writers.user_id, first, last, seq, hash FROM writers, held WHERE writers.user_id = held.user_id{new}
), chained AS (
    SELECT user_id, first AS n, last, seq + 1 AS seq, sha256(hash || ($2::bytea[])[first]) AS hash FROM begun
    UNION ALL
    SELECT user_id, n + 1, last, seq + 1, sha256(hash || ($2::bytea[])[n + 1]) FROM chained WHERE n < last
), stream AS (
    INSERT INTO streams AS s (user_id, seq, hash)
    SELECT user_id, seq, hash FROM chained WHERE n = last ORDER BY user_id
    ON CONFLICT (user_id) DO UPDATE SET seq = excluded.seq, hash = excluded.hash
    WHERE s.user_id = ANY (SELECT user_id FROM held)
    RETURNING user_id
), entry AS (
    INSERT INTO events (
        user_id, seq, hash, id, task_id, version, type, at, actor, data,
        request_id, client_address, client_agent, idempotency_key, fingerprint, salt
    )
    SELECT input.user_id, chained.seq, chained.hash, id, task_id, version, type, at, actor, data::jsonb,
           request_id, client_address, client_agent, idempotency_key, fingerprint, salt
    FROM stream, chained, input WHERE chained.user_id = stream.user_id AND input.n = chained.n
), upserted AS (
    INSERT INTO tasks (user_id, id, title, description, completed, created_at, updated_at, version)
    SELECT input.user_id, task_id, title, description, completed, created_at, at, version
    FROM stream, input WHERE input.user_id = stream.user_id AND NOT deleted
    ON CONFLICT (user_id, id) DO UPDATE SET
        title = excluded.title, description = excluded.description, completed = excluded.completed,
        created_at = excluded.created_at, updated_at = excluded.updated_at, version = excluded.version
), deleted AS (
    DELETE FROM tasks USING stream, input
    WHERE tasks.user_id = ANY ($22) AND input.user_id = stream.user_id AND deleted
      AND tasks.user_id = input.user_id AND tasks.id = input.task_id
    RETURNING on_row
)
SELECT chained.n, chained.seq, chained.hash, {durably}, 1 / CASE WHEN (SELECT count(*) FROM deleted WHERE on_row) = (
    SELECT count(*) FROM stream, input WHERE input.user_id = stream.user_id AND deleted AND on_row
) THEN 1 ELSE 0 END
FROM stream, chained WHERE chained.user_id = stream.user_id
"""
# A first event may have to wait for another process's first one. So it goes alone, or two processes could deadlock.
_new = """
    UNION ALL
    SELECT user_id, first, last, 0, ''::bytea FROM writers WHERE NOT EXISTS (SELECT FROM held)"""
APPEND_MANY = {
    False: _APPEND_MANY.format(locked=" SKIP LOCKED", new="", durably=_DURABLY),
    True: _APPEND_MANY.format(locked="", new=_new, durably=_DURABLY),
}


async def append_many(
    connection: Connection, appends: Sequence[PendingAppend], *, wait: bool
) -> Mapping[UUID, RecordedEvent]:
    """Append many events, no two of one task or of one user and key; return the written ones by event id.

    A user's events are all written, in their order, or none is, because they have no stream yet or another writer holds
    its lock. With `wait`, which is for a single user, the statement waits for the lock. Raise the database's errors,
    even if only one event can't be written: then no event is.
    """
    by_user: dict[str, list[PendingAppend]] = {}
    for pending in appends:
        by_user.setdefault(pending.event.user_id, []).append(pending)
    ordered = [pending for of_user in by_user.values() for pending in of_user]
    last = list(accumulate(len(of_user) for of_user in by_user.values()))
    first = [1, *(number + 1 for number in last[:-1])]
    columns = zip(*map(_arguments, ordered), strict=True)
    written: dict[UUID, RecordedEvent] = {}
    for n, seq, hash_, *_ in await connection.fetch(APPEND_MANY[wait], *columns, list(by_user), first, last):
        event = ordered[n - 1].event
        written[event.id] = RecordedEvent(seq, hash_, event)
    return written


_CONFLICTS = {
    "events_task_version_key": VersionTaken,
    "events_idempotency_key": IdempotencyKeyTaken,
}
# A violation names the partition's constraint (events_p07_…), or the shard's on a sharded database (…_102008).
_PARTITION_OR_SHARD = re.compile(r"(?<=^events)_p\d\d|_\d+$")


def _conflict(error: asyncpg.UniqueViolationError) -> Conflict | None:
    name = _PARTITION_OR_SHARD.sub("", error.constraint_name or "")
    conflict = _CONFLICTS.get(name)
    return conflict(error.detail) if conflict else None


# If the client disappears, which the network may not tell the server, the server ends its transaction and so its lock.
LOCK_STREAM = """
SELECT seq, set_config('idle_in_transaction_session_timeout', '10s', true)
FROM streams WHERE user_id = $1 FOR UPDATE
"""


async def lock_stream(connection: Connection, user_id: str) -> int:
    """Lock a user's stream until the transaction ends, and return the number of the last event (0: none)."""
    seq: int | None = await connection.fetchval(LOCK_STREAM, user_id)
    return seq or 0


# As text, Python would take up to four bytes for every character, by the widest one; as UTF-8, it takes one for most.
COLUMNS = """user_id, seq, hash, id, task_id, version, type, at, actor, convert_to(data::text, 'UTF8') AS data,
       request_id, client_address, client_agent, idempotency_key, fingerprint, salt"""
"""Columns of `events` that `events.serialization.from_row` and `events.records` need."""

READ_BATCH = 200
"""Number of events read at once: enough to make round trips cheap, and 12 MB if all are of the largest size."""


HEAD = "SELECT seq, hash FROM streams WHERE user_id = $1"


HEADS = "SELECT user_id, seq, hash FROM streams WHERE user_id = ANY ($1)"


async def head(database: Executor, user_id: str) -> hash_chain.Head:
    """Read the number and hash of a user's last event. On a pool, this goes through a batch loader."""
    if isinstance(database, Pool) and not database.sharded:
        found = await database.companion(_heads).get(user_id)
    else:
        row = await database.fetchrow(HEAD, user_id)
        found = None if row is None else hash_chain.Head(*row)
    return found or hash_chain.Head()


HASH = "SELECT hash FROM events WHERE user_id = $1 AND seq = $2"


async def hash_of(database: Executor, user_id: str, seq: int) -> bytes:
    """Read the hash of a user's event number `seq`; for number 0, return the hash that the chain begins with."""
    return await database.fetchval(HASH, user_id, seq) or hash_chain.GENESIS


READ = f"""
SELECT {COLUMNS} FROM events
WHERE user_id = $1 AND seq > $2 AND seq <= $3 AND at <= coalesce($4::timestamptz, 'infinity')
ORDER BY seq LIMIT $5
"""  # noqa: S608 - a constant fragment


async def read(
    database: Executor, user_id: str, *, upto: int, at: datetime | None = None
) -> AsyncIterator[RecordedEvent]:
    """Read a user's events in order, up to and with number `upto` and none after the moment `at`, in constant memory.

    They are read batch by batch, without a transaction, since the log's events never change. On a pool, a connection is
    held only while a batch is fetched. Raise `UnknownEvent` (events.serialization).
    """
    seq = 0
    while rows := await database.fetch(READ, user_id, seq, upto, at, READ_BATCH):
        for row in rows:
            yield _recorded(row)
        seq = rows[-1]["seq"]


HISTORY = f"""
SELECT {COLUMNS} FROM events
WHERE user_id = $1 AND task_id = $2 AND version > $3
  AND version <= coalesce($4::integer, 2147483647) AND at <= coalesce($5::timestamptz, 'infinity')
ORDER BY version LIMIT $6
"""  # noqa: S608 - a constant fragment


async def history(
    database: Executor,
    user_id: str,
    task_id: UUID,
    *,
    after: int = 0,
    version: int | None = None,
    at: datetime | None = None,
) -> AsyncGenerator[RecordedEvent, None]:
    """Read a task's events in order, after version `after`, up to and with `version` and the moment `at`.

    They are read batch by batch, as by `read`. On a pool, the reader holds a turn of `LongReads` from the second batch
    on: close the iterator (`aclosing`) to give it back early. Raise `UnknownEvent` (events.serialization) or
    `TooManyRequests`.
    """
    seen, slices = after, TimeSlices(user_id)
    async with AsyncExitStack() as turn:
        while rows := await database.fetch(HISTORY, user_id, task_id, seen, version, at, READ_BATCH):
            for row in rows:
                yield _recorded(row)
                await slices.pause()
            if len(rows) < READ_BATCH:
                return
            if isinstance(database, Pool) and seen == after:
                await turn.enter_async_context(database.companion(LongReads).turn(user_id))
            seen = rows[-1]["version"]
            del row, rows  # before the next batch is fetched


LAST = "SELECT type FROM events WHERE user_id = $1 AND task_id = $2 ORDER BY version DESC LIMIT 1"


async def is_there(database: Executor, user_id: str, task_id: UUID) -> bool:
    """Say if the task exists by the log: it has events, and the last one isn't its deletion."""
    last: str | None = await database.fetchval(LAST, user_id, task_id)
    return last not in (None, TaskDeleted.__name__)


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


def _heads(pool: Pool) -> BatchLoader[str, hash_chain.Head]:
    return BatchLoader(pool, _read_heads, user_of=str)


async def _read_heads(pool: Pool, users: Sequence[str]) -> Mapping[str, hash_chain.Head]:
    return {row["user_id"]: hash_chain.Head(row["seq"], row["hash"]) for row in await pool.fetch(HEADS, users)}
