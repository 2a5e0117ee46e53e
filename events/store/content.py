"""Erasure of content: the statements that find it, and that erase it."""

from collections.abc import Awaitable, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg
import orjson
from asyncpg import Record

from db.pool import Executor
from db.time_slices import TimeSlices
from events.hash_chain import inner_digest
from events.serialization import Row, meta_of
from events.store.log import COLUMN_NAMES, COLUMNS, Batched, batched, in_batches
from events.task import ERASURE_TYPES, NO_TASK


class ErasureRefused(Exception):
    """Content that can't be erased, since these events aren't as they were written. All else was erased."""

    def __init__(self, user_id: str, seqs: Sequence[int]) -> None:
        numbers = ", ".join(map(str, seqs[:_NAMED])) + (", …" if len(seqs) > _NAMED else "")
        super().__init__(
            f"the database refuses to erase {len(seqs)} events of {user_id!r} ({numbers}): they aren't as they were "
            "written. All others are erased. `daybook verify` tells more"
        )


_NAMED = 10
"""Largest number of events that an `ErasureRefused` names."""


class LastEvent(NamedTuple):
    """The last event of a task: its version and its time."""

    task_id: UUID
    version: int
    at: datetime


# DISTINCT ON stops at the limit, since an index has the events in order of their tasks.
NOT_ERASED = """
SELECT task_id, version, at FROM (
    SELECT DISTINCT ON (task_id) task_id, version, type, at FROM events
    WHERE user_id = $1 AND task_id > $2 ORDER BY task_id, version DESC
) AS last
WHERE type <> 'TaskErased' LIMIT $3
"""


async def tasks_not_erased(database: Executor, user_id: str, *, after: UUID, limit: int) -> Sequence[LastEvent]:
    """Find tasks that aren't recorded as erased, deleted ones too, in order of their ids behind `after`."""
    return [LastEvent(*row) for row in await database.fetch(NOT_ERASED, user_id, after, limit)]


NOT_ERASED_SINCE = f"""
SELECT task_id, version, at FROM (
    SELECT DISTINCT ON (task_id) task_id, version, type, at FROM events
    WHERE user_id = $1 AND seq > $2 AND task_id <> '{NO_TASK}' ORDER BY task_id, version DESC
) AS last
WHERE type <> 'TaskErased'
"""  # noqa: S608 - a constant


async def tasks_not_erased_since(database: Executor, user_id: str, seq: int) -> Sequence[LastEvent]:
    """Find tasks with events after number `seq` that aren't recorded as erased."""
    return [LastEvent(*row) for row in await database.fetch(NOT_ERASED_SINCE, user_id, seq)]


LAST_OF_USER = f"""
SELECT version, at FROM events WHERE user_id = $1 AND task_id = '{NO_TASK}' ORDER BY version DESC LIMIT 1
"""  # noqa: S608 - a constant


async def last_of_user(database: Executor, user_id: str) -> LastEvent | None:
    """Find the last event that is about the user as a whole."""
    row = await database.fetchrow(LAST_OF_USER, user_id)
    return None if row is None else LastEvent(NO_TASK, *row)


_CONTENT_OF_TASK = f"""
SELECT {COLUMNS} FROM events
WHERE user_id = $1 AND task_id = $2 AND version > $3 AND personal IS NULL AND type <> ALL ($4)
ORDER BY version LIMIT $5
"""  # noqa: S608 - a constant fragment
CONTENT_OF_TASK = batched(COLUMN_NAMES, _CONTENT_OF_TASK, order="version")

_CONTENT_OF_USER = f"""
SELECT {COLUMNS} FROM events
WHERE user_id = $1 AND seq < $2 AND seq > $3 AND personal IS NULL AND type <> ALL ($4)
ORDER BY seq LIMIT $5
"""  # noqa: S608 - a constant fragment
CONTENT_OF_USER = batched(COLUMN_NAMES, _CONTENT_OF_USER, order="seq")

ERASE = "SELECT daybook_erase($1, $2, $3)"


async def erase_content_of_task(database: Executor, user_id: str, task_id: UUID) -> int:
    """Erase the content of a task's events, some at a time, and return their number. Its last must be `TaskErased`.

    Content that was erased before is left as it is: an erasure that was interrupted is gone on with. Raise
    `ErasureRefused` at the end if the content of damaged events is still there.
    """
    return await _erase_all(database, CONTENT_OF_TASK, "version", user_id, task_id)


async def erase_content_of_user(database: Executor, user_id: str, *, before: int) -> int:
    """Erase the content of all events before number `before`, as of a task's. All tasks must be recorded as erased."""
    return await _erase_all(database, CONTENT_OF_USER, "seq", user_id, before)


async def _erase_all(database: Executor, statement: Batched, place: str, user_id: str, of: UUID | int) -> int:
    """Erase the content of the events that the statement finds, batch by batch behind the last one's `place`."""

    def fetch(form: str, last: Record | None, limit: int) -> Awaitable[Sequence[Record]]:
        return database.fetch(form, user_id, of, 0 if last is None else last[place], ERASURE_TYPES, limit)

    erased, refused = 0, list[int]()
    async for rows in in_batches(statement, fetch):
        erased += await _erase(database, user_id, rows, refused)
    if refused:
        raise ErasureRefused(user_id, refused)
    return erased


async def _erase(database: Executor, user_id: str, rows: Sequence[Row], refused: list[int]) -> int:
    """Erase the content of these events, and return their number. Add those that can't be to `refused`.

    If the database refuses one of them, none is erased, so that each is tried on its own.
    """
    slices = TimeSlices(user_id)
    seqs, digests = [], []
    for row in rows:
        try:
            digests.append(content_digest(row))
            seqs.append(row["seq"])
        except (ValueError, TypeError):  # damaged: JSON that orjson can't read or write
            refused.append(row["seq"])
        await slices.pause()
    try:
        return int(await database.fetchval(ERASE, user_id, seqs, digests))
    except asyncpg.RestrictViolationError:
        erased = 0
    for seq, digest in zip(seqs, digests, strict=True):
        try:
            erased += await database.fetchval(ERASE, user_id, [seq], [digest])
        except asyncpg.RestrictViolationError:
            refused.append(seq)
    return erased


def content_digest(row: Row) -> bytes:
    """Compute the inner digest of an event from its row."""
    metadata = meta_of(
        row["request_id"], row["client_address"], row["client_agent"], row["idempotency_key"], row["fingerprint"]
    )
    return inner_digest(orjson.loads(row["data"]), metadata, row["salt"])
