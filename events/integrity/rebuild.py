"""Rebuild of the projection: write the rows that differ from the log, while the service takes writes."""

import re
from collections import Counter
from collections.abc import Container, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import NamedTuple
from uuid import UUID

import asyncpg

from db.pool import Connection
from events.integrity import reads
from events.integrity.mismatch import Mismatch
from events.integrity.replay import Fold, compare
from events.integrity.verify import verify
from events.integrity.work_units import BATCH, StreamSize, split
from events.projection import TaskRow
from events.store import log
from events.store.stored_tasks import TaskKey


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The counts of a rebuild: users and events read, and rows of `tasks` written, removed and found right.

    The users in `mismatches` have a log that isn't as it was written: their rows were left as they are. `unverified` is
    the number of users with a log that was folded without computing its hashes, since they had no rows.
    """

    users: int = 0
    events: int = 0
    written: int = 0
    removed: int = 0
    right: int = 0
    unverified: int = 0
    mismatches: list[Mismatch] = field(default_factory=list)


class _Numbers(NamedTuple):
    """The count of a user's folded events, and the number of the last one."""

    events: int
    last: int


async def rebuild(connection: Connection, streams: Sequence[StreamSize]) -> Rebuilt:
    """Make these users' rows of `tasks` equal to the tasks that their logs fold to; write only rows that differ.

    Batch by batch, the log is read and folded without a lock. Then the batch's streams are locked, events appended
    meanwhile are folded too, and rows are compared and written. Writes of these users may wait for that long. Each
    batch is a transaction, so an interrupted rebuild leaves every finished batch right.

    If a user has rows, the hash chain is verified first: no row changes because of a log that was tampered with. If
    they have none, no row can be lost, and rows come back sooner: the log must be numbered without a gap and must fold,
    but its hashes aren't computed. Raise the connection's errors.
    """
    with_tasks = await reads.users_with_tasks(connection, [stream.user_id for stream in streams])
    to_verify = [stream for stream in streams if stream.user_id in with_tasks]
    found = (await verify(connection, to_verify, log_only=True)).mismatches
    refused = {each.user_id for each in found}
    parts = [Rebuilt(users=len(refused), mismatches=found)]
    for batch in split((stream for stream in streams if stream.user_id not in refused), BATCH):
        parts.append(await _batch(connection, [stream.user_id for stream in batch], verified=with_tasks))
    return _sum(parts)


def _sum(parts: Sequence[Rebuilt]) -> Rebuilt:
    return Rebuilt(
        users=sum(part.users for part in parts),
        events=sum(part.events for part in parts),
        written=sum(part.written for part in parts),
        removed=sum(part.removed for part in parts),
        right=sum(part.right for part in parts),
        unverified=sum(part.unverified for part in parts),
        mismatches=[each for part in parts for each in part.mismatches],
    )


async def _batch(connection: Connection, users: list[str], *, verified: Set[str]) -> Rebuilt:
    try:
        async with reads.snapshot(connection):
            rows = await reads.foldable(connection, users)
    except reads.UNREADABLE as error:
        if len(users) > 1:
            return _sum([await _batch(connection, [user], verified=verified) for user in users])
        return Rebuilt(users=1, mismatches=[reads.unreadable_row(users[0], error)])
    if len(rows) == reads.MAX_EVENTS:
        return _sum([await _one(connection, user, verified=user in verified) for user in users])
    fold = Fold()
    fold.take_rows(rows)
    counts, lasts = Counter(row["user_id"] for row in rows), {row["user_id"]: row["seq"] for row in rows}
    numbers = {user: _Numbers(counts[user], lasts.get(user, 0)) for user in users}
    try:
        written, busy = await _write(connection, fold, numbers)
    except _UNWRITABLE as error:
        if len(users) > 1:
            return _sum([await _batch(connection, [user], verified=verified) for user in users])
        return Rebuilt(users=1, events=len(rows), mismatches=[_unwritable(users[0], error)])
    unverified = sum(user not in verified and user not in busy for user in counts)
    rest = [await _batch(connection, [user], verified=verified) for user in busy]
    return _sum([replace(written, unverified=unverified), *rest])


