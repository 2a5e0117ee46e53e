"""Group commit (docs/adr/0016): concurrent appends share a statement, and each gets its own outcome."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest
from asyncpg.connection import LoggedQuery
from uuid_utils.compat import uuid7

from commands.commands import DeleteTask, ToggleTask
from commands.decider import VersionMismatch
from commands.precondition import EntityTag, Precondition
from db.batching import MAX_BATCH
from db.errors import TooBusy
from db.pool import Pool, open_pool
from events.integrity import work_units
from events.integrity.verify import verify
from events.store import in_doubt
from events.store.append import (
    APPEND,
    APPEND_MANY,
    APPEND_SEVERAL,
    IdempotencyKeyTaken,
    PendingAppend,
    RecordedEvent,
    VersionConflict,
    VersionTaken,
    append_one,
)
from events.store.in_doubt import InDoubt
from events.task import Task, TaskCreated, TaskDeleted, TaskToggled, evolve
from tests.arrange import METADATA, create, run, store_of, until_locked_out
from tests.conftest import on_plain_postgres
from tests.service import SHARDED, sql
from tests.spec import event

EVERYBODY = [f"user-{number:02}" for number in range(40)]


@pytest.fixture(
    params=[pytest.param(False, id="across users", marks=on_plain_postgres), pytest.param(True, id="sharded")]
)
async def pool(request: pytest.FixtureRequest, database: str) -> AsyncIterator[Pool]:
    async with open_pool(database, size=6, sharded=request.param) as pool:
        yield pool


async def observe(pool: Pool, note: Callable[[float, Sequence[str]], None]) -> None:
    """Have `note` called after each statement that appends: when it began, and the user of each of its events."""

    def logged(query: LoggedQuery) -> None:
        if query.query in (APPEND, APPEND_SEVERAL, APPEND_MANY):
            users, ids = query.args[0], query.args[2]
            each = [users] * (1 if query.query == APPEND else len(ids)) if isinstance(users, str) else users
            note(time.monotonic() - query.elapsed, each)

    async with AsyncExitStack() as stack:
        for _ in range(pool.size):
            (await stack.enter_async_context(pool.acquire())).add_query_logger(logged)


@pytest.fixture
async def statements(pool: Pool) -> list[Sequence[str]]:
    """Return the users of each statement that appends, once for each of their events."""
    found: list[Sequence[str]] = []
    await observe(pool, lambda _, users: found.append(users))
    return found


def creation(user: str, *, title: str = "x", key: str | None = None, task_id: UUID | None = None) -> PendingAppend:
    made = replace(event(TaskCreated(title, None, False), 1, user_id=user, task_id=task_id or uuid7()), id=uuid7())
    made = replace(made, metadata=replace(METADATA, idempotency_key=key, fingerprint=bytes(32) if key else None))
    return PendingAppend(made, evolve(None, made), on_row=True)


def backdated(pending: PendingAppend) -> PendingAppend:
    """Return an append of a task that was changed before it was created, which no row can say."""
    assert pending.task is not None
    return pending._replace(event=replace(pending.event, at=pending.event.at - timedelta(days=1)))


def toggle(before: PendingAppend) -> PendingAppend:
    made = replace(event(TaskToggled(True), 2, user_id=before.event.user_id, task_id=before.event.task_id), id=uuid7())
    return PendingAppend(made, evolve(before.task, made), on_row=True)


async def log_state(pool: Pool) -> tuple[int, Sequence[object]]:
    """Return the number of events in the log, and the mismatches that `verify` finds."""
    async with pool.acquire() as connection:
        streams = [stream async for unit in work_units.everyone(connection) for stream in unit.streams]
        count = await connection.fetchval("SELECT count(*) FROM events")
        return count, (await verify(connection, streams)).mismatches


async def test_a_lone_append_has_a_statement_of_its_own(pool: Pool, statements: list[Sequence[str]]) -> None:
    for _ in range(3):
        await create(pool, "ann")
    assert statements == [["ann"]] * 3


async def test_concurrent_appends_share_a_statement(pool: Pool, statements: list[Sequence[str]]) -> None:
    await asyncio.gather(*(create(pool, user) for user in EVERYBODY))  # their first events go alone
    assert await log_state(pool) == (40, [])
    statements.clear()
    await asyncio.gather(*(create(pool, user) for user in EVERYBODY))
    assert Counter(user for users in statements for user in users) == Counter(EVERYBODY)
    if pool.sharded:
        assert all(len(set(users)) == 1 for users in statements)
    else:
        assert max(len(users) for users in statements) == MAX_BATCH
        assert len(statements) < len(EVERYBODY) / 3
    assert await log_state(pool) == (80, [])


async def test_one_users_concurrent_events_share_a_statement(pool: Pool, statements: list[Sequence[str]]) -> None:
    titles = [f"title {number}" for number in range(50)]
    made = await asyncio.gather(*(create(pool, "ann", title) for title in titles))
    assert [task.title for task in made] == titles
    rows = await pool.fetch(
        "SELECT seq, task_id, data -> 'changes' -> 'title' ->> 'to' FROM events WHERE user_id = 'ann' ORDER BY seq"
    )
    assert [row["seq"] for row in rows] == list(range(1, 51))
    assert {tuple(row)[1:] for row in rows} == {(task.id, task.title) for task in made}
    assert len(statements) < 10
    assert await log_state(pool) == (50, [])


async def test_each_append_returns_the_place_of_its_own_event(pool: Pool) -> None:
    appends = store_of(pool)
    for _ in range(2):  # first events, and others
        entries = await asyncio.gather(*(appends.append(creation(user)) for user in EVERYBODY for _ in range(2)))
        rows = await pool.fetch("SELECT id, seq, hash FROM events WHERE id = ANY ($1)", [e.event.id for e in entries])
        assert {(entry.event.id, entry.seq, entry.hash) for entry in entries} == {tuple(row) for row in rows}


async def test_commands_of_all_kinds_share_statements(pool: Pool) -> None:
    tasks = await asyncio.gather(*(create(pool, user) for user in EVERYBODY for _ in range(3)))
    kinds = (ToggleTask, DeleteTask)
    done = await asyncio.gather(
        *(run(pool, kinds[number % 2](user_id=task.user_id, task_id=task.id)) for number, task in enumerate(tasks)),
        *(create(pool, user) for user in EVERYBODY),
    )
    assert [None if task is None else task.completed for task in done[: len(tasks)]] == [True, None] * 60
    assert await pool.fetchval("SELECT count(*) FROM tasks") == 60 + 40
    assert await log_state(pool) == (120 + 120 + 40, [])


async def test_a_failed_append_does_not_fail_its_neighbours(pool: Pool, statements: list[Sequence[str]]) -> None:
    taken = creation("taken", key="its key")
    deleted = creation("deleted")
    async with pool.acquire() as connection:  # as another process would
        for each in (taken, deleted):
            await append_one(connection, each)
        await append_one(connection, toggle(taken))
        await connection.execute("DELETE FROM tasks WHERE user_id = 'deleted'")
    statements.clear()
    payload = TaskDeleted("x", None, False)
    deletion = replace(event(payload, 2, user_id="deleted", task_id=deleted.event.task_id), id=uuid7())
    bad: list[tuple[PendingAppend, type[Exception]]] = [
        (toggle(taken), VersionTaken),
        (creation("taken", key="its key"), IdempotencyKeyTaken),
        (backdated(creation("long")), asyncpg.CheckViolationError),
        (PendingAppend(deletion, None, on_row=True), VersionConflict),  # there is no row to delete
    ]
    good = [creation(user) for user in ("ann", "bob", "taken", "long", "deleted", "eve")]
    pending_appends = [*good[:3], *(pending for pending, _ in bad), *good[3:]]
    appends = store_of(pool)
    outcomes = await asyncio.gather(*(appends.append(each) for each in pending_appends), return_exceptions=True)
    for pending, outcome in zip(pending_appends, outcomes, strict=True):
        expected = next((kind for each, kind in bad if each is pending), RecordedEvent)
        assert isinstance(outcome, expected), (pending, outcome)
    if not pool.sharded:
        assert len(statements[0]) == len(pending_appends)
    ids = {row["id"] for row in await pool.fetch("SELECT id FROM events")}
    assert {each.event.id for each in good} <= ids
    assert len(ids) == 3 + len(good)


async def test_an_event_that_cannot_be_encoded_fails_alone(pool: Pool) -> None:
    await asyncio.gather(*(create(pool, user) for user in EVERYBODY[:5]))
    good, bad = [creation(user) for user in EVERYBODY[:4]], creation(EVERYBODY[4])
    bad = bad._replace(event=replace(bad.event, version=2**31))
    outcomes = await asyncio.gather(*map(store_of(pool).append, [*good, bad]), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [*[RecordedEvent] * 4, asyncpg.DataError]
    assert await log_state(pool) == (9, [])


async def test_an_append_to_a_log_without_its_stream_ends(database: str) -> None:
    """The log has the first event already, so the append is told to try again."""
    async with open_pool(database, timeout=0.5, sharded=SHARDED) as pool:
        await create(pool, "ann")
        await sql(pool, "DELETE FROM streams")
        async with asyncio.timeout(10):
            with pytest.raises((TooBusy, TimeoutError)):  # at its deadline it is in the queue, or on its way
                await store_of(pool).append(creation("ann"))


async def test_of_several_events_for_one_version_or_key_one_is_written(pool: Pool) -> None:
    """The appends were decided on the same state, and none makes another's statement fail."""
    appends = store_of(pool)
    task = creation("ann")
    await appends.append(task)
    outcomes = await asyncio.gather(
        *(appends.append(toggle(task)) for _ in range(5)),
        *(appends.append(creation("ann", key="once")) for _ in range(5)),
        *(appends.append(creation(user)) for user in EVERYBODY[:5]),
        return_exceptions=True,
    )
    kinds = Counter(type(outcome) for outcome in outcomes)
    assert kinds == {RecordedEvent: 7, VersionTaken: 4, IdempotencyKeyTaken: 4}
    assert (await log_state(pool))[0] == 1 + 7


