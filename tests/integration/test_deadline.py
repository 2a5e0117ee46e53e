"""A request has one bound for all that it waits for: its turn, a connection, its statements, and a doubt."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import asyncpg
import pytest

from api.user_turns import READS, WRITES
from db import deadline
from db.long_reads import LongReads, Scans
from db.pool import Pool, open_pool
from tests.arrange import create
from tests.service import bearer, serving

SECONDS = 2.0
"""The bound."""
LATER = SECONDS / 4
"""By so much, bob comes after ann. Both hang, so ann must be told first."""
HANGS = "SELECT pg_sleep(60)"


async def order(ann: Awaitable[object], bob: Awaitable[object], let_ann_go_on: Callable[[], Awaitable[object]]) -> str:
    """Have bob begin after ann, who waits, and ann go on later still; return who was told first."""
    ended: list[str] = []

    async def told(name: str, work: Awaitable[object]) -> None:
        with pytest.raises(Exception) as error:  # noqa: PT011 - which one depends on where it hangs
            await work
        assert not isinstance(error.value, asyncpg.PostgresError)
        ended.append(name)

    async with asyncio.TaskGroup() as group:
        group.create_task(told("ann", ann))
        await asyncio.sleep(LATER)
        group.create_task(told("bob", bob))
        await asyncio.sleep(LATER)
        await let_ann_go_on()
    return ", ".join(ended)


async def held(pool: Pool, user: str) -> AsyncExitStack:
    """Hold the user's share of the connections, until the stack is closed."""
    stack = AsyncExitStack()
    await stack.enter_async_context(pool.of(user).acquire())
    return stack


async def test_a_read_has_one_bound_for_its_wait_and_its_statement(database: str) -> None:
    async with open_pool(database, size=2, timeout=SECONDS) as pool:
        connection = await held(pool, "ann")
        ann, bob = (pool.of(user).fetch(HANGS) for user in ("ann", "bob"))
        assert await order(ann, bob, connection.aclose) == "ann, bob"


async def test_a_write_has_one_bound_for_its_wait_its_statement_and_its_doubt(
    database: str, other: asyncpg.Connection
) -> None:
    async with open_pool(database, size=2, timeout=SECONDS, sharded=True) as pool:
        for user in ("ann", "bob"):
            await create(pool, user)
        async with other.transaction():
            for user in ("ann", "bob"):
                await other.execute("SELECT FROM streams WHERE user_id = $1 FOR UPDATE", user)
            connection = await held(pool, "ann")
            assert await order(create(pool, "ann"), create(pool, "bob"), connection.aclose) == "ann, bob"


async def test_a_request_has_one_bound_for_all_of_its_statements(pool: Pool) -> None:
    first = asyncio.Event()

    async def request(user: str) -> None:
        deadline.begin(SECONDS)
        await pool.of(user).fetchval("SELECT 1")
        if user == "ann":
            await first.wait()
        await pool.of(user).fetch(HANGS)

    async def go_on() -> None:
        first.set()

    assert await order(request("ann"), request("bob"), go_on) == "ann, bob"


@pytest.mark.parametrize("reads", [True, False])
async def test_a_requests_bound_begins_before_it_waits_for_its_users_turn(
    database: str, other: asyncpg.Connection, reads: bool
) -> None:
    async with serving(database, database_timeout=SECONDS) as service:
        turns = service.state["turns"]
        semaphore = turns.reads if reads else turns.writes

        async def request(user: str) -> None:
            method, body = ("GET", None) if reads else ("POST", {"title": "x"})
            answer = await service.client.request(method, f"/api/{user}/tasks", json=body, headers=bearer(user))
            assert answer.status_code == 503
            raise ConnectionRefusedError

        async def give_turns_back() -> None:
            for _ in range(READS if reads else WRITES):
                semaphore.release("ann")

        for _ in range(READS if reads else WRITES):
            await semaphore.acquire("ann")
        async with other.transaction():
            await other.execute("LOCK TABLE streams, tasks, events")
            assert await order(request("ann"), request("bob"), give_turns_back) == "ann, bob"


@pytest.mark.parametrize("kind", [LongReads, Scans])
async def test_a_long_read_has_the_bound_for_each_statement_and_a_scan_for_all(
    pool: Pool, kind: type[LongReads]
) -> None:
    deadline.begin(LATER)
    try:
        async with kind(pool).turn("ann"):
            await asyncio.sleep(LATER)
            if kind is LongReads:
                assert await pool.of("ann").fetchval("SELECT 1") == 1
            else:
                with pytest.raises(TimeoutError):
                    await pool.of("ann").fetchval("SELECT 1")
    finally:
        deadline.lift()


async def test_what_follows_a_long_read_has_a_deadline_again(pool: Pool) -> None:
    """Else a batch that has read a long history would wait for the lock of its stream for ever."""
    deadline.begin(1)
    try:
        async with LongReads(pool).turn("ann"):
            assert deadline.current() is None
        at = deadline.current()
        assert at is not None
        assert at <= asyncio.get_running_loop().time() + pool.timeout
        deadline.lift()  # as when the response begins
        async with LongReads(pool).turn("ann"):
            assert deadline.current() is None
        assert deadline.current() is None
    finally:
        deadline.lift()


async def test_a_statement_that_had_little_time_casts_no_doubt(pool: Pool) -> None:
    at = asyncio.get_running_loop().time() + pool.timeout / 100
    await pool.fetchval("SELECT 1")
    with deadline.until(at), pytest.raises(TimeoutError):
        await pool.of("ann").fetch(HANGS)
    assert pool._watch._looking is None


@pytest.mark.parametrize(("seconds", "left"), [(1.0, 9.0), (9.0, 5.0), (60.0, 5.0)])
async def test_what_must_end_before_the_deadline_has_half_of_the_time_at_least(seconds: float, left: float) -> None:
    now = asyncio.get_running_loop().time()
    assert deadline.before(now + 10, seconds) - now == pytest.approx(left, abs=1)