async def _one(connection: Connection, user_id: str, *, verified: bool) -> Rebuilt:
    """Rebuild a user with a log of any length, in constant memory: one range of tasks at a time.

    Before any row is written, the log is verified, unless it is `verified`, and folded to its end.
    """
    stream = StreamSize(user_id, reads.MAX_EVENTS)
    found = [] if verified else (await verify(connection, [stream], log_only=True)).mismatches
    async with reads.snapshot(connection):  # else content may be erased whose record isn't among these events
        upto = (await log.head(connection, user_id)).seq
        if not found:
            async for part in reads.folded(connection, user_id, upto=upto):
                found += part.fold.broken.values()
    parts = [Rebuilt(users=1, mismatches=found)]
    if not found:
        numbers = {user_id: _Numbers(upto, upto)}
        async for part in reads.folded(connection, user_id, upto=upto):
            try:
                written, _ = await _write(connection, part.fold, numbers, first=part.first, last=part.last)
            except _UNWRITABLE as error:
                parts.append(Rebuilt(mismatches=[_unwritable(user_id, error)]))
                break
            parts.append(replace(written, users=0, events=part.events))
    return _sum(parts)


_UNWRITABLE = (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError, ValueError, TypeError)
"""Errors on writing a task that no row can hold; asyncpg raises the last two for arguments."""


def _unwritable(user_id: str, error: Exception) -> Mismatch:
    why = getattr(error, "message", None) or type(error).__name__  # without the row, which is private
    told = f"its log folds to what tasks can't hold: {why}"
    return Mismatch(table="events", user_id=user_id, field="data", message=told)


LOCK = "SELECT user_id, seq FROM streams WHERE user_id = ANY($1) ORDER BY user_id FOR UPDATE"
LOCK_FREE = f"{LOCK} SKIP LOCKED"


async def _lock(connection: Connection, users: Sequence[str]) -> tuple[dict[str, int], Set[str]]:
    """Lock the users' streams; return the number of each one's last event, and the users whose lock is taken.

    Users without a stream are in neither. Wait only for a single user's lock: of several, none may wait because of
    another.
    """
    if len(users) == 1:
        return {row["user_id"]: row["seq"] for row in await connection.fetch(LOCK, users)}, frozenset()
    ends = {row["user_id"]: row["seq"] for row in await connection.fetch(LOCK_FREE, users)}
    missing = [user for user in users if user not in ends]
    return ends, (await log.heads(connection, missing)).keys() if missing else frozenset()


async def _write(
    connection: Connection,
    fold: Fold,
    numbers: Mapping[str, _Numbers],
    *,
    first: UUID = reads.FIRST_TASK,
    last: UUID = reads.LAST_TASK,
) -> tuple[Rebuilt, Set[str]]:
    """Lock the users' streams, fold events appended meanwhile, compare the rows, and write those that differ.

    Also return the users left for later, because another transaction had locked their streams.
    """
    async with reads.turn(connection):
        ends, busy = await _lock(connection, list(numbers))
        events, refused = 0, list[Mismatch]()
        for user, (count, seen) in numbers.items():
            if user in busy:
                continue
            end = ends.get(user, 0)
            rows = await reads.foldable_since(connection, user, seen) if end > seen else []
            fold.take_rows(row for row in rows if first <= row["task_id"] <= last)
            events += count + len(rows)
            if not count + len(rows) == (rows[-1]["seq"] if rows else seen) == end:
                refused.append(_misnumbered(user, count + len(rows), end))
        refused += (each for (user, _), each in fold.broken.items() if user not in busy)
        left_alone = {each.user_id for each in refused} | busy
        wanted = {key: task for key, task in fold.tasks.items() if key[0] not in left_alone}
        rows = await reads.tasks(connection, [user for user in numbers if user not in left_alone], first, last)
        found = compare(wanted, rows)
        if found.impossible:
            raise TypeError("data of the wrong types")
        await _add(connection, found.missing)
        await _correct(connection, [row for row, _ in found.wrong])
        removed = await _remove(connection, [(row["user_id"], row["id"]) for row in found.extra], ends)
    written = len(found.missing) + len(found.wrong)
    users = len(numbers) - len(busy)
    return Rebuilt(users, events, written, removed, found.right, mismatches=refused), busy


