"""The service or the owner can erase by SQL what the log records as erased, and change nothing else."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from uuid_utils.compat import uuid7

from commands.commands import CreateTask, DeleteTask, EraseTask, UpdateTask
from commands.handler import handle
from db.pool import Pool
from events.integrity.verify import verify
from events.integrity.work_units import StreamSize
from events.store.append import PendingAppend, append_one
from events.store.content import CONTENT_OF_TASK, ERASE, content_digest, erase_content_of_task
from events.store.log import COLUMNS
from events.task import Event, TaskErased
from tests.arrange import METADATA, create, run, store_of
from tests.conftest import let_the_log_change, on_plain_postgres
from tests.service import sql
from tests.test_deployment import ROOT

DIGEST = sha256(b"").digest()


@dataclass(frozen=True)
class Log:
    """A user with a task that is recorded as erased, its content still there, and one that is there."""

    pool: Pool
    erased: UUID
    live: UUID
    digests: dict[int, bytes]


@pytest.fixture
async def log(pool: Pool) -> Log:
    live = await create(pool, title="Live")
    gone = await create(pool, title="Gone")
    await run(pool, UpdateTask(user_id="ann", task_id=gone.id, fields={"description": "x"}))
    await run(pool, DeleteTask(user_id="ann", task_id=gone.id))
    await run(pool, EraseTask(user_id="ann", task_id=gone.id))
    await sql(pool, (ROOT / "db" / "roles.sql").read_text())
    rows = await pool.fetch(CONTENT_OF_TASK.short, "ann", gone.id, 0, ["TaskErased"], 10)
    rows += await pool.fetch(CONTENT_OF_TASK.short, "ann", live.id, 0, ["TaskErased"], 10)
    return Log(pool, gone.id, live.id, {row["seq"]: content_digest(row) for row in rows})


async def everything(pool: Pool) -> list[Any]:
    return [tuple(row) for row in await pool.fetch("SELECT * FROM events ORDER BY user_id, seq")]


@pytest.fixture(params=["owner", "service"])
async def login(request: pytest.FixtureRequest, log: Log) -> AsyncIterator[Any]:
    async with log.pool.acquire() as connection:
        if request.param == "service":
            await connection.execute("SET ROLE daybook_app")
        yield connection
        await connection.execute("RESET ROLE")


async def test_the_service_erases_what_is_recorded_and_no_more(log: Log, login: Any) -> None:
    before = await everything(log.pool)
    assert await login.fetchval(ERASE, "ann", [2, 3, 4], [log.digests[n] for n in (2, 3, 4)]) == 3
    assert await login.fetchval(ERASE, "ann", [2, 3, 4], [DIGEST] * 3) == 0  # they have none any more
    after = await everything(log.pool)
    assert [after[n] for n in (0, 4)] == [before[n] for n in (0, 4)]
    async with log.pool.acquire() as connection:
        found = await verify(connection, [StreamSize("ann", 5)])
    assert found.mismatches == []


@pytest.mark.parametrize(
    ("seq", "digest_of"),
    [
        pytest.param(1, 1, id="a task that is there"),
        pytest.param(2, 3, id="another event's digest"),
        pytest.param(2, None, id="any digest"),
        pytest.param(5, 2, id="the record of the erasure"),
    ],
)
async def test_nothing_else_is_erased(log: Log, login: Any, seq: int, digest_of: int | None) -> None:
    before = await everything(log.pool)
    digest = DIGEST if digest_of is None else log.digests[digest_of]
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await login.fetchval(ERASE, "ann", [seq], [digest])
    assert await everything(log.pool) == before


@pytest.mark.parametrize("digest", [None, b"", b"x"], ids=["none", "empty", "short"])
async def test_a_digest_must_be_one(log: Log, login: Any, digest: bytes | None) -> None:
    before = await everything(log.pool)
    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        await login.fetchval(ERASE, "ann", [2], [digest])
    assert await everything(log.pool) == before


async def test_what_records_an_erasure_stays_also_behind_another_record(log: Log, login: Any) -> None:
    """The service's login can append any event, but not take away why, and by which request, something was erased."""
    forged = Event(
        id=uuid7(),
        user_id="ann",
        task_id=log.erased,
        version=5,
        at=datetime.now(UTC),
        actor="mallory",
        payload=TaskErased(),
        metadata=METADATA,
        salt=bytes(16),
    )
    await append_one(login, PendingAppend(forged, None, on_row=False))
    before = await everything(log.pool)
    row = await log.pool.fetchrow(f"SELECT {COLUMNS} FROM events WHERE user_id = 'ann' AND seq = 5")
    assert row is not None
    assert row["type"] == "TaskErased"
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await login.fetchval(ERASE, "ann", [5], [content_digest(row)])
    assert await everything(log.pool) == before


