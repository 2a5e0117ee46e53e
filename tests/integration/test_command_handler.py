"""Commands on a real database: each leaves one event, an unbroken chain and an up-to-date projection, or nothing."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from uuid_utils.compat import uuid7

from commands.commands import Command, CreateTask, DeleteTask, RestoreTask, ToggleTask, UpdateTask
from commands.decider import TaskNotFound
from commands.handler import IdempotencyKeyReused, Outcome, handle
from commands.precondition import EntityTag, Precondition
from db.pool import Pool, open_pool
from events.projection import TaskRow, project, task_of
from events.store import log
from events.store.append import PendingAppend, RowGone, VersionConflict, append_one
from events.task import Event, Metadata, Task, TaskCreated, TaskDeleted, TaskToggled, evolve
from tests import independent
from tests.arrange import METADATA, create, run, store_of, until_locked_out
from tests.network import Link, Request
from tests.service import COLUMNS, SHARDED, WRONG_TITLE, sql
from tests.spec import Ids, event


async def rows(pool: Pool, user_id: str = "ann") -> Sequence[Any]:
    return await pool.fetch("SELECT *, data::text AS data FROM events WHERE user_id = $1 ORDER BY seq", user_id)


async def load(pool: Pool, task_id: UUID) -> Task | None:
    found = await store_of(pool).load("ann", task_id)
    return found and task_of(found.document)


def creation(user: str = "ann") -> CreateTask:
    return CreateTask(user_id=user, task_id=uuid7(), fields={"title": "x"})


async def test_each_write_leaves_one_event_and_the_projection_follows(pool: Pool) -> None:
    task = await create(pool)
    of_task: Ids = {"user_id": "ann", "task_id": task.id}
    steps: list[tuple[Command, str]] = [
        (UpdateTask(**of_task, fields={"title": "Buy oat milk"}), "TaskUpdated"),
        (ToggleTask(**of_task), "TaskToggled"),
        (DeleteTask(**of_task), "TaskDeleted"),
    ]
    for version, (command, type_) in enumerate(steps, 2):
        after = await run(pool, command)
        last = (await rows(pool))[-1]
        assert (last["seq"], last["version"], last["type"]) == (version, version, type_)
        assert await load(pool, task.id) == after
    assert [row["seq"] for row in await rows(pool)] == [1, 2, 3, 4]
    assert await pool.fetchval("SELECT count(*) FROM tasks") == 0


async def test_the_chain_verifies_by_code_that_shares_nothing_with_ours(pool: Pool) -> None:
    for user in ("ann", "bob", "ann", "ann"):
        await create(pool, user, "Übung \u2028 \x7f 🥛")
    for user, count in (("ann", 3), ("bob", 1)):
        entries = await rows(pool, user)
        hashes = independent.chain(entries)
        assert [row["hash"] for row in entries] == hashes
        stream = await pool.fetchrow("SELECT seq, hash FROM streams WHERE user_id = $1", user)
        assert stream is not None
        assert (stream["seq"], stream["hash"]) == (count, hashes[-1])


async def test_an_event_records_who_when_and_from_where(pool: Pool) -> None:
    task = await create(pool)
    [row] = await rows(pool)
    assert (row["actor"], row["at"], row["task_id"]) == ("ann", task.created_at, task.id)
    assert (row["request_id"], row["client_address"], row["client_agent"]) == ("r-1", "192.0.2.7", "tests")
    assert len(row["salt"]) == 16


async def test_a_change_that_changes_nothing_leaves_no_event(pool: Pool) -> None:
    task = await create(pool)
    same = UpdateTask(user_id="ann", task_id=task.id, fields={"title": task.title})
    assert await run(pool, same) == task
    assert len(await rows(pool)) == 1


async def test_another_users_task_is_not_found(pool: Pool) -> None:
    task = await create(pool)
    commands: list[Command] = [
        ToggleTask(user_id="bob", task_id=task.id),
        DeleteTask(user_id="bob", task_id=task.id),
        UpdateTask(user_id="bob", task_id=task.id, fields={"title": "Mine"}),
    ]
    for command in commands:
        with pytest.raises(TaskNotFound):
            await run(pool, command)
    assert await load(pool, task.id) == task


async def test_the_same_task_id_may_belong_to_two_users(pool: Pool) -> None:
    task_id = uuid7()
    for user in ("ann", "bob"):
        await run(pool, CreateTask(user_id=user, task_id=task_id, fields={"title": user}))
    await run(pool, DeleteTask(user_id="ann", task_id=task_id))
    left = await pool.fetch(f"SELECT user_id, {COLUMNS} FROM tasks")
    assert [(row["user_id"], row["title"]) for row in left] == [("bob", "bob")]


@pytest.mark.parametrize("table", ["tasks", "events", "streams"])
async def test_a_write_that_fails_half_way_leaves_nothing(pool: Pool, table: str) -> None:
    task = await create(pool)
    before = await _everything(pool)
    forbids = {"tasks": "title_key <> 'boom'", "events": "data::text NOT LIKE '%boom%'", "streams": "seq < 2"}[table]
    await sql(pool, f"ALTER TABLE {table} ADD CONSTRAINT half_way CHECK ({forbids})")
    with pytest.raises(asyncpg.CheckViolationError):
        await run(pool, UpdateTask(user_id="ann", task_id=task.id, fields={"title": "boom"}))
    assert await _everything(pool) == before


async def _everything(pool: Pool) -> list[list[tuple[Any, ...]]]:
    return [
        [tuple(row) for row in await pool.fetch(f"SELECT * FROM {table}")] for table in ("streams", "events", "tasks")
    ]


async def test_a_hundred_toggles_at_once_all_count(database: str) -> None:
    async with open_pool(database, size=20, sharded=SHARDED) as pool:
        task = await create(pool)
        toggle = ToggleTask(user_id="ann", task_id=task.id)
        results = await asyncio.gather(*(run(pool, toggle) for _ in range(100)))
        assert sorted(task.version for task in results if task) == list(range(2, 102))
        events = await rows(pool)
        assert [row["version"] for row in events] == list(range(1, 102))
        assert [row["hash"] for row in events] == independent.chain(events)
        now = await load(pool, task.id)
        assert now is not None
        assert (now.version, now.completed) == (101, False)


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
async def test_a_stricter_default_isolation_changes_nothing(database: str, pool: Pool, isolation: str) -> None:
    name = await pool.fetchval("SELECT current_database()")
    await sql(pool, f"ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'")
    async with open_pool(database, sharded=SHARDED) as strict:
        task = await create(strict)
        toggle = ToggleTask(user_id="ann", task_id=task.id)
        results = await asyncio.gather(*(run(strict, toggle) for _ in range(30)))
    assert sorted(task.version for task in results if task) == list(range(2, 32))


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
async def test_a_stricter_default_isolation_changes_nothing_of_keys(database: str, pool: Pool, isolation: str) -> None:
    name = await pool.fetchval("SELECT current_database()")
    await sql(pool, f"ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'")
    keyed = Metadata(idempotency_key="k-1", fingerprint=bytes(32))
    async with open_pool(database, sharded=SHARDED) as strict:
        store = store_of(strict)
        outcomes = await asyncio.gather(
            *(
                handle(
                    store,
                    CreateTask(user_id="ann", task_id=uuid7(), fields={"title": "x"}),
                    actor="ann",
                    metadata=keyed,
                )
                for _ in range(50)
            )
        )
    assert [outcome.task for outcome in outcomes] == [outcomes[0].task] * len(outcomes)
    assert Counter(outcome.replayed for outcome in outcomes) == {True: 49, False: 1}


async def test_of_many_deletions_at_once_one_succeeds(pool: Pool) -> None:
    task = await create(pool)
    delete = DeleteTask(user_id="ann", task_id=task.id)
    results = await asyncio.gather(*(run(pool, delete) for _ in range(20)), return_exceptions=True)
    assert Counter(type(result) for result in results) == {type(None): 1, TaskNotFound: 19}
    assert [row["type"] for row in await rows(pool)] == ["TaskCreated", "TaskDeleted"]


async def test_writers_of_one_user_never_leave_a_gap_or_a_fork(pool: Pool) -> None:
    await asyncio.gather(*(create(pool, user, str(n)) for n in range(50) for user in ("ann", "bob")))
    for user in ("ann", "bob"):
        entries = await rows(pool, user)
        assert [row["seq"] for row in entries] == list(range(1, 51))
        assert [row["hash"] for row in entries] == independent.chain(entries)


async def test_a_second_event_for_one_version_is_a_conflict(pool: Pool) -> None:
    created, second = event(TaskCreated("Buy milk", None, False), 1), event(TaskToggled(True), 2)
    task = evolve(None, created)
    async with pool.acquire() as connection:
        await append_one(connection, PendingAppend(created, task))
        await append_one(connection, PendingAppend(second, evolve(task, second)))
        with pytest.raises(VersionConflict):
            await append_one(connection, PendingAppend(second, evolve(task, second)))
    assert len(await rows(pool)) == 2


@pytest.mark.parametrize("what", ["update", "toggle", "delete", "restore", "nothing"])
async def test_a_write_that_finds_no_row_is_decided_on_the_log(pool: Pool, what: str) -> None:
    """The projection is empty, as at the start of a rebuild. The key shows that a repeat is known there too."""
    of_task: Ids = {"user_id": "ann", "task_id": (await create(pool)).id}
    await run(pool, ToggleTask(**of_task))
    commands: dict[str, Command] = {
        "update": UpdateTask(**of_task, fields={"title": "Buy oat milk"}, precondition=Precondition({EntityTag(2)})),
        "toggle": ToggleTask(**of_task),
        "delete": DeleteTask(**of_task),
        "restore": RestoreTask(**of_task, version=1),
        "nothing": ToggleTask(**of_task, completed=True),
    }
    keyed = replace(METADATA, idempotency_key="k", fingerprint=bytes(32))
    await sql(pool, "TRUNCATE tasks")
    outcome = await handle(store_of(pool), commands[what], actor="ann", metadata=keyed)
    assert not outcome.replayed
    history = [event async for event in store_of(pool).history("ann", of_task["task_id"])]
    assert len(history) == (2 if what == "nothing" else 3)
    if what == "nothing":
        assert outcome.task is not None
        assert outcome.task.completed
        return
    assert await load(pool, of_task["task_id"]) == outcome.task
    await sql(pool, "TRUNCATE tasks")
    assert await handle(store_of(pool), commands[what], actor="ann", metadata=keyed) == replace(
        outcome, what="replayed"
    )


async def test_a_task_that_never_was_or_was_deleted_is_not_looked_for_under_the_lock(pool: Pool) -> None:
    task = await create(pool)
    await run(pool, DeleteTask(user_id="ann", task_id=task.id))
    async with pool.acquire() as other, other.transaction():
        await log.lock_stream(other, "ann")
        for task_id in (task.id, uuid7()):
            with pytest.raises(TaskNotFound):
                await run(pool, ToggleTask(user_id="ann", task_id=task_id))


async def test_a_deletion_removes_the_row_that_a_rebuild_writes_meanwhile(pool: Pool) -> None:
    """The deletion's statement began without the row, and waited for the lock that the rebuild held."""
    task = await create(pool)
    deleted = event(TaskDeleted(task.title, task.description, task.completed), 2, task_id=task.id)
    await sql(pool, "TRUNCATE tasks")
    async with pool.acquire() as rebuild:
        async with rebuild.transaction():
            await log.lock_stream(rebuild, "ann")
            waiting = asyncio.create_task(_append(pool, deleted))
            await until_locked_out(pool)
            await rebuild.copy_records_to_table("tasks", records=[project(task)], columns=TaskRow._fields)
        await waiting
    assert len(await rows(pool)) == 2
    assert await load(pool, task.id) is None


