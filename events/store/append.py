"""Append: the calls of the database functions that append, and the result for each event."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import asyncpg
import orjson

from db.pool import Connection
from db.time_slices import TimeSlices
from events import hash_chain
from events.projection import project
from events.serialization import encode, header, meta
from events.task import Event, Task


class Conflict(Exception):
    """An append that conflicts with an event in the log, or with a rebuild. It has written nothing."""


class VersionConflict(Conflict):
    """The state isn't the one that the event was decided on: another writer or a rebuild was first."""


class StreamBusy(VersionConflict):
    """Another transaction holds the stream's lock, or has written its first event meanwhile."""


class StreamMoved(VersionConflict):
    """The stream isn't at the event that must be its last."""


class RowGone(VersionConflict):
    """The event deletes a row of `tasks` that isn't there."""


class VersionTaken(VersionConflict):
    """Another event has this task's version: this one can never be in the log."""


class IdempotencyKeyTaken(Conflict):
    """The log already holds another event with this user's idempotency key: this one can never be in it."""


CONFLICT_OF_SQLSTATE: dict[str, type[Conflict]] = {
    "LG001": StreamBusy,
    "LG002": VersionTaken,
    "LG003": IdempotencyKeyTaken,
    "LG004": RowGone,
    "LG005": StreamMoved,
    "40001": VersionConflict,  # this and the next: the database's default isolation is stricter than ours
    "40P01": VersionConflict,
}
"""Conflicts by SQLSTATE. Those of class LG are `daybook_append`'s own (db/functions/daybook_append.sql)."""


class PendingAppend(NamedTuple):
    """An event to append, and the task after it (`None`: deleted).

    `on_row`: it was decided on the task's row. `after`: the number of the event that must be the stream's last.
    """

    event: Event
    task: Task | None
    on_row: bool = True
    after: int | None = None


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """An event as it is in the log, with number `seq` of its user's stream and its hash in the chain (32 bytes)."""

    seq: int
    hash: bytes
    event: Event


AppendResult: TypeAlias = RecordedEvent | Conflict | asyncpg.PostgresError
"""The recorded event, or the reason why it wasn't written."""

PIECE = 128 * 1024
"""Characters of text in a statement after which a user's further events go in another (`append_all`)."""

RESOLVE_SECONDS = 0.9
"""Seconds in which an in-doubt commit must be resolved. An append ends so long before the deadline."""

_PARAMETERS = {
    "digest": "bytea",
    "id": "uuid",
    "task_id": "uuid",
    "version": "integer",
    "type": "text",
    "at": "timestamptz",
    "actor": "text",
    "data": "jsonb",
    "request_id": "text",
    "client_address": "text",
    "client_agent": "text",
    "idempotency_key": "text",
    "fingerprint": "bytea",
    "salt": "bytea",
    "after": "bigint",
    "on_row": "boolean",
    "deleted": "boolean",
    "created_at": "timestamptz",
    "completed": "boolean",
    "priority": "smallint",
    "due_date": "text",
    "tags": "text",
    "completed_at": "timestamptz",
    "title_key": "text",
    "search_text": "text",
    "document": "text",
}
"""Types of the function's parameters, of which each takes an array with an element for each event."""


def _arguments(pending: PendingAppend) -> tuple[Any, ...]:
    """Return an event's element of each array, in the order of `_PARAMETERS`."""
    event, task, on_row, after = pending
    metadata, data = event.metadata, encode(event.payload)
    row = None if task is None else project(task)
    return (
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
        after,
        on_row,
        row is None,
        row and row.created_at,
        row and row.completed,
        row and row.priority,
        row and row.due_date,
        row and row.tags,
        row and row.completed_at,
        row and row.title_key,
        row and row.search_text,
        row and row.document,
    )


def _call(element: str) -> str:
    """Write the function's array arguments: parameters of the statement from its second on."""
    return ", ".join(
        f"p_{name} => {element.format(f'${number}', type_)}"
        for number, (name, type_) in enumerate(_PARAMETERS.items(), 2)
    )


_RESULT = "WITH ORDINALITY AS appended (seq, hash, outcome, message, n)"

# One event. Its parameters are no arrays, for which the driver would ask about their types on each new connection.
APPEND = f"""
SELECT n, seq, hash, outcome, message
FROM daybook_append(p_user_id => $1, p_wait => true, {_call("ARRAY[{}::{}]")}) {_RESULT}
"""  # noqa: S608 - constant fragments

# Several events of one user.
APPEND_SEVERAL = f"""
SELECT n, seq, hash, outcome, message
FROM daybook_append(p_user_id => $1, p_wait => true, {_call("{}::{}[]")}) {_RESULT}
"""  # noqa: S608 - constant fragments

