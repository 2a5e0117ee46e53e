"""The log read in batches, and the past that is folded from them."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from commands.commands import CreateTask, DeleteTask, RestoreTask, ToggleTask
from commands.handler import handle
from db.pool import Pool
from db.time_slices import TimeSlices
from events.store import log
from events.store.append import RecordedEvent
from events.store.past import task_at, tasks_at
from events.task import Metadata, Task
from tests.arrange import store_of

MANY = 2 * log.READ_BATCH + 7


@pytest.fixture
async def states(pool: Pool) -> list[Task]:
    """Return a task as each of its events left it, more than two batches of them, mixed with others' events."""
    ids = {"ann": uuid7(), "bob": uuid7()}

    async def toggle_on(user: str) -> list[Task]:
        create = CreateTask(user_id=user, task_id=ids[user], fields={"title": "x"})
        found = [(await handle(store_of(pool), create, actor=user, metadata=Metadata())).task]
        for number in range(1, MANY):
            if number % 100 == 0:
                other = CreateTask(user_id=user, task_id=uuid7(), fields={"title": "y"})
                await handle(store_of(pool), other, actor=user, metadata=Metadata())
            toggle = ToggleTask(user_id=user, task_id=ids[user])
            found.append((await handle(store_of(pool), toggle, actor=user, metadata=Metadata())).task)
        return [task for task in found if task]

    return (await asyncio.gather(toggle_on("ann"), toggle_on("bob")))[0]


async def test_the_log_is_read_in_order_up_to_a_number(pool: Pool, states: list[Task]) -> None:
    last = (await log.head(pool, "ann")).seq
    assert last == MANY + (MANY - 1) // 100
    everything = [entry async for entry in log.read(pool, "ann", upto=last)]
    assert [entry.seq for entry in everything] == list(range(1, last + 1))
    assert {entry.event.user_id for entry in everything} == {"ann"}
    for upto in (0, 1, log.READ_BATCH, log.READ_BATCH + 1, last - 1, last + 1):
        assert [entry async for entry in log.read(pool, "ann", upto=upto)] == everything[:upto]
    assert states[-1].version == MANY


async def history(pool: Pool, user: str, task: UUID, **bounds: Any) -> list[RecordedEvent]:
    return [entry async for entry in store_of(pool).history(user, task, **bounds)]


async def test_a_tasks_history_is_read_in_order_up_to_a_version_or_a_moment(pool: Pool, states: list[Task]) -> None:
    task = states[0].id
    everything = await history(pool, "ann", task)
    assert [entry.event.version for entry in everything] == list(range(1, MANY + 1))
    for version in (1, log.READ_BATCH, log.READ_BATCH + 1, MANY, MANY + 1):
        assert [
            entry async for entry in log.history(pool, "ann", task, version=version, slices=TimeSlices("ann"))
        ] == everything[:version]
    for after in (1, log.READ_BATCH, MANY - 1, MANY):
        assert [
            entry async for entry in log.history(pool, "ann", task, after=after, slices=TimeSlices("ann"))
        ] == everything[after:]
    middle = everything[MANY // 2].event.at
    assert await history(pool, "ann", task, at=middle) == everything[: MANY // 2 + 1]
    assert await history(pool, "bob", task) == []


async def test_before_more_events_than_a_batch_may_have_the_caller_may_wait(pool: Pool, states: list[Task]) -> None:
    read = waited = 0

    async def wait() -> None:
        nonlocal waited
        waited += 1
        assert read == log.READ_BATCH

    slices = TimeSlices("ann")
    async for _ in log.history(pool, "ann", states[0].id, slices=slices, before_more=wait):
        read += 1
    assert (read, waited) == (MANY, 1)


async def test_every_version_of_a_long_history_can_be_had(pool: Pool, states: list[Task]) -> None:
    task = states[0].id

    async def then(**when: Any) -> Task | None:
        found = await task_at(store_of(pool), "ann", task, **when)
        return found and found.task

    for state in states[:: log.READ_BATCH - 1]:
        assert await then(version=state.version) == state
        assert await then(at=state.updated_at) == state
    assert await task_at(store_of(pool), "ann", task, version=MANY + 1) is None
    assert await task_at(store_of(pool), "ann", task, at=states[0].created_at - timedelta(microseconds=1)) is None
    assert await task_at(store_of(pool), "bob", task, version=1) is None


async def test_a_task_with_a_long_history_is_restored_by_many_at_once(pool: Pool, states: list[Task]) -> None:
    task = states[0].id
    then = states[log.READ_BATCH]

    async def restore() -> Task | None:
        command = RestoreTask(user_id="ann", task_id=task, version=then.version)
        return (await handle(store_of(pool), command, actor="ann", metadata=Metadata())).task

    await handle(store_of(pool), DeleteTask(user_id="ann", task_id=task), actor="ann", metadata=Metadata())
    found = await asyncio.gather(*(restore() for _ in range(30)))
    assert {(each.version, each.completed, each.created_at) for each in found if each} == {
        (MANY + 2, then.completed, then.created_at)
    }
    assert len(found) == 30
    assert [
        entry.event.version async for entry in log.history(pool, "ann", task, after=MANY, slices=TimeSlices("ann"))
    ] == [MANY + 1, MANY + 2]


async def test_all_tasks_of_a_moment_are_those_of_the_events_until_then(pool: Pool, states: list[Task]) -> None:
    last = (await log.head(pool, "ann")).seq
    now = await all_tasks(pool, states[-1].updated_at, upto=last)
    assert states[-1] in now
    assert len(now) == 1 + (MANY - 1) // 100
    assert await all_tasks(pool, states[-1].updated_at, upto=log.READ_BATCH + 1) != now
    assert await all_tasks(pool, states[0].created_at, upto=last) == [states[0]]
    for some in (now[:1], now[1:], now[::2], []):
        ids = [task.id for task in some]
        assert await all_tasks(pool, states[-1].updated_at, upto=last, ids=[*ids, uuid7()]) == some


async def all_tasks(pool: Pool, at: datetime, *, upto: int, ids: Sequence[UUID] | None = None) -> list[Task]:
    return [
        task
        async for tasks in tasks_at(pool, "ann", at, upto=upto, slices=TimeSlices("ann"), ids=ids)
        for task in tasks
    ]
