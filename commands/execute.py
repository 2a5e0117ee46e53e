"""The only orchestrator of writes: load, decide, append, in one transaction."""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from uuid_utils.compat import uuid7

from commands.task import Command, CreateTask, Known, RestoreTask, decide, known, moment
from db.pool import Connection, Pool, connection
from events import log
from events.past import task_at
from events.task import Event, Origin, Task, evolve


class IdempotencyKeyReused(Exception):
    """The user's idempotency key stands for another request."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The task as the command left it (`None`: deleted). `replayed`: it was carried out before, and isn't again."""

    task: Task | None
    replayed: bool = False


async def execute(pool: Pool, command: Command, *, actor: str, origin: Origin) -> Outcome:
    """Carry the command out.

    When this returns, the event and the projection are committed. When it raises, neither is written, save where the
    connection was lost or the time ran out (`db.pool.UNAVAILABLE`): then both may be, or neither. Another writer who
    was first costs one more try, made while holding the journal's lock, so that it can't lose a second time.
    A command whose idempotency key is in the log already gets the outcome that it had then.
    Raises `IdempotencyKeyReused`, or a refusal of `commands.task`.
    """
    try:
        try:
            async with connection(pool) as first:
                return await _attempt(first, command, actor, origin)
        except log.VersionConflict:
            async with connection(pool) as second, second.transaction(isolation="read_committed"):
                await log.lock_journal(second, command.user_id)
                return await _attempt(second, command, actor, origin)
    except log.IdempotencyKeyTaken:  # and so by an event that is committed
        async with connection(pool) as third:
            outcome = await _outcome_before(third, command, origin)
        assert outcome is not None  # noqa: S101 - the log forgets nothing
        return outcome


async def _attempt(on: Connection, command: Command, actor: str, origin: Origin) -> Outcome:
    """Two round trips; one where a task is created, since its id is new and there is nothing to load.

    A key is looked up after loading: what was loaded is then either from before the event with that key, or the event
    is found. For a creation, which can't be refused, the append finds it.
    """
    found = await _load(on, command)
    if not isinstance(command, CreateTask) and (outcome := await _outcome_before(on, command, origin)):
        return outcome
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
    await log.append(on, event, after)
    return Outcome(after)


async def _load(on: Connection, command: Command) -> Known:
    if isinstance(command, CreateTask):
        return Known()
    if not isinstance(command, RestoreTask):
        return known(await log.load(on, command.user_id, command.task_id))
    found = Known()
    async for event in log.history(on, command.user_id, command.task_id):
        task = evolve(found.task, event)
        wanted = task is not None if command.version is None else event.version == command.version
        found = Known(task=task, version=event.version, at=event.at, then=task if wanted else found.then)
    return found


async def _outcome_before(on: Connection, command: Command, origin: Origin) -> Outcome | None:
    """What came of the same command before, from the log; `None` where it wasn't carried out, or has no key."""
    if origin.idempotency_key is None:
        return None
    event = await log.find(on, command.user_id, origin.idempotency_key)
    if event is None:
        return None
    if event.origin.fingerprint != origin.fingerprint:
        raise IdempotencyKeyReused(
            "This Idempotency-Key stands for another request; repeat that one as it was, or make a new key."
        )
    task = await task_at(on, command.user_id, event.task_id, version=event.version)
    return Outcome(task, replayed=True)