async def test_fifty_toggles_at_once_are_fifty_events(pool: Pool) -> None:
    task = await create(pool, "ann")
    outcomes = await asyncio.gather(
        *(run(pool, ToggleTask(user_id="ann", task_id=task.id)) for _ in range(50)),
        *(
            run(pool, ToggleTask(user_id="ann", task_id=task.id, precondition=Precondition({EntityTag(1)})))
            for _ in range(5)
        ),
        return_exceptions=True,
    )
    done = [outcome for outcome in outcomes if isinstance(outcome, Task)]
    assert {task.version for task in done} == set(range(2, len(done) + 2))
    assert all(isinstance(each, VersionMismatch) for each in outcomes if not isinstance(each, Task))
    assert len(done) in (50, 51)
    assert await log_state(pool) == (1 + len(done), [])


async def test_a_cancelled_append_cancels_no_other(pool: Pool, other: asyncpg.Connection) -> None:
    """The first one's event is being written; the last one waits for a connection, and is never written."""
    await asyncio.gather(*(create(pool, user) for user in EVERYBODY))
    async with AsyncExitStack() as stack:
        for _ in range(pool.size - 1):
            await stack.enter_async_context(pool.acquire())
        await stack.enter_async_context(other.transaction())
        await other.execute("LOCK TABLE events IN SHARE MODE")
        writing = [asyncio.create_task(create(pool, user)) for user in EVERYBODY for _ in range(2)]
        await until_locked_out(other)
        await asyncio.sleep(0.3)  # so long that every event is in a batch, and all batches but the first one wait
        for task in (writing[0], writing[-1]):
            task.cancel()
        await asyncio.wait([writing[0], writing[-1]])
    for task in writing[1:-1]:
        await task
    assert await log_state(pool) == (40 + 79, [])