async def test_a_deletion_that_was_decided_on_a_row_needs_one(pool: Pool) -> None:
    task = await create(pool)
    deleted = event(TaskDeleted(task.title, task.description, task.completed), 2, task_id=task.id)
    await sql(pool, "TRUNCATE tasks")
    with pytest.raises(RowGone):
        await _append(pool, deleted)
    assert len(await rows(pool)) == 1


async def _append(pool: Pool, deleted: Event) -> None:
    async with pool.acquire() as connection:
        await append_one(connection, PendingAppend(deleted, None))


@pytest.mark.parametrize(
    "wrong",
    [
        f"{WRONG_TITLE}, version = 1",
        f"{WRONG_TITLE}, version = 7",
        f"{WRONG_TITLE}, updated_at = '2101-01-01'",
        f"{WRONG_TITLE}, updated_at = 'infinity'",
        f"{WRONG_TITLE}, version = 1, created_at = '2101-01-01', updated_at = '2101-01-02'",
        "document = '{'",
        "document = '[]'",
        *(
            f"document = jsonb_set(document::jsonb, '{{{field}}}', '{value}')::text"
            for field, value in {
                "id": "5",
                "title": "5",
                "description": "7",
                "completed": '"x"',
                "user_id": '"bob"',
                "updated_at": '"2026-01-01T00:00:00"',
            }.items()
        ),
        "document = replace(document, '\"version\":2', '\"version\":1')",
        "document = replace(document, '\"completed\"', '\"done\"')",
    ],
)
async def test_a_row_that_does_not_fit_its_log_gets_nothing_into_it(pool: Pool, wrong: str) -> None:
    task = await create(pool)
    of_task: Ids = {"user_id": "ann", "task_id": task.id}
    await run(pool, ToggleTask(**of_task))
    await sql(pool, f"UPDATE tasks SET {wrong}")
    after = await run(pool, UpdateTask(**of_task, fields={"description": "Two"}))
    assert after is not None
    assert (after.version, after.title, after.completed) == (3, task.title, True)
    assert after.updated_at - task.created_at < timedelta(hours=1)
    assert await load(pool, task.id) == after
    assert await pool.fetchval("SELECT created_at FROM tasks") == task.created_at