def _misnumbered(user_id: str, events: int, end: int) -> Mismatch:
    return Mismatch(
        table="streams",
        user_id=user_id,
        field="seq",
        found=end,
        expected=events,
        message=f"the stream is at event {end}, and the log has {events}; `daybook verify` tells more",
    )


_ON_A_SHARD = re.compile(r"\btasks_(?:\w+_)?\d+\b")
"""A shard of `tasks`, or a constraint or an index of one, by its name."""


class _Violation(ValueError):
    """A row that a shard of `tasks` can't hold."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


async def _add(connection: Connection, rows: Sequence[TaskRow]) -> None:
    if not rows:
        return
    try:
        await connection.copy_records_to_table("tasks", records=rows, columns=TaskRow._fields)
    except asyncpg.InternalServerError as error:
        # Citus's COPY passes on the message of a server, but not its SQLSTATE. The message names the shard.
        if error.sqlstate == asyncpg.InternalServerError.sqlstate and _ON_A_SHARD.search(str(error)):
            raise _Violation(str(error)) from error
        raise


CORRECT = """
UPDATE tasks SET
    version = task.version, completed = task.completed, priority = task.priority, due_date = task.due_date,
    tags = task.tags, created_at = task.created_at, updated_at = task.updated_at, completed_at = task.completed_at,
    title_key = task.title_key, search_text = task.search_text, document = task.document
FROM unnest(
    $1::text[], $2::uuid[], $3::integer[], $4::boolean[], $5::smallint[], $6::text[], $7::text[],
    $8::timestamptz[], $9::timestamptz[], $10::timestamptz[], $11::text[], $12::text[], $13::text[]
) AS task (
    user_id, id, version, completed, priority, due_date, tags,
    created_at, updated_at, completed_at, title_key, search_text, document
)
WHERE tasks.user_id = task.user_id AND tasks.id = task.id AND tasks.user_id = ANY($14)
"""


async def _correct(connection: Connection, rows: Sequence[TaskRow]) -> None:
    if rows:
        await connection.execute(CORRECT, *zip(*rows, strict=True), list({row.user_id for row in rows}))


_REMOVE = """
DELETE FROM tasks USING unnest($1::text[], $2::uuid[]) AS extra (user_id, id)
WHERE tasks.user_id = extra.user_id AND tasks.id = extra.id AND tasks.user_id = ANY($3) {condition}
RETURNING tasks.id
"""
REMOVE = _REMOVE.format(condition="")
# A user without a stream can't be locked: their first event, and its task, may arrive after the rows were read.
REMOVE_ORPHANED = _REMOVE.format(
    condition="""AND NOT EXISTS (
    SELECT FROM streams WHERE streams.user_id = tasks.user_id AND streams.user_id = ANY($3)
)"""
)


async def _remove(connection: Connection, extra: Sequence[TaskKey], locked: Container[str]) -> int:
    """Delete these rows, but none of a user outside `locked` who has a stream by now. Return the number of rows."""
    removed = 0
    of_locked = [(user, id_) for user, id_ in extra if user in locked]
    orphaned = [(user, id_) for user, id_ in extra if user not in locked]
    for statement, rows in ((REMOVE, of_locked), (REMOVE_ORPHANED, orphaned)):
        if rows:
            users, ids = zip(*rows, strict=True)
            removed += len(await connection.fetch(statement, users, ids, list(set(users))))
    return removed