async def test_a_backend_killed_in_the_middle_loses_nothing(
    pool: Pool, other: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_doubt, "RESOLVE_SECONDS", 30)  # the table stays locked until the third is killed
    await asyncio.gather(*(create(pool, user) for user in EVERYBODY))
    transaction = other.transaction()
    await transaction.start()
    await other.execute("LOCK TABLE events IN SHARE MODE")
    writing = [asyncio.create_task(create(pool, user)) for user in EVERYBODY]
    for _ in range(3):
        await other.execute("SELECT pg_terminate_backend($1::integer)", await until_locked_out(other))
    await transaction.rollback()
    await asyncio.gather(*writing)
    assert await log_state(pool) == (80, [])


async def test_a_write_without_an_answer_is_in_doubt_within_the_pools_timeout(
    database: str, other: asyncpg.Connection
) -> None:
    """The statement gets less time than the pool's timeout, to leave some for finding out."""
    async with open_pool(database, timeout=4, sharded=SHARDED) as pool, other.transaction():
        await create(pool, "ann")
        await other.execute("LOCK TABLE events IN SHARE MODE")
        writing = asyncio.create_task(create(pool, "ann"))
        await until_locked_out(other)
        async with asyncio.timeout(pool.timeout + 0.45):
            with pytest.raises(InDoubt, match="TimeoutError"):
                await writing


