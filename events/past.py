"""The past: a task, or all of them, as they were at a version or a moment."""

from datetime import datetime
from uuid import UUID

from db.pool import Executor
from events import log
from events.task import Snapshot, Task, evolve


async def task_at(
    database: Executor,
    user_id: str,
    task_id: UUID,
    *,
    version: int | None = None,
    at: datetime | None = None,
) -> Snapshot | None:
    """The task as its event number `version` left it, or as it was at the moment `at` (inclusive).

    `None` where it wasn't there then: not yet, deleted, or without so many versions. Reads the task's events up to
    then. Raises `UnknownEvent` (events.codec) or `ImpossibleEvent` (events.task).
    """
    task, hash_ = None, b""
    async for entry in log.history(database, user_id, task_id, version=version, at=at):
        task, hash_ = evolve(task, entry.event), entry.hash
    return None if task is None or version not in (None, task.version) else Snapshot(task, hash_)


async def tasks_at(database: Executor, user_id: str, at: datetime, *, upto: int) -> list[Task]:
    """All of a user's tasks as they were at the moment `at` (inclusive), by the user's first `upto` events.

    A task's events are ordered by their time; a user's needn't be, where clocks differ. Raises as `task_at` does.
    """
    tasks: dict[UUID, Task] = {}
    async for entry in log.read(database, user_id, upto=upto, at=at):
        task = evolve(tasks.pop(entry.event.task_id, None), entry.event)
        if task is not None:
            tasks[task.id] = task
    return list(tasks.values())
