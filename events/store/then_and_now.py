"""Reads of all of a user's tasks, each as it was at a moment and as it is now."""

from collections.abc import AsyncIterator, Awaitable, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from asyncpg import Record

from db.pool import Executor
from db.time_slices import TimeSlices
from events.serialization import payload_of
from events.store import log
from events.task import NO_TASK, Erased, FoldedEvent, Task, TaskErased, evolve_erased


class ThenAndNow(NamedTuple):
    """A task as it was at a moment, and as it is now, each `None` if it isn't there.

    `version` and `at` are those of its last event. A state is `Erased` if its content was erased, and the event that
    records it is after the last one that was read.
    """

    task_id: UUID
    then: Task | Erased | None
    now: Task | Erased | None
    version: int
    at: datetime


# An event after number `upto` is returned as a row without data, as in events.store.past.
_FACTS = """
SELECT task_id, version, type, at, seq <= $2 AS wanted,
    CASE WHEN seq <= $2 THEN textsend(data::text) END AS data
FROM events
WHERE user_id = $1 AND (task_id, version) > ($3, $4)
ORDER BY task_id, version LIMIT $5
"""
FACTS = log.batched("task_id, version, type, at, wanted, data", _FACTS, order="task_id, version")


async def then_and_now(
    database: Executor, user_id: str, moment: datetime, *, upto: int, slices: TimeSlices
) -> AsyncIterator[ThenAndNow]:
    """Fold a user's first `upto` events into each task, as it was at `moment` (inclusive) and as it is after them.

    Tasks come in order of their ids, and are read in constant memory, as by `tasks_at` (events.store.past). A task that
    is recorded as erased is left out, also while its content is still there.
    """

    def fetch(form: str, last: Record | None, limit: int) -> Awaitable[Sequence[Record]]:
        place = (NO_TASK, 0) if last is None else (last["task_id"], last["version"])
        return database.fetch(form, user_id, upto, *place, limit)

    found: ThenAndNow | None = None
    async for rows in log.in_batches(FACTS, fetch):
        slices.restart()
        for task_id, version, type_, at, wanted, data in rows:
            if not wanted:
                continue
            if found is not None and found.task_id != task_id:
                yield found
                found = None
            if type_ == TaskErased.__name__:
                found = None
                continue
            step = FoldedEvent(user_id, task_id, version, at, payload_of(type_, data))
            now = evolve_erased(found and found.now, step)
            then = now if at <= moment else found and found.then
            found = ThenAndNow(task_id, then, now, version, at)
            await slices.pause()
    if found is not None:
        yield found
