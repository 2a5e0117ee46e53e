"""The only orchestrator of writes: load, decide, append, which is one transaction and notices who was first."""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from uuid_utils.compat import uuid7

from commands.task import Command, CreateTask, Known, RestoreTask, decide, known_by, moment
from db.pool import Connection, Executor, Pool, connection
from events import log
from events.past import task_at
from events.task import Event, Origin, Task, TaskCreated, TaskDeleted, evolve


class IdempotencyKeyReused(Exception):
    """The user's idempotency key stands for another request."""


class _NotPosted(Exception):
    """The projection has no row of the task: there is no such task, or the projection is just being rebuilt."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The task as the command left it (`None`: deleted). `replayed`: it was carried out before, and isn't again."""

    task: Task | None
    replayed: bool = False


async def execute(pool: Pool, command: Command, *, actor: str, origin: Origin) -> Outcome:
    """Carry the command out.

    When this returns, the event and the projection are committed. When it raises, neither is written, save where the
    connection was lost or the time ran out (`db.pool.UNAVAILABLE`): then both may be, or neither. Another writer who
    was first costs one more try, made while holding the journal's lock, so that it can't lose a second time. Where the
    projection has no row of the task, or another one than the log, the log decides.
    A command whose idempotency key is in the log already gets the outcome that it had then.
    Raises `IdempotencyKeyReused`, or a refusal of `commands.task`.
    """
    try:
        result = await _carry_out(pool, command, actor, origin)
    except log.IdempotencyKeyTaken:  # and so by an event that is committed
        before = await log.find(pool, command.user_id, origin.idempotency_key or "")
        assert before is not None  # noqa: S101 - the log forgets nothing
        result = _the_same(before, origin)
    return result if isinstance(result, Outcome) else await _again(pool, result)


async def _carry_out(pool: Pool, command: Command, actor: str, origin: Origin) -> Outcome | Event:
    """Try on the row; then on the row that is there when the journal's lock is held; then on the log, holding it."""
    past = await _recall(pool, command, Known()) if isinstance(command, RestoreTask) else None
    try:
        try:
            async with connection(pool) as free:
                return await _attempt(free, command, past, actor, origin)
        except log.VersionConflict:
            return await _attempt_locked(pool, command, past, actor, origin)
    except (_NotPosted, log.VersionConflict):
        there = await log.is_there(pool, command.user_id, command.task_id)
        before = await _find(pool, command, origin)
        if before is not None:  # the same request, a moment ago
            return _the_same(before, origin)
        past = await _recall(pool, command, Known()) if there or isinstance(command, RestoreTask) else Known()
        decide(command, past)  # what is refused needs no lock
        return await _attempt_locked(pool, command, past, actor, origin)


async def _attempt_locked(
    pool: Pool, command: Command, past: Known | None, actor: str, origin: Origin
) -> Outcome | Event:
    async with connection(pool) as locked, locked.transaction(isolation="read_committed"):
        await log.lock_journal(locked, command.user_id)
        return await _attempt(locked, command, past, actor, origin)


async def _attempt(on: Connection, command: Command, past: Known | None, actor: str, origin: Origin) -> Outcome | Event:
    """Decide on what the log tells, from where `past` ends, or on the task's row where there is none; then append.

    Two round trips, with a key three; one where a task is created, since its id is new and nothing is there to load.

    A key is looked up after loading: what was loaded is then either from before the event with that key, or the event
    is found, and returned. For a creation, which can't be refused, the append finds it.
    """
    found = await _load(on, command, past)
    if not isinstance(command, CreateTask):
        before = await _find(on, command, origin)
        if before is not None:
            same = _the_same(before, origin)
            nothing_since = found.task is not None and same.version == found.version
            return Outcome(found.task, replayed=True) if nothing_since else same
    if past is None and not found.version and not isinstance(command, CreateTask):
        raise _NotPosted
    fact = decide(command, found)
    if fact is None:
        return Outcome(found.task)
    event = Event(
        id=uuid7(),
        user_id=command.user_id,
        task_id=command.task_id,
        version=found.version + 1,
        at=moment(datetime.now(UTC), found.at),
        actor=actor,
        fact=fact,
        origin=origin,
        salt=secrets.token_bytes(16),
    )
    after = evolve(found.task, event)
    await log.append(on, event, after, on_row=past is None)
    return Outcome(after)


async def _load(on: Connection, command: Command, past: Known | None) -> Known:
    if past is not None:
        return await _recall(on, command, past)
    if isinstance(command, CreateTask):
        return Known()
    return known_by(await log.load(on, command.user_id, command.task_id))


async def _recall(database: Executor, command: Command, so_far: Known) -> Known:
    """What the task's events tell, from where `so_far` ends: however many they are, no lock is held for long."""
    version = command.version if isinstance(command, RestoreTask) else None
    found = so_far
    async for event in log.history(database, command.user_id, command.task_id, after=so_far.version):
        task = evolve(found.task, event)
        wanted = task is not None if version is None else event.version == version
        found = Known(task=task, version=event.version, at=event.at, then=task if wanted else found.then)
    return found


async def _find(database: Executor, command: Command, origin: Origin) -> Event | None:
    """The event that this request left already, or another one with its key."""
    key = origin.idempotency_key
    return None if key is None else await log.find(database, command.user_id, key)


def _the_same(before: Event, origin: Origin) -> Event:
    """The event, if it was the same request that left it. Raises `IdempotencyKeyReused`."""
    if before.origin.fingerprint != origin.fingerprint:
        raise IdempotencyKeyReused(
            "This Idempotency-Key stands for another request; repeat that one as it was, or make a new key."
        )
    return before


async def _again(pool: Pool, before: Event) -> Outcome:
    """What came of the command that left this event. No connection is held for as long as its task's history is."""
    match before.fact:
        case TaskCreated():
            task = evolve(None, before)
        case TaskDeleted():
            task = None
        case _:
            task = await task_at(pool, before.user_id, before.task_id, version=before.version)
    return Outcome(task, replayed=True)
