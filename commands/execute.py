"""The only orchestrator of writes: load, decide, append, in one transaction."""

import secrets
from datetime import UTC, datetime

from uuid_utils.compat import uuid7

from commands.task import Command, CreateTask, decide, moment
from db.pool import Connection, Pool
from events import log
from events.task import Event, Origin, Task, evolve


async def execute(pool: Pool, command: Command, *, actor: str, origin: Origin) -> Task | None:
    """Carry the command out; the task as it stands afterwards (`None`: deleted).

    When this returns, the event and the projection are committed; when it raises, neither is written. Another writer
    who was first costs one more try, made while holding the journal's lock, so that it can't lose a second time.
    Raises `TaskNotFound` or `TaskExists` (commands.task), `IdempotencyKeyTaken` (events.log).
    """
    try:
        async with pool.acquire() as connection:
            return await _attempt(connection, command, actor, origin)
    except log.VersionConflict:
        async with pool.acquire() as connection, connection.transaction():
            await log.lock_journal(connection, command.user_id)
            return await _attempt(connection, command, actor, origin)


async def _attempt(connection: Connection, command: Command, actor: str, origin: Origin) -> Task | None:
    """Two round trips, or one where a task is created: its id is new, so that there is nothing to load."""
    task = None
    if not isinstance(command, CreateTask):
        task = await log.load(connection, command.user_id, command.task_id)
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
    await log.append(connection, event, after)
    return after