# Events of several users. Each one's are adjacent, and users come in the order of their keys.
APPEND_MANY = f"""
SELECT n, seq, hash, outcome, message FROM daybook_append_many(p_user_id => $1::text[], {_call("{}::{}[]")})
"""  # noqa: S608 - constant fragments


async def append(connection: Connection, appends: Sequence[PendingAppend]) -> list[AppendResult]:
    """Write each event, and upsert its task in the projection or delete its row; return each one's result, in order.

    An event is written with its change of the projection or not at all, and doesn't depend on the others. This takes
    one round trip, and is a transaction of its own or part of the caller's. If all events are of one user, it waits for
    the stream's lock, and many long ones are encoded in slices; else each user whose stream is locked, or has no event
    yet, gets `StreamBusy`. Raise the database's errors for the statement as a whole, and the errors of an event that
    can't be encoded: nothing is sent then.
    """
    order = sorted(range(len(appends)), key=lambda position: appends[position].event.user_id)
    ordered = [appends[position] for position in order]
    results = dict(zip(order, await _send(connection, ordered, await _encode(ordered)), strict=True))
    return [results[position] for position in range(len(appends))]


async def append_all(connection: Connection, appends: Sequence[PendingAppend]) -> list[RecordedEvent]:
    """Append events of one user in the caller's transaction, long ones in several statements; return them as recorded.

    To send a megabyte at once would keep the event loop busy for some milliseconds. Raise a `Conflict`, or the
    database's error, of the first event that can't be written.
    """
    arguments = await _encode(appends)
    recorded: list[RecordedEvent] = []
    while len(recorded) < len(appends):
        piece = slice(len(recorded), _end_of_piece(arguments, len(recorded)))
        recorded += map(_recorded, await _send(connection, appends[piece], arguments[piece]))
    return recorded


async def append_one(connection: Connection, pending: PendingAppend) -> RecordedEvent:
    """Append one event as `append` does, and return it as recorded. Raise a `Conflict`, or the database's error."""
    [result] = await append(connection, [pending])
    return _recorded(result)


def _recorded(result: AppendResult) -> RecordedEvent:
    if isinstance(result, RecordedEvent):
        return result
    raise result


async def _encode(appends: Sequence[PendingAppend]) -> list[tuple[Any, ...]]:
    """Make each event's arguments; if all are of one user, in slices: others' events would have to wait with them."""
    first, last = appends[0].event.user_id, appends[-1].event.user_id
    slices = TimeSlices(first, locked=True)
    arguments: list[tuple[Any, ...]] = []
    for each in appends:
        if arguments and first == last:
            await slices.pause()
        arguments.append(_arguments(each))
    return arguments


def _end_of_piece(arguments: Sequence[tuple[Any, ...]], start: int) -> int:
    length = 0
    for end, each in enumerate(arguments[start:], start + 1):
        length += sum(len(value) for value in each if isinstance(value, str))
        if length >= PIECE:
            return end
    return len(arguments)


async def _send(
    connection: Connection, appends: Sequence[PendingAppend], arguments: Sequence[tuple[Any, ...]]
) -> list[AppendResult]:
    """Append events in one statement. Each user's are adjacent, and users come in the order of their keys."""
    first, last = appends[0].event.user_id, appends[-1].event.user_id
    try:
        if len(appends) == 1:
            rows = await connection.fetch(APPEND, first, *arguments[0])
        elif first == last:
            rows = await connection.fetch(APPEND_SEVERAL, first, *zip(*arguments, strict=True))
        else:
            users = [each.event.user_id for each in appends]
            rows = await connection.fetch(APPEND_MANY, users, *zip(*arguments, strict=True))
    except (asyncpg.SerializationError, asyncpg.DeadlockDetectedError) as error:
        return [_refusal(error.sqlstate or "", str(error)) for _ in appends]
    results: dict[int, AppendResult] = {}
    for n, seq, hash_, outcome, message in rows:
        event = appends[n - 1].event
        results[n] = RecordedEvent(seq, hash_, event) if outcome is None else _refusal(outcome, message)
    return [results[n] for n in range(1, len(appends) + 1)]


def _refusal(sqlstate: str, message: str) -> Conflict | asyncpg.PostgresError:
    conflict = CONFLICT_OF_SQLSTATE.get(sqlstate)
    if conflict is not None:
        return conflict(message or conflict.__doc__)
    error: asyncpg.PostgresError = asyncpg.PostgresError.new({"C": sqlstate, "M": message})
    return error