async def test_no_append_waits_for_another_users_lock(pool: Pool, other: asyncpg.Connection) -> None:
    await asyncio.gather(*(create(pool, user) for user in ("ann", *EVERYBODY)))
    async with other.transaction():
        await other.execute("SELECT FROM streams WHERE user_id = 'ann' FOR UPDATE")
        waiting = [asyncio.create_task(create(pool, "ann")) for _ in range(20)]
        for _ in range(3):
            async with asyncio.timeout(5):
                await asyncio.gather(*(create(pool, user) for user in EVERYBODY))
        assert not any(task.done() for task in waiting)
        await until_locked_out(other)  # one that is told that the stream is locked is sent again, alone
        held = await other.fetchval("SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted")
        assert 1 <= held <= 2  # however many wait
    await asyncio.gather(*waiting)
    assert await log_state(pool) == (41 + 120 + 20, [])


async def test_a_flood_of_one_user_does_not_keep_others_waiting(pool: Pool) -> None:
    sent: list[tuple[float, Sequence[str]]] = []
    await observe(pool, lambda began, users: sent.append((began, users)))
    appends = store_of(pool)
    await asyncio.gather(*(appends.append(creation(user)) for user in ("ann", "bob")))
    flood = [asyncio.create_task(appends.append(creation("ann"))) for _ in range(8 * MAX_BATCH)]
    asked = []
    for _ in range(4):
        asked.append(time.monotonic())
        await appends.append(creation("bob"))
    await asyncio.gather(*flood)
    for moment in asked:
        later = sorted(each for each in sent if each[0] > moment)
        ahead = next(number for number, (_, users) in enumerate(later) if "bob" in users)
        assert ahead <= 2  # two of hers may have begun, and all of hers would be eight
    assert await log_state(pool) == (2 + 8 * MAX_BATCH + 4, [])


async def test_a_flood_of_one_user_does_not_take_the_others_places(database: str, other: asyncpg.Connection) -> None:
    async with open_pool(database, size=2, max_waiting=40, sharded=SHARDED) as pool:
        await asyncio.gather(*(create(pool, user) for user in ("ann", "bob")))
        async with other.transaction():
            await other.execute("SELECT FROM streams WHERE user_id = 'ann' FOR UPDATE")
            appends = store_of(pool)
            flood = [asyncio.create_task(appends.append(creation("ann"))) for _ in range(60)]
            await until_locked_out(other)
            assert sum(task.done() for task in flood) == 18
            bob = asyncio.create_task(appends.append(creation("bob")))
            await asyncio.wait(flood, timeout=0.05)
            assert sum(task.done() for task in flood) == 19  # she gave up one for him
        await bob
        outcomes = await asyncio.gather(*flood, return_exceptions=True)
        assert Counter(type(outcome) for outcome in outcomes) == {RecordedEvent: 41, TooBusy: 19}
        assert await log_state(pool) == (2 + 41 + 1, [])