async def test_a_row_that_the_log_does_not_know_is_no_task(pool: Pool) -> None:
    await create(pool)
    await sql(pool, "UPDATE tasks SET id = $1", stray := uuid7())
    commands: list[Command] = [
        ToggleTask(user_id="ann", task_id=stray),
        DeleteTask(user_id="ann", task_id=stray),
        RestoreTask(user_id="ann", task_id=stray),
    ]
    for command in commands:
        with pytest.raises(TaskNotFound):
            await run(pool, command)
    assert len(await rows(pool)) == 1


@pytest.mark.parametrize("tags", [None, {EntityTag(1)}])
async def test_a_retry_that_comes_while_the_first_request_ends_is_its_replay(
    database: str, pool: Pool, tags: set[EntityTag] | None
) -> None:
    """The first request ends after the retry looked for the row, which is missing, and before it looks into the log."""
    of_task: Ids = {"user_id": "ann", "task_id": (await create(pool)).id}
    await sql(pool, "TRUNCATE tasks")
    command = (
        UpdateTask(**of_task, fields={"title": "x"}, precondition=Precondition(tags)) if tags else DeleteTask(**of_task)
    )
    keyed = replace(METADATA, idempotency_key="k", fingerprint=bytes(32))
    link, outcomes = Link(database), list[Outcome]()

    async def on_request(request: Request) -> None:
        if log.LAST.encode() in request.data and not outcomes:
            outcomes.append(await handle(store_of(pool), command, actor="ann", metadata=keyed))

    link.on_request = on_request
    async with link.open() as dsn, open_pool(dsn, sharded=SHARDED) as far:
        outcomes.append(await handle(store_of(far), command, actor="ann", metadata=keyed))
    assert [outcome.replayed for outcome in outcomes] == [False, True]
    assert outcomes[0].task == outcomes[1].task


