"""Command handler: load, decide, append. Every write goes through it; one transaction appends and detects conflicts."""

import asyncio
import secrets
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from uuid_utils.compat import uuid7

from commands.commands import Command, CreateTask, RestoreTask
from commands.decider import NotRestorable, TaskNotFound, TaskState, VersionMismatch, decide, moment, state_of
from commands.precondition import UNCONDITIONAL, EntityTag
from db.errors import NOT_SENT, UNAVAILABLE, TooManyRequests, is_ambiguous, is_transient, retry
from db.pool import Connection, Executor, Pool
from events.store import log
from events.store.group_commit import GroupCommit
from events.store.log import PendingAppend, RecordedEvent
from events.store.past import task_at
from events.store.snapshots import load_snapshot
from events.task import Event, Metadata, Task, TaskCreated, TaskDeleted, evolve
from telemetry import metrics

_RESOLVE_SECONDS = 0.9
"""Seconds in which an in-doubt commit must be resolved."""

What: TypeAlias = Literal["done", "unchanged", "replayed"]


class IdempotencyKeyReused(Exception):
    """The user has already used this idempotency key for another request."""


class InDoubt(Exception):
    """The connection was lost after the event was sent, and it is still unknown if the event was committed."""


class _Undecided(Exception):
    """A refusal of this try, with no other event in this one's place, so that an earlier try may still commit."""


_STILL_IN_DOUBT: tuple[type[Exception], ...] = (*UNAVAILABLE, _Undecided)


class _NoRow(Exception):
    """The projection has no row of the task: the task doesn't exist, or the projection is being rebuilt."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The task as the command left it (`None`: deleted), and the hash of the event that left it so.

    `replayed` says that the command was carried out before, and wasn't carried out again.
    """

    task: Task | None
    hash: bytes
    what: What = "done"

    @property
    def replayed(self) -> bool:
        return self.what == "replayed"


async def handle(pool: Pool, command: Command, *, actor: str, metadata: Metadata) -> Outcome:
    """Carry the command out, once.

    When this returns, the event and the projection are committed. When it raises, neither is written, but after
    `InDoubt` both may be. If another writer was first, the command is tried once more under the stream's lock, so that
    it can't lose a second time. If the projection has no row of the task, or one that differs from the log, the log
    decides. If a connection is dropped, the command is retried on another for a moment; nothing is done twice. If the
    idempotency key is in the log already, the command's first outcome is returned. Raise `IdempotencyKeyReused`, a
    refusal of `commands.decider`, or one of `db.errors.UNAVAILABLE`.
    """

    async def carried_out() -> Outcome:
        return await _execute(pool, command, actor, metadata)

    what = "failed"
    try:
        outcome = await retry(carried_out, on=_worth_another_try)
        what = outcome.what
    except log.VersionConflict as error:  # every try was refused, and wrote nothing
        raise TooManyRequests(f"others write to task {command.task_id} all the time") from error
    except (IdempotencyKeyReused, TaskNotFound, VersionMismatch, NotRestorable):
        what = "refused"
        raise
    finally:
        metrics.COMMANDS.labels(type(command).__name__, what).inc()
    return outcome


def _worth_another_try(error: Exception) -> bool:
    return is_transient(error) or isinstance(error, log.VersionConflict)


async def _execute(pool: Pool, command: Command, actor: str, metadata: Metadata) -> Outcome:
    try:
        result = await _append_decided(pool, command, actor, metadata)
    except log.IdempotencyKeyTaken:  # the event that has it is committed
        before = await log.find(pool, command.user_id, metadata.idempotency_key or "")
        assert before is not None  # noqa: S101 - the log forgets nothing
        result = _of_same_request(before, metadata)
    return result if isinstance(result, Outcome) else await _replay(pool, result)


