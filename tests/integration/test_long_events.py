"""Long events are read and appended in batches of few bytes, and none is missed or read twice at their edges."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from uuid_utils.compat import uuid7

from db.pool import Pool
from db.time_slices import TimeSlices
from events.store import append, log, past, then_and_now
from events.store.append import PendingAppend, VersionTaken
from events.task import Task, TaskCreated, evolve
from queries import audit
from queries.audit import Selection
from queries.changes import FIRST_COPY, fetch_first_copy
from tests.arrange import Statement, Statements, note_statements, store_of
from tests.conftest import let_the_log_change
from tests.long_logs import add_toggles, make_tasks
from tests.spec import event

NUMBER, LENGTH = 40, 5000
FITTING = log.BATCH_BYTES // (4 * LENGTH) + 1
"""Events that are in a batch: with the last one it is full."""
NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture
async def statements(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> Statements:
    """Create `NUMBER` tasks of ann's, and return the statements that are sent from now on."""
    async with pool.acquire() as connection:
        await make_tasks(connection, "ann", NUMBER, length=LENGTH)
    return note_statements(monkeypatch)


def check(statements: Statements, query: str) -> None:
    """Check that the statement was sent for full batches, and for the rest."""
    rows = [each.rows or 0 for each in statements.of(query)]
    assert sum(rows) == NUMBER
    assert max(rows) == FITTING
    assert len(rows) == -(-NUMBER // FITTING)


async def collected(batches: AsyncIterator[Any]) -> list[Any]:
    return [each async for batch in batches for each in batch]


async def test_the_log(pool: Pool, statements: Statements) -> None:
    assert [each.seq async for each in log.read(pool, "ann", upto=NUMBER)] == list(range(1, NUMBER + 1))
    check(statements, log.READ.bounded)


async def test_tasks_of_the_past(pool: Pool, statements: Statements) -> None:
    slices = TimeSlices("ann")
    found = await collected(past.tasks_at(pool, "ann", NOW, upto=NUMBER, slices=slices))
    check(statements, past.FACTS_AT.bounded)
    ids = [task.id for task in found]
    assert len({*ids}) == NUMBER
    assert await collected(past.tasks_at(pool, "ann", NOW, upto=NUMBER, slices=slices, ids=ids)) == found
    check(statements, past.FACTS_AT_OF_SOME.bounded)


async def test_tasks_at_their_versions(pool: Pool, statements: Statements) -> None:
    ids = [task.id for task in await collected(past.tasks_at(pool, "ann", NOW, upto=NUMBER, slices=TimeSlices("ann")))]
    versions = dict.fromkeys(ids, 1)
    found = await past.tasks_at_versions(pool, "ann", versions, slices=TimeSlices("ann"))
    assert [task.id for task in found.values() if isinstance(task, Task)] == ids
    check(statements, past.FACTS_UPTO.bounded)


async def test_a_version_that_the_log_lacks_is_not_waited_for(pool: Pool, statements: Statements) -> None:
    ids = [task.id for task in await collected(past.tasks_at(pool, "ann", NOW, upto=NUMBER, slices=TimeSlices("ann")))]
    await past.tasks_at_versions(pool, "ann", dict.fromkeys(ids, 2), slices=TimeSlices("ann"))
    assert sum(each.rows or 0 for each in statements.of(past.FACTS_UPTO.bounded)) == NUMBER


async def test_tasks_then_and_now(pool: Pool, statements: Statements) -> None:
    found = then_and_now.then_and_now(pool, "ann", NOW, upto=NUMBER, slices=TimeSlices("ann"))
    assert len({each.task_id async for each in found}) == NUMBER
    check(statements, then_and_now.FACTS.bounded)


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("most", [None, FITTING - 1, FITTING, FITTING + 1, NUMBER, NUMBER + 1])
async def test_the_audit_trail(pool: Pool, statements: Statements, order: Any, most: int | None) -> None:
    found = [row["seq"] for row in await collected(audit.fetch_events(pool, "ann", Selection(order=order), most=most))]
    whole = list(range(1, NUMBER + 1))
    assert found == (whole if order == "asc" else whole[::-1])[:most]
    assert max(each.rows or 0 for each in statements.of(audit.AUDIT[order].bounded)) <= FITTING


async def test_the_database_reads_few_events_more_than_it_returns(pool: Pool, statements: Statements) -> None:
    """It reads as many as are asked for, also if fewer fit."""
    await collected(audit.fetch_events(pool, "ann", Selection(order="asc")))
    asked = [each.arguments[-1] for each in statements.of(audit.AUDIT["asc"].bounded)]
    assert asked[0] == log.READ_BATCH
    assert all(limit <= 1.25 * FITTING + 1 for limit in asked[1:])


async def test_batches_grow_again_after_long_events(pool: Pool, statements: Statements) -> None:
    async with pool.acquire() as connection:
        await add_toggles(connection, "ann", 2000)
    found = await collected(audit.fetch_events(pool, "ann", Selection(order="asc")))
    assert [row["seq"] for row in found] == list(range(1, NUMBER + 2001))
    sent = [each for form in audit.AUDIT["asc"] for each in statements.of(form)]
    assert len(sent) <= 2000 // log.READ_BATCH + 10


async def test_a_history(database: str, pool: Pool, statements: Statements) -> None:
    """Its batches are full, too. The caller waits only if there are more events than a batch may have."""
    await let_the_log_change(database)
    async with pool.acquire() as connection:
        id_ = await connection.fetchval("SELECT task_id FROM events WHERE user_id = 'ann' AND seq = 1")
        await connection.execute("UPDATE events SET task_id = $1, version = seq WHERE user_id = 'ann'", id_)
    waited = 0

    async def wait() -> None:
        nonlocal waited
        waited += 1

    entries = log.history(pool, "ann", id_, before_more=wait, slices=TimeSlices("ann"))
    assert [entry.event.version async for entry in entries] == list(range(1, NUMBER + 1))
    assert waited == 0
    check(statements, log.HISTORY.bounded)


def long_creations() -> list[PendingAppend]:
    created = TaskCreated("x", LENGTH * "x")
    events = [replace(event(created, 1, user_id="ann", task_id=uuid7()), id=uuid7()) for _ in range(NUMBER)]
    return [PendingAppend(each, evolve(None, each)) for each in events]


async def test_events_are_appended_in_statements_of_few_characters(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    pending, statements = long_creations(), note_statements(monkeypatch)
    async with store_of(pool).locked("ann") as stream:
        recorded = await stream.append_all(pending)
    assert [(each.seq, each.event) for each in recorded] == [(n, each.event) for n, each in enumerate(pending, 1)]
    found = [each async for each in log.read(pool, "ann", upto=NUMBER)]
    assert [(each.seq, each.hash, each.event) for each in found] == [(e.seq, e.hash, e.event) for e in recorded]
    lengths = [
        sum(len(text) for array in each.arguments[1:] for text in array if isinstance(text, str))
        for each in statements.of(append.APPEND_SEVERAL)
    ]
    assert len(lengths) > 1
    assert max(lengths) < append.PIECE + 4 * LENGTH


async def test_nothing_is_sent_behind_an_event_that_was_refused(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    pending, statements = long_creations(), note_statements(monkeypatch)
    pending[1] = pending[0]
    with pytest.raises(VersionTaken):
        async with store_of(pool).locked("ann") as stream:
            await stream.append_all(pending)
    assert len(statements.of(append.APPEND_SEVERAL)) == 1
    assert not [each async for each in log.read(pool, "ann", upto=NUMBER)]


async def test_a_first_copy_of_what_is_gone_meanwhile_is_empty(pool: Pool, statements: Statements) -> None:
    async def restore_from_a_backup(answered: Statement) -> None:
        if answered.query == FIRST_COPY.short:
            async with pool.acquire() as connection:
                await connection.execute("TRUNCATE tasks, streams")

    statements.on_answer = restore_from_a_backup
    page = await fetch_first_copy(pool, "ann", None, limit=NUMBER)
    assert page is not None
    assert (page.tasks, page.deleted, page.more) == ([], (), False)
