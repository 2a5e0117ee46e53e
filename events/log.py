"""The log: append an event and post it to the projection, lock a user's stream, read events back, find one."""

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
    """The log already holds what this append wanted to write."""


class VersionConflict(Conflict):
    """Another writer was first, or a rebuild: the task's row isn't what the event was decided on."""


class VersionTaken(VersionConflict):
    """Another event has this task's version: this one can never be in the log."""


class IdempotencyKeyTaken(Conflict):
    """The log already holds another event with this user's idempotency key: this one can never be in it."""


class Posting(NamedTuple):
    """An event to append, the task after it (`None`: struck), and whether the task's row was what it was decided on."""

    event: Event
    task: Task | None
    on_row: bool


class Head(NamedTuple):
    """The number and hash of a user's last event; 0 and nothing if there is none."""

    seq: int
    hash: bytes


NOTHING = Head(0, hash_chain.GENESIS)


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """An event in its place: number `seq` of its user's log, `hash` the chain up to and with it (32 bytes)."""

    seq: int
    hash: bytes
    event: Event


# What is acknowledged must be there after a crash, also where the server, the database or the role has it otherwise by
# default. Stricter settings stay; and it holds for the transaction, so that a pooler may lie in between.
_DURABLY = """
    CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', true) END
"""

# One statement, so one round trip and one transaction. Each step reads FROM stream, so that the row lock on the
# user's stream is taken first, always: it is what serialises one user's writes, and what keeps them free of deadlocks.
# Never ON CONFLICT DO NOTHING on events: it would answer success for an event that was not written.
# The statement sees the tasks as they were when it began. A rebuild that held the lock meanwhile may have posted the
# row anew, which then would not be struck: so a deletion that was decided on a row must strike one, and divides by zero
# where it doesn't, which is how plain SQL refuses.
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
), posted AS (
    INSERT INTO tasks (user_id, id, title, description, completed, created_at, updated_at, version)
    SELECT $1, $4, $17, $18, $19, $20, $7, $5 FROM stream WHERE NOT $16::boolean
    ON CONFLICT (user_id, id) DO UPDATE SET
        title = excluded.title, description = excluded.description, completed = excluded.completed,
        created_at = excluded.created_at, updated_at = excluded.updated_at, version = excluded.version
), struck AS (
    DELETE FROM tasks USING stream WHERE $16::boolean AND tasks.user_id = $1 AND tasks.id = $4 RETURNING tasks.id
)
SELECT seq, hash, {_DURABLY},
    1 / CASE WHEN $16::boolean AND $21::boolean THEN (SELECT count(*) FROM struck) ELSE 1 END