async def _append_decided(pool: Pool, command: Command, actor: str, metadata: Metadata) -> Outcome | RecordedEvent:
    """Try on the task's row, then on the row under the stream's lock, then on the log under the lock."""
    if _is_conditional_creation(command):
        return await _decide_and_append(pool, command, None, actor, metadata, locked=True)
    past = await _rehydrate(pool, command, TaskState()) if isinstance(command, RestoreTask) else None
    try:
        try:
            return await _decide_and_append(pool, command, past, actor, metadata)
        except log.VersionConflict:
            metrics.CONFLICTS.inc()
            return await _decide_and_append(pool, command, past, actor, metadata, locked=True)
    except (_NoRow, log.VersionConflict):
        there = await log.is_there(pool, command.user_id, command.task_id)
        before = await _find(pool, command, metadata)
        if before is not None:  # this request left its event a moment ago
            return _of_same_request(before, metadata)
        past = (
            await _rehydrate(pool, command, TaskState()) if there or isinstance(command, RestoreTask) else TaskState()
        )
        decide(command, past)  # a refusal needs no lock
        return await _decide_and_append(pool, command, past, actor, metadata, locked=True)


async def _decide_and_append(
    pool: Pool, command: Command, past: TaskState | None, actor: str, metadata: Metadata, *, locked: bool = False
) -> Outcome | RecordedEvent:
    """Decide and append; return the outcome, or the recorded event that the request left before.

    Raise `_NoRow`, a `log.Conflict`, a refusal or one of `UNAVAILABLE`, with nothing written, or else `InDoubt`.
    """
    sent: PendingAppend | None = None
    try:
        if locked:
            async with pool.transaction() as on:
                await log.lock_stream(on, command.user_id)
                decided = await _decide(on, command, past, actor, metadata)
                if not isinstance(decided, PendingAppend):
                    return decided
                sent = decided
                entry = await _append(on, command, sent)
        else:
            decided = await _decide(pool, command, past, actor, metadata)
            if not isinstance(decided, PendingAppend):
                return decided
            sent = decided
            entry = await pool.companion(GroupCommit).append(sent)
    except UNAVAILABLE as error:
        if sent is None or not is_ambiguous(error) or isinstance(error, NOT_SENT):
            raise
        entry = await _resolve_in_doubt(pool, command, sent)
    return Outcome(sent.task, entry.hash)


def _is_conditional_creation(command: Command) -> bool:
    """Say if the command creates a task under a precondition on the list: the number and hash of the last event."""
    return isinstance(command, CreateTask) and command.precondition != UNCONDITIONAL


async def _append(on: Connection, command: Command, pending: PendingAppend) -> RecordedEvent:
    """Append the event; refuse a creation with `VersionMismatch` if its precondition doesn't hold for the list.

    The list is checked after the append, in its transaction, which the refusal rolls back. By then no other writer can
    be first, and the request wasn't carried out before. Raise the errors of `log.append` too.
    """
    entry = await log.append(on, pending.event, pending.task, on_row=pending.on_row)
    if _is_conditional_creation(command):
        last = entry.seq - 1
        current = EntityTag(last, await log.hash_of(on, command.user_id, last))
        if not command.precondition.holds(current, exists=True):
            raise VersionMismatch(current, command.precondition, of="The list is at event")
    return entry


async def _resolve_in_doubt(pool: Pool, command: Command, sent: PendingAppend) -> RecordedEvent:
    """Resolve an in-doubt commit: get the event into the log once, and return it as recorded.

    The identical event is sent again. The task's version is a unique key, so only one of the two can be committed, even
    if the first one is still in flight. Raise `log.VersionTaken` or `log.IdempotencyKeyTaken` if another event took its
    place, `VersionMismatch` if the list of a conditional creation has changed, or `InDoubt`.
    """

    async def once_more() -> RecordedEvent:
        try:
            async with (pool.transaction if _is_conditional_creation(command) else pool.acquire)() as on:
                return await _append(on, command, sent)
        except log.Conflict as conflict:
            if entry := await log.find_appended(pool, sent.event):
                return entry
            if isinstance(conflict, log.VersionTaken | log.IdempotencyKeyTaken):
                raise
            raise _Undecided from conflict

    try:
        async with asyncio.timeout(_RESOLVE_SECONDS):
            return await retry(once_more, on=lambda error: is_ambiguous(error) or isinstance(error, _Undecided))
    except _STILL_IN_DOUBT as error:
        raise InDoubt(str(error)) from error