async def test_cancelled_appends_hold_up_no_other(pool: Pool, other: asyncpg.Connection) -> None:
    """A hundred cancelled appends are first in the queue."""
    async with other.transaction():
        await other.execute("LOCK TABLE events IN SHARE MODE")
        appends = store_of(pool)
        leaving = [asyncio.create_task(appends.append(creation(f"user-{number:03}"))) for number in range(100)]
        await until_locked_out(other)
        staying = asyncio.create_task(appends.append(creation("ann")))
        await asyncio.sleep(0.1)
        for task in leaving:
            task.cancel()
        await asyncio.wait(leaving)
    async with asyncio.timeout(5):
        await staying


async def test_a_refused_append_keeps_no_other_waiting(pool: Pool, other: asyncpg.Connection) -> None:
    """The refusal and later appends don't wait for the locks of other users in the refused append's statement."""
    held = ["bob", "cat", "dan"]
    appends = store_of(pool)
    await appends.append(creation("ann", key="a key"))
    await asyncio.gather(*(appends.append(creation(user)) for user in (*held, "eve")))
    async with other.transaction():
        for user in held:
            await other.execute("SELECT FROM streams WHERE user_id = $1 FOR UPDATE", user)
        waiting = [asyncio.create_task(appends.append(creation(user))) for user in held]
        taken = asyncio.create_task(appends.append(creation("ann", key="a key")))
        async with asyncio.timeout(5):
            await appends.append(creation("eve"))
            with pytest.raises(IdempotencyKeyTaken):
                await taken
        assert not any(task.done() for task in waiting)
    await asyncio.gather(*waiting)


async def test_new_users_in_two_processes_do_not_wait_for_each_other(database: str, pool: Pool) -> None:
    async with open_pool(database, sharded=pool.sharded) as neighbour:
        for number in range(4):
            users = [f"new-{number}-{each}" for each in range(30)]
            await asyncio.gather(*(create(each, user) for each in (pool, neighbour) for user in users))
    assert await pool.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0
    assert await log_state(pool) == (240, [])


async def test_an_append_that_waits_too_long_is_refused_and_not_sent(database: str, other: asyncpg.Connection) -> None:
    async with open_pool(database, timeout=0.5, sharded=SHARDED) as pool:
        appends = store_of(pool)
        await appends.append(creation("ann"))
        async with other.transaction(), asyncio.timeout(10):
            await other.execute("SELECT FROM streams WHERE user_id = 'ann' FOR UPDATE")
            pending_appends = [creation("ann") for _ in range(100)]
            outcomes = await asyncio.gather(*map(appends.append, pending_appends), return_exceptions=True)
        kinds = Counter(type(outcome) for outcome in outcomes)
        assert kinds.keys() == {TimeoutError, TooBusy}
        assert kinds[TimeoutError] <= 2 * MAX_BATCH  # those that were sent
        assert any("turn" in str(outcome) for outcome in outcomes)
        refused = [
            pending.event.id
            for pending, outcome in zip(pending_appends, outcomes, strict=True)
            if type(outcome) is TooBusy
        ]
        assert not await pool.fetch("SELECT FROM events WHERE id = ANY ($1)", refused)
        assert (await log_state(pool))[1] == []


async def test_two_processes_write_to_the_same_users(database: str, pool: Pool) -> None:
    users = EVERYBODY[:10]
    async with open_pool(database, sharded=pool.sharded) as neighbour:
        async with asyncio.timeout(60):
            made = await asyncio.gather(
                *(create(each, user) for _ in range(4) for user in users for each in (pool, neighbour))
            )
            toggled = await asyncio.gather(
                *(
                    run(each, ToggleTask(user_id=task.user_id, task_id=task.id))
                    for task in made
                    for each in (pool, neighbour)
                )
            )
    assert Counter(task.version for task in toggled if task) == {2: 80, 3: 80}
    assert await log_state(pool) == (80 + 160, [])