async def test_a_task_comes_back_after_its_deletion_whatever_the_clock_says(pool: Pool) -> None:
    task = await create(pool)
    later = task.created_at + timedelta(hours=1)
    deleted = replace(event(TaskDeleted(task.title, None, False), 2, task_id=task.id), at=later)
    async with pool.acquire() as connection:
        await append_one(connection, PendingAppend(deleted, evolve(task, deleted)))
    restored = await run(pool, RestoreTask(user_id="ann", task_id=task.id))
    assert restored is not None
    assert (restored.updated_at, restored.created_at) == (later + timedelta(microseconds=1), task.created_at)


async def test_an_idempotency_key_is_taken_once_per_user(pool: Pool) -> None:
    keyed = Metadata(idempotency_key="k-1", fingerprint=bytes(32))
    for user in ("ann", "bob"):
        await handle(
            store_of(pool), CreateTask(user_id=user, task_id=uuid7(), fields={"title": "x"}), actor=user, metadata=keyed
        )
    first = await pool.fetchval("SELECT task_id FROM events WHERE user_id = 'ann'")
    outcome = await handle(store_of(pool), creation(), actor="ann", metadata=keyed)
    assert (outcome.task and outcome.task.id, outcome.replayed) == (first, True)
    other = replace(keyed, fingerprint=bytes(31) + b"x")
    with pytest.raises(IdempotencyKeyReused):
        await handle(
            store_of(pool),
            CreateTask(user_id="ann", task_id=uuid7(), fields={"title": "y"}),
            actor="ann",
            metadata=other,
        )
    assert len(await rows(pool)) == 1


async def test_the_log_reads_back_what_was_written(pool: Pool) -> None:
    task = await create(pool)
    await run(pool, ToggleTask(user_id="ann", task_id=task.id))
    folded: dict[UUID, Task | None] = {}
    entries = [entry async for entry in log.read(pool, "ann", upto=2)]
    for entry in entries:
        folded[entry.event.task_id] = evolve(folded.get(entry.event.task_id), entry.event)
    assert [entry.seq for entry in entries] == [1, 2]
    assert entries[0].event.metadata == METADATA
    assert folded == {task.id: await load(pool, task.id)}


async def test_a_user_can_be_named_in_any_script_and_at_any_length_allowed(pool: Pool) -> None:
    for user in ("x" * 255, "Ωμέγα 🥛", "a'b\"c\\d;--", " "):
        await create(pool, user)
        assert len(await rows(pool, user)) == 1