async def _decide(
    on: Executor, command: Command, past: TaskState | None, actor: str, metadata: Metadata
) -> PendingAppend | Outcome | RecordedEvent:
    """Decide on the state `past`, brought up to date from the log, or on the task's row if `past` is `None`.

    With the append, this takes two round trips, and three with a key. A creation takes one: its id is new, so there is
    nothing to load.

    The key is looked up after loading. So the loaded state is from before the event with that key, or else the event is
    found, and returned. For a creation, which can't be refused, the append finds the event.
    """
    found = await _load(on, command, past)
    if not isinstance(command, CreateTask):
        before = await _find(on, command, metadata)
        if before is not None:
            same = _of_same_request(before, metadata)
            nothing_since = found.task is not None and same.event.version == found.version
            return Outcome(found.task, same.hash, "replayed") if nothing_since else same
    if past is None and not found.version and not isinstance(command, CreateTask):
        raise _NoRow
    payload = decide(command, found)
    if payload is None:
        return Outcome(found.task, found.hash, "unchanged")
    event = Event(
        id=uuid7(),
        user_id=command.user_id,
        task_id=command.task_id,
        version=found.version + 1,
        at=moment(datetime.now(UTC), found.at),
        actor=actor,
        payload=payload,
        metadata=metadata,
        salt=secrets.token_bytes(16),
    )
    return PendingAppend(event, evolve(found.task, event), on_row=past is None)


async def _load(on: Executor, command: Command, past: TaskState | None) -> TaskState:
    if past is not None:
        return await _rehydrate(on, command, past)
    if isinstance(command, CreateTask):
        return TaskState()
    return state_of(await load_snapshot(on, command.user_id, command.task_id))


async def _rehydrate(database: Executor, command: Command, so_far: TaskState) -> TaskState:
    """Rehydrate the task's state from its events after `so_far`, so that under a lock only new events are read."""
    version = command.version if isinstance(command, RestoreTask) else None
    found = so_far
    async with aclosing(log.history(database, command.user_id, command.task_id, after=so_far.version)) as entries:
        async for entry in entries:
            event = entry.event
            task = evolve(found.task, event)
            wanted = task is not None if version is None else event.version == version
            then = task if wanted else found.then
            found = TaskState(task=task, version=event.version, hash=entry.hash, at=event.at, then=then)
    return found


async def _find(database: Executor, command: Command, metadata: Metadata) -> RecordedEvent | None:
    """Find the event with the request's idempotency key: this request's own from an earlier try, or another's."""
    key = metadata.idempotency_key
    return None if key is None else await log.find(database, command.user_id, key)


def _of_same_request(before: RecordedEvent, metadata: Metadata) -> RecordedEvent:
    """Return the event if this request left it. Raise `IdempotencyKeyReused` if another request did."""
    if before.event.metadata.fingerprint != metadata.fingerprint:
        raise IdempotencyKeyReused(
            "This Idempotency-Key stands for another request; repeat that one as it was, or make a new key."
        )
    return before


async def _replay(pool: Pool, before: RecordedEvent) -> Outcome:
    """Replay the outcome of the command that left this event. Between batches of its history, no connection is held."""
    event = before.event
    match event.payload:
        case TaskCreated():
            task = evolve(None, event)
        case TaskDeleted():
            task = None
        case _:
            then = await task_at(pool, event.user_id, event.task_id, version=event.version)
            task = then and then.task
    return Outcome(task, before.hash, "replayed")
