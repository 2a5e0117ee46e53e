"""The only orchestrator of writes: load, decide, append, in one transaction."""

import secrets
from datetime import UTC, datetime

from uuid_utils.compat import uuid7

from commands.task import Command, CreateTask, decide, moment
from db.pool import Connection, Pool, connection
from events import log
from events.task import Event, Origin, Task, evolve


async def execute(pool: Pool, command: Command, *, actor: str, origin: Origin) -> Task | None:
    """Carry the command out; the task as it stands afterwards (`None`: deleted).

    When this returns, the event and the projection are committed. When it raises, neither is written, save where the
    connection was lost or the time ran out (`db.pool.UNAVAILABLE`): then both may be, or neither. Another writer who
    was first costs one more try, made while holding the journal's lock, so that it can't lose a second time.
    Raises `TaskNotFound` or `TaskExists` (commands.task), `IdempotencyKeyTaken` (events.log).
    """
    try:
        async with connection(pool) as first:
            return await _attempt(first, command, actor, origin)
    except log.VersionConflict:
        async with connection(pool) as second, second.transaction(isolation="read_committed"):
            await log.lock_journal(second, command.user_id)
            return await _attempt(second, command, actor, origin)


async def _attempt(on: Connection, command: Command, actor: str, origin: Origin) -> Task | None:
    """Two round trips, or one where a task is created: its id is new, so that there is nothing to load."""
    task = None
    if not isinstance(command, CreateTask):
        task = await log.load(on, command.user_id, command.task_id)
    fact = decide(command, task)
    if fact is None:
        return task
    event = Event(
        id=uuid7(),
        user_id=command.user_id,
        task_id=command.task_id,
        version=1 if task is None else task.version + 1,
        at=moment(datetime.now(UTC), task),
        actor=actor,
        fact=fact,
        origin=origin,
        salt=secrets.token_bytes(16),
    )
    after = evolve(task, event)
    await log.append(on, event, after)
    return after
