"""Reads of the past: one task at a version or a moment, or all of a user's tasks at a moment."""

from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from uuid import UUID

from asyncpg import Record

from db.pool import Executor
from db.time_slices import TimeSlices
from events.serialization import payload_of
from events.store import log
from events.store.event_store import EventStore
from events.task import NO_TASK, ContentErased, Erased, FoldedEvent, Snapshot, Task, TaskErased, evolve_erased


async def task_at(
    store: EventStore,
    user_id: str,
    task_id: UUID,
    *,
    version: int | None = None,
    at: datetime | None = None,
) -> Snapshot | None:
    """Return the task as its event number `version` left it, or as it was at the moment `at` (inclusive).

    Return `None` if it didn't exist then: not yet, deleted, or without so many versions. The task's events up to then
    are read in constant memory. Raise `ContentErased` if it did, and its content was erased; `UnknownEvent`
    (events.serialization), `ImpossibleEvent` (events.task), or `TooBusy` as `EventStore.history` does.
    """
    state: Task | Erased | None = None
    hash_, last = b"", 0
    async with aclosing(store.history(user_id, task_id, version=version, at=at)) as entries:
        async for entry in entries:
            state, hash_, last = evolve_erased(state, entry.event), entry.hash, entry.event.version
    if state is None or version not in (None, last):
        return None
    if state is Erased.ERASED:
        raise ContentErased(f"The content of task {task_id} was erased")
    return Snapshot(state, hash_)


# An event after the moment, or after number `upto`, is returned as a row without data. So a statement reads no more
# events than it returns rows, and takes equally long for any moment.
_FACTS_AT = """
SELECT task_id, version, type, at, seq <= $2 AND at <= $3 AS wanted,
    CASE WHEN seq <= $2 AND at <= $3 THEN textsend(data::text) END AS data
FROM events
WHERE user_id = $1 AND (task_id, version) > ($4, $5) {and_task}
ORDER BY task_id, version LIMIT $6
"""
_NAMES, _ORDER = "task_id, version, type, at, wanted, data", "task_id, version"
FACTS_AT = log.batched(_NAMES, _FACTS_AT.format(and_task=""), order=_ORDER)
FACTS_AT_OF_SOME = log.batched(_NAMES, _FACTS_AT.format(and_task="AND task_id = ANY ($7)"), order=_ORDER)


async def tasks_at(
    database: Executor, user_id: str, at: datetime, *, upto: int, slices: TimeSlices, ids: Sequence[UUID] | None = None
) -> AsyncIterator[Sequence[Task]]:
    """Fold a user's first `upto` events into the tasks as they were at the moment `at` (inclusive).

    Yield all tasks, or those with the given ids, in order of their ids, batch by batch, in constant memory. Those that
    are recorded as erased by now are left out, also while their content is still there. On a pool, a connection is held
    only while a batch is fetched. A task's events are ordered by their time; a user's needn't be, if clocks differ.
    Raise `UnknownEvent` or `ImpossibleEvent`.
    """
    statement, some = (FACTS_AT, ()) if ids is None else (FACTS_AT_OF_SOME, (ids,))

    def fetch(form: str, last: Record | None, limit: int) -> Awaitable[Sequence[Record]]:
        place = (NO_TASK, 0) if last is None else (last["task_id"], last["version"])
        return database.fetch(form, user_id, upto, at, *place, limit, *some)

    state: Task | Erased | None = None
    folded: UUID = NO_TASK
    async for rows in log.in_batches(statement, fetch):
        slices.restart()
        finished = []
        for task_id, version, type_, moment, wanted, data in rows:
            if task_id != folded:
                if isinstance(state, Task):
                    finished.append(state)
                state, folded = None, task_id
            if type_ == TaskErased.__name__:
                state = Erased.ERASED
            elif wanted:
                step = FoldedEvent(user_id, task_id, version, moment, payload_of(type_, data))
                state = evolve_erased(state, step)
            await slices.pause()
        yield finished
    if isinstance(state, Task):
        yield [state]


# The first events of each task, a few each: a statement reads no more of them than it returns, which is a batch.
_FACTS_UPTO = """
SELECT found.* FROM unnest($2::uuid[], $3::integer[], $4::integer[]) AS wanted (id, after, upto), LATERAL (
    SELECT task_id, version, type, at, textsend(data::text) AS data FROM events
    WHERE user_id = $1 AND task_id = wanted.id AND version > wanted.after AND version <= wanted.upto
    ORDER BY version LIMIT $5
) AS found
ORDER BY task_id, version
"""
FACTS_UPTO = log.batched("task_id, version, type, at, data", _FACTS_UPTO, order=_ORDER)


async def tasks_at_versions(
    database: Executor, user_id: str, versions: Mapping[UUID, int], *, slices: TimeSlices
) -> Mapping[UUID, Task | Erased | None]:
    """Fold several of a user's tasks, up to a version each, by statements that they share.

    There may be as many tasks as a batch has events. Raise `UnknownEvent` or `ImpossibleEvent`.
    """
    tasks = dict[UUID, Task | Erased | None].fromkeys(versions)
    done = dict.fromkeys(versions, 0)
    left, form, size = list(versions), FACTS_UPTO.short, log.READ_BATCH
    while left:
        some = left[:size]
        places, goals = [done[id_] for id_ in some], [versions[id_] for id_ in some]
        rows, form, full = await log.fetch_batch(
            FACTS_UPTO, form, database.fetch, user_id, some, places, goals, max(1, size // len(some))
        )
        size = log.next_size(size, rows, full=full)
        slices.restart()
        for task_id, version, type_, at, data in rows:
            step = FoldedEvent(user_id, task_id, version, at, payload_of(type_, data))
            tasks[task_id], done[task_id] = evolve_erased(tasks[task_id], step), version
            await slices.pause()
        del rows  # before the next batch is fetched
        of_some = zip(some, places, strict=True)
        again = [id_ for id_, before in of_some if done[id_] < versions[id_] and (full or before < done[id_])]
        left = again + left[len(some) :]
    return tasks