FROM stream
"""  # noqa: S608 - a constant fragment


async def append(connection: Connection, event: Event, task: Task | None, *, on_row: bool = True) -> RecordedEvent:
    """Write the event and post `task`, the state after it (`None`: struck), to the projection.

    `on_row` says that the task's row was what the event was decided on. One round trip; atomic on its own or within the
    caller's transaction. Raises `VersionConflict` or `IdempotencyKeyTaken`: then this try has written nothing.
    """
    try:
        row = await connection.fetchrow(APPEND, *_arguments(Posting(event, task, on_row)))
    except asyncpg.UniqueViolationError as error:
        raise _conflict(error) or error from error
    except (
        asyncpg.DivisionByZeroError,  # as the statement refuses
        asyncpg.SerializationError,  # these two: stricter isolation than ours is set as the database's default
        asyncpg.DeadlockDetectedError,
    ) as error:
        raise VersionConflict(str(error)) from error
    assert row is not None  # noqa: S101 - the upsert always returns its row
    return RecordedEvent(row["seq"], row["hash"], event)


def _arguments(posting: Posting) -> tuple[Any, ...]:
    """Those of `APPEND`; of `TOGETHER` they are the columns."""
    event, task, on_row = posting
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


# The same for many events at once. Of each user's, $23 is the first number and $24 the last: they stand together.
# A user whose stream is locked by another is left out, so that nobody waits for somebody else; and so is one who has
# none. What is locked here is as new as it gets, whenever the statement began. Each
# deletion that was decided on a row must strike one, as above.
_TOGETHER = """
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
), posted AS (
    INSERT INTO tasks (user_id, id, title, description, completed, created_at, updated_at, version)
    SELECT input.user_id, task_id, title, description, completed, created_at, at, version
    FROM stream, input WHERE input.user_id = stream.user_id AND NOT deleted
    ON CONFLICT (user_id, id) DO UPDATE SET
        title = excluded.title, description = excluded.description, completed = excluded.completed,
        created_at = excluded.created_at, updated_at = excluded.updated_at, version = excluded.version
), struck AS (
    DELETE FROM tasks USING stream, input
    WHERE tasks.user_id = ANY ($22) AND input.user_id = stream.user_id AND deleted
      AND tasks.user_id = input.user_id AND tasks.id = input.task_id
    RETURNING on_row
)
SELECT chained.n, chained.seq, chained.hash, {durably}, 1 / CASE WHEN (SELECT count(*) FROM struck WHERE on_row) = (
    SELECT count(*) FROM stream, input WHERE input.user_id = stream.user_id AND deleted AND on_row
) THEN 1 ELSE 0 END
FROM stream, chained WHERE chained.user_id = stream.user_id
"""
# A first event may have to wait for another process's first one: only alone, or two processes wait for each other.
_new = """
    UNION ALL
    SELECT user_id, first, last, 0, ''::bytea FROM writers WHERE NOT EXISTS (SELECT FROM held)"""
TOGETHER = {
    False: _TOGETHER.format(locked=" SKIP LOCKED", new="", durably=_DURABLY),
    True: _TOGETHER.format(locked="", new=_new, durably=_DURABLY),
}


async def append_together(
    connection: Connection, postings: Sequence[Posting], *, wait: bool
) -> Mapping[UUID, RecordedEvent]:
    """Append many events, of which no two have the same task or the same user and key; those written, by their ids.

    All events of a user are written, in their order, or none is: where they have no log yet, or another writer is at
    work on it. With `wait`, which is for a single user, that is waited for. Raises what the database does, also where
    one event alone can't be written: then none of them is.
    """
    by_user: dict[str, list[Posting]] = {}
    for posting in postings:
        by_user.setdefault(posting.event.user_id, []).append(posting)
    ordered = [posting for of_user in by_user.values() for posting in of_user]
    last = list(accumulate(len(of_user) for of_user in by_user.values()))
    first = [1, *(number + 1 for number in last[:-1])]
    columns = zip(*map(_arguments, ordered), strict=True)
    written: dict[UUID, RecordedEvent] = {}
    for n, seq, hash_, *_ in await connection.fetch(TOGETHER[wait], *columns, list(by_user), first, last):
        event = ordered[n - 1].event
        written[event.id] = RecordedEvent(seq, hash_, event)
    return written


_CONFLICTS = {
    "events_task_version_key": VersionTaken,
    "events_idempotency_key": IdempotencyKeyTaken,
}
# A violation names the partition's constraint (events_p07_…), on a sharded database the shard's (…_102008).
_PARTITION_OR_SHARD = re.compile(r"(?<=^events)_p\d\d|_\d+$")


def _conflict(error: asyncpg.UniqueViolationError) -> Conflict | None:
    name = _PARTITION_OR_SHARD.sub("", error.constraint_name or "")
    conflict = _CONFLICTS.get(name)
    return conflict(error.detail) if conflict else None


# The server ends the transaction, and so the lock, of whoever isn't heard of any more: the network may not tell it.
LOCK_STREAM = """
SELECT seq, set_config('idle_in_transaction_session_timeout', '10s', true)
FROM streams WHERE user_id = $1 FOR UPDATE
"""


async def lock_stream(connection: Connection, user_id: str) -> int:
    """Hold back all other writers of this user until the transaction ends; the number of their last event (0: none)."""
    seq: int | None = await connection.fetchval(LOCK_STREAM, user_id)
    return seq or 0


# Python takes up to four bytes for each character of a text, by its widest; of UTF-8, one each.
COLUMNS = """user_id, seq, hash, id, task_id, version, type, at, actor, convert_to(data::text, 'UTF8') AS data,
       request_id, client_address, client_agent, idempotency_key, fingerprint, salt"""
"""What `events.serialization.from_row` and `events.records` want of a row."""

BATCH = 200
"""Events read at once: enough to make round trips cheap, and 12 MB where all are as large as they can be."""


HEAD = "SELECT seq, hash FROM streams WHERE user_id = $1"


HEADS = "SELECT user_id, seq, hash FROM streams WHERE user_id = ANY ($1)"


async def head(database: Executor, user_id: str) -> Head:
    """Tell the number and hash of a user's last event. From a pool, with what others ask at the same time."""
    if isinstance(database, Pool) and not database.sharded:
        found = await database.companion(_heads).get(user_id)
    else:
        row = await database.fetchrow(HEAD, user_id)
        found = None if row is None else Head(*row)
    return found or NOTHING


