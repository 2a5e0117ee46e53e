"""The log: append an event and post it to the projection, lock a user's journal, read events back."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import orjson

from db.pool import Connection
from events import chain
from events.codec import encode, from_row
from events.task import Event, Task


class Conflict(Exception):
    """The log already holds what this append wanted to write."""


class VersionConflict(Conflict):
    """Another writer was first: the log already holds this version of the task."""


class IdempotencyKeyTaken(Conflict):
    """The log already holds an event with this user's idempotency key."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An event in its place: number `seq` of its user's log, `hash` the chain up to and with it (32 bytes)."""

    seq: int
    hash: bytes
    event: Event


# One statement, so one round trip and one transaction. Each step reads FROM journal, so that the row lock on the
# user's journal is taken first, always: it is what serialises one user's writes, and what keeps them free of deadlocks.
# Never ON CONFLICT DO NOTHING on events: it would answer success for an event that was not written.
APPEND = """
WITH journal AS (
    INSERT INTO journals AS j (user_id, seq, hash) VALUES ($1, 1, sha256($2))
    ON CONFLICT (user_id) DO UPDATE SET seq = j.seq + 1, hash = sha256(j.hash || $2)
    RETURNING seq, hash
), entry AS (
    INSERT INTO events (
        user_id, seq, hash, id, task_id, version, type, at, actor, data,
        request_id, client_address, client_agent, idempotency_key, fingerprint, salt
    )
    SELECT $1, seq, hash, $3, $4, $5, $6, $7, $8, $9::jsonb, $10, $11, $12, $13, $14, $15 FROM journal
), posted AS (
    INSERT INTO tasks (user_id, id, title, description, completed, created_at, updated_at, version)
    SELECT $1, $4, $17, $18, $19, $20, $7, $5 FROM journal WHERE NOT $16::boolean
    ON CONFLICT (user_id, id) DO UPDATE SET
        title = excluded.title, description = excluded.description, completed = excluded.completed,
        updated_at = excluded.updated_at, version = excluded.version
), struck AS (
    DELETE FROM tasks USING journal WHERE $16::boolean AND tasks.user_id = $1 AND tasks.id = $4
)
SELECT seq, hash FROM journal
"""


async def append(connection: Connection, event: Event, task: Task | None) -> Entry:
    """Write the event and post `task`, the state after it (`None`: struck), to the projection.

    One round trip; atomic on its own or within the caller's transaction. Raises `VersionConflict` or
    `IdempotencyKeyTaken` (nothing is written then).
    """
    origin = event.origin
    try:
        row = await connection.fetchrow(
            APPEND,
            event.user_id,
            chain.digest(event),
            event.id,
            event.task_id,
            event.version,
            type(event.fact).__name__,
            event.at,
            event.actor,
            orjson.dumps(encode(event.fact)).decode(),
            origin.request_id,
            origin.client_address,
            origin.client_agent,
            origin.idempotency_key,
            origin.fingerprint,
            event.salt,
            task is None,
            task and task.title,
            task and task.description,
            task and task.completed,
            task and task.created_at,
        )
    except asyncpg.UniqueViolationError as error:
        raise _conflict(error) or error from error
    except asyncpg.TransactionRollbackError as error:  # stricter isolation than ours is set as the database's default
        raise VersionConflict(str(error)) from error
    assert row is not None  # noqa: S101 - the upsert always returns its row
    return Entry(row["seq"], row["hash"], event)


_CONFLICTS = {
    "events_task_version_key": VersionConflict,
    "events_idempotency_key": IdempotencyKeyTaken,
}
# A violation names the partition's constraint (events_p07_…), on a sharded database the shard's (…_102008).
_PARTITION_OR_SHARD = re.compile(r"(?<=^events)_p\d\d|_\d+$")


def _conflict(error: asyncpg.UniqueViolationError) -> Conflict | None:
    name = _PARTITION_OR_SHARD.sub("", error.constraint_name or "")
    conflict = _CONFLICTS.get(name)
    return conflict(error.detail) if conflict else None


LOCK_JOURNAL = "SELECT seq FROM journals WHERE user_id = $1 FOR UPDATE"


async def lock_journal(connection: Connection, user_id: str) -> int:
    """Hold back all other writers of this user until the transaction ends; the number of their last event (0: none)."""
    seq: int | None = await connection.fetchval(LOCK_JOURNAL, user_id)
    return seq or 0


READ = """
SELECT user_id, seq, hash, id, task_id, version, type, at, actor, data::text AS data,
       request_id, client_address, client_agent, idempotency_key, fingerprint, salt
FROM events WHERE user_id = $1 ORDER BY seq
"""


async def read(connection: Connection, user_id: str) -> AsyncIterator[Entry]:
    """A user's events in order, through a cursor: in constant memory, and only within a transaction."""
    async for row in connection.cursor(READ, user_id, prefetch=500):
        yield Entry(row["seq"], row["hash"], from_row(row))


LOAD = """
SELECT id, user_id, title, description, completed, created_at, updated_at, version
FROM tasks WHERE user_id = $1 AND id = $2
"""


async def load(connection: Connection, user_id: str, task_id: UUID) -> Task | None:
    """The task as posted: its snapshot, never stale, since it is written with its last event."""
    row = await connection.fetchrow(LOAD, user_id, task_id)
    return None if row is None else Task(**row)