async def test_another_users_event_isnt_reached(log: Log, login: Any) -> None:
    before = await everything(log.pool)
    assert await login.fetchval(ERASE, "ben", [2], [log.digests[2]]) == 0
    assert await everything(log.pool) == before


ERASED = """
    data = NULL, request_id = NULL, client_address = NULL, client_agent = NULL, idempotency_key = NULL,
    fingerprint = NULL, salt = NULL, personal = $1
"""


OTHER_ID = "'00000000-0000-4000-8000-000000000000'"


@pytest.mark.parametrize(
    "more",
    [
        *("actor = 'mallory'", "at = '2026-01-01Z'", "type = 'TaskUpdated'", "hash = personal"),
        *("seq = 100", f"id = {OTHER_ID}", "version = 9", f"task_id = {OTHER_ID}"),
        pytest.param("user_id = 'ben'", marks=on_plain_postgres),  # Citus moves no row to another shard
    ],
)
async def test_nothing_is_changed_with_an_erasure(log: Log, more: str) -> None:
    before = await everything(log.pool)
    with pytest.raises(asyncpg.PostgresError, match=r"append-only|hash_check"):
        await sql(log.pool, f"UPDATE events SET {ERASED}, {more} WHERE user_id = 'ann' AND seq = 2", log.digests[2])
    assert await everything(log.pool) == before


@pytest.mark.parametrize("kept", ["data", "salt", "request_id", "client_address", "client_agent"])
async def test_all_content_goes_or_none(log: Log, kept: str) -> None:
    assignments = ERASED.replace(f"{kept} = NULL", f"{kept} = {kept}")
    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        await sql(log.pool, f"UPDATE events SET {assignments} WHERE user_id = 'ann' AND seq = 2", log.digests[2])


@pytest.mark.parametrize(
    "statement",
    [
        """UPDATE events SET data = '{"v": 3, "changes": {}}', personal = NULL""",
        "UPDATE events SET personal = sha256('')",
        "UPDATE events SET actor = 'mallory'",
        "DELETE FROM events",
    ],
)
async def test_what_was_erased_stays_so(log: Log, statement: str) -> None:
    await erase_content_of_task(log.pool, "ann", log.erased)
    before = await everything(log.pool)
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await sql(log.pool, f"{statement} WHERE user_id = 'ann' AND seq = 2")
    assert await everything(log.pool) == before


async def test_whoever_acts_and_however_users_are_named(pool: Pool) -> None:
    """The database writes an event's header as Python does."""
    names = ["ann", 'a"b\\c', "ümläut \u2028 \U0001f600", "tab\t nl\n cr\r bs\b ff\f esc\x1b del\x7f"]
    for user in names:
        for actor in names:
            task_id = uuid7()
            for command in (
                CreateTask(user_id=user, task_id=task_id, fields={"title": "x"}),
                EraseTask(user_id=user, task_id=task_id, forced=True),
            ):
                await handle(store_of(pool), command, actor=actor, metadata=METADATA)
            assert await erase_content_of_task(pool, user, task_id) == 1
    async with pool.acquire() as connection:
        streams = [StreamSize(*row) for row in await pool.fetch("SELECT user_id, seq FROM streams")]
        assert (await verify(connection, streams)).mismatches == []


async def test_an_erasure_without_a_record_is_found(log: Log, database: str) -> None:
    """Somebody who switches the triggers off can erase without a record, which the chain alone doesn't show."""
    await let_the_log_change(database)
    await sql(log.pool, f"UPDATE events SET {ERASED} WHERE user_id = 'ann' AND seq = 1", log.digests[1])
    async with log.pool.acquire() as connection:
        found = await verify(connection, [StreamSize("ann", 5)])
    told = [each.message for each in found.mismatches if each.table == "events"]
    assert told == ["the content of event 1 was erased, and no event of its task records that"]