HASH = "SELECT hash FROM events WHERE user_id = $1 AND seq = $2"


async def hash_of(database: Executor, user_id: str, seq: int) -> bytes:
    """Tell the hash of a user's event number `seq`; of number 0, what the chain begins with."""
    return await database.fetchval(HASH, user_id, seq) or hash_chain.GENESIS


READ = f"""
SELECT {COLUMNS} FROM events
WHERE user_id = $1 AND seq > $2 AND seq <= $3 AND at <= coalesce($4::timestamptz, 'infinity')
ORDER BY seq LIMIT $5
"""  # noqa: S608 - a constant fragment


async def read(
    database: Executor, user_id: str, *, upto: int, at: datetime | None = None
) -> AsyncIterator[RecordedEvent]:
    """A user's events in order, up to and with number `upto` and none after the moment `at`, in constant memory.

    Batch by batch, which needs no transaction: what is in the log never changes. From a pool, the connection is only
    held while a batch is fetched. Raises `UnknownEvent` (events.serialization).
    """
    seq = 0
    while rows := await database.fetch(READ, user_id, seq, upto, at, BATCH):
        for row in rows:
            yield _entry(row)
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
    """A task's events in order, behind version `after`, up to and with `version` and the moment `at`.

    Batch by batch, as `read` does. If there is more than one, and they come from a pool, the reader holds a turn of
    `LongReads` from then on: close the iterator (`aclosing`) to give it back early. Raises `UnknownEvent`
    (events.serialization) or `TooManyRequests`.
    """
    seen, slices = after, TimeSlices(user_id)
    async with AsyncExitStack() as turn:
        while rows := await database.fetch(HISTORY, user_id, task_id, seen, version, at, BATCH):
            for row in rows:
                yield _entry(row)
                await slices.pause()
            if len(rows) < BATCH:
                return
            if isinstance(database, Pool) and seen == after:
                await turn.enter_async_context(database.companion(LongReads).turn(user_id))
            seen = rows[-1]["version"]
            del row, rows  # before the next batch is fetched


LAST = "SELECT type FROM events WHERE user_id = $1 AND task_id = $2 ORDER BY version DESC LIMIT 1"


async def is_there(database: Executor, user_id: str, task_id: UUID) -> bool:
    """Whether there is such a task by the log: its last event isn't its deletion."""
    last: str | None = await database.fetchval(LAST, user_id, task_id)
    return last not in (None, TaskDeleted.__name__)


FIND = f"SELECT {COLUMNS} FROM events WHERE user_id = $1 AND idempotency_key = $2"  # noqa: S608 - a constant fragment


async def find(database: Executor, user_id: str, idempotency_key: str) -> RecordedEvent | None:
    """The event that the request with this key left, if there is one. Raises `UnknownEvent` (events.serialization)."""
    row = await database.fetchrow(FIND, user_id, idempotency_key)
    return None if row is None else _entry(row)


def _entry(row: Row) -> RecordedEvent:
    return RecordedEvent(row["seq"], row["hash"], from_row(row))


PLACE = "SELECT seq, hash FROM events WHERE user_id = $1 AND task_id = $2 AND version = $3 AND id = $4"


async def entered(database: Executor, event: Event) -> RecordedEvent | None:
    """Find this very event in the log; `None` if it isn't there."""
    row = await database.fetchrow(PLACE, event.user_id, event.task_id, event.version, event.id)
    return None if row is None else RecordedEvent(row["seq"], row["hash"], event)


def _heads(pool: Pool) -> BatchLoader[str, Head]:
    return BatchLoader(pool, _heads_together, user_of=str)


async def _heads_together(pool: Pool, users: Sequence[str]) -> Mapping[str, Head]:
    return {row["user_id"]: Head(row["seq"], row["hash"]) for row in await pool.fetch(HEADS, users)}
