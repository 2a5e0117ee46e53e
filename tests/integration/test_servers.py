"""A server of a sharded database that freezes starves only its own users (docs/adr/0027)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from structlog.testing import capture_logs

from api.routers.health import Readiness
from db import deadline, servers
from db.dsn import connect_arguments
from db.errors import UNAVAILABLE, DatabaseUnavailable, TooBusy
from db.long_reads import LongReads
from db.pool import Pool, open_pool
from tests.arrange import create, until
from tests.conftest import execute, on_plain_postgres

pytestmark = on_plain_postgres
STUBS = (
    """CREATE FUNCTION get_shard_id_for_distribution_column(regclass, text) RETURNS bigint
    LANGUAGE sql AS $$SELECT CASE WHEN $2 LIKE 'a%' THEN 102008 ELSE 102009 END$$""",
    "CREATE TABLE pg_dist_placement (shardid bigint, groupid integer)",
    "INSERT INTO pg_dist_placement VALUES (102008, 1), (102009, 2)",
)
"""Of Citus, as much as matters here: users with an `a` are on one server, all others on another."""
FROZEN = [f"a{number:02}" for number in range(20)]
OTHERS = [f"b{number:02}" for number in range(4)]
HANGS = "SELECT pg_sleep(60)"
NO_ANSWER = "SELECT ($1 || random())::int FROM pg_advisory_lock_shared(17)"
"""A probe that fails; if somebody has that lock, once it is free."""


@pytest.fixture
async def distributed(database: str) -> str:
    await execute(database, *STUBS)
    return database


@asynccontextmanager
async def under_way(*work: Awaitable[object]) -> AsyncIterator[Sequence[asyncio.Future[object]]]:
    """Have all of this work under way, and end what is left of it."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until_running(pool: Pool, number: int) -> None:
    while sum(pool._turns._held.values()) < number:
        await asyncio.sleep(0.01)


async def until_waiting(pool: Pool, users: Iterable[str], number: int) -> None:
    """Wait until so many of the users' requests wait for a connection. Their servers are known by then."""
    while sum(1 for _ in pool._turns._waiting.items(users)) < number:
        await asyncio.sleep(0.01)


def told(logs: Iterable[Mapping[str, Any]]) -> list[str]:
    return [each["event"] for each in logs if each["log_level"] != "debug"]


def hanging(pool: Pool, users: Iterable[str] = FROZEN) -> list[Awaitable[object]]:
    return [pool.of(user).fetch(HANGS) for user in users]


@pytest.mark.parametrize(("size", "share"), [(2, 1), (3, 2), (4, 2), (10, 5)])
async def test_statements_that_hang_take_only_their_servers_share(distributed: str, size: int, share: int) -> None:
    async with open_pool(distributed, size=size, timeout=60, sharded=True) as pool, under_way(*hanging(pool)):
        await until_running(pool, share)
        for user in OTHERS * 5:
            await pool.of(user).fetch("SELECT 1")
        assert sum(pool._turns._held.values()) == share


async def test_writes_that_hang_take_only_their_servers_share(distributed: str, other: asyncpg.Connection) -> None:
    async with open_pool(distributed, size=4, timeout=60, sharded=True) as pool:
        for user in (*FROZEN, *OTHERS):
            await create(pool, user)
        async with other.transaction():
            await other.execute("SELECT FROM streams WHERE user_id = ANY($1) FOR UPDATE", FROZEN)
            async with under_way(*(create(pool, user) for user in FROZEN * 3)) as hang:
                await until_running(pool, 2)
                for user in OTHERS * 5:
                    await create(pool, user)
                assert not any(each.done() for each in hang)


async def test_a_servers_users_have_half_of_the_queue_of_writes(distributed: str, other: asyncpg.Connection) -> None:
    async with open_pool(distributed, size=4, max_waiting=12, timeout=60, sharded=True) as pool:
        for user in (*FROZEN, *OTHERS):
            await create(pool, user)
        async with other.transaction():
            await other.execute("SELECT FROM streams WHERE user_id = ANY($1) FOR UPDATE", FROZEN)
            async with under_way(*(create(pool, user) for user in FROZEN)) as hang:
                await until(lambda: sum(each.done() for each in hang) >= len(FROZEN) - 8)
                for user in OTHERS * 5:
                    await create(pool, user)
                refused = [each.exception() for each in hang if each.done()]
                assert len(refused) == len(FROZEN) - 8
                assert {type(each) for each in refused} == {TooBusy}


async def test_a_single_connection_is_for_all(distributed: str) -> None:
    async with open_pool(distributed, size=1, sharded=True) as pool:
        for user in ("ann", "bob", "amy"):
            assert await pool.of(user).fetchval("SELECT 1") == 1


async def test_one_server_with_all_users_has_all_connections(distributed: str) -> None:
    await execute(distributed, "UPDATE pg_dist_placement SET groupid = 1")
    async with open_pool(distributed, size=3, timeout=60, sharded=True) as pool, under_way(*hanging(pool)):
        await until_running(pool, 3)


@pytest.mark.parametrize("sharded", [False, True])
async def test_a_database_that_tells_of_no_servers_has_no_shares(database: str, sharded: bool) -> None:
    with capture_logs() as logs:
        async with open_pool(database, size=3, timeout=60, sharded=sharded) as pool, under_way(*hanging(pool)):
            await until_running(pool, 3)
    assert told(logs) == ["the database doesn't tell which server has a user"] * sharded


async def test_a_user_is_looked_up_again_after_a_while(distributed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "_VALID", 0.0)
    async with open_pool(distributed, size=2, timeout=60, sharded=True) as pool:
        assert await pool.server_of("ann") == 1
        await execute(distributed, "UPDATE pg_dist_placement SET groupid = 3 WHERE groupid = 1")
        monkeypatch.setattr(servers, "_VALID", 60.0)
        assert await pool.server_of("ann") == 3
        await execute(distributed, "UPDATE pg_dist_placement SET groupid = 1 WHERE groupid = 3")
        assert await pool.server_of("ann") == 3


async def test_after_a_timeout_its_users_are_refused_at_once_until_it_answers(
    distributed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "PROBE_OF_SERVER", f"{HANGS} WHERE $1::text IS NOT NULL")
    monkeypatch.setattr(servers, "_ASKING", 1)
    with capture_logs() as logs:
        async with open_pool(distributed, size=4, timeout=2, sharded=True) as pool:
            outcomes = await asyncio.gather(*hanging(pool), return_exceptions=True)
            assert all(isinstance(each, UNAVAILABLE) for each in outcomes)
            assert pool._servers is not None
            while not pool._servers.down("a00"):  # a probe that gets no connection finds nothing out
                with suppress(ConnectionError, TimeoutError):
                    await pool.of("a00").fetch(HANGS)
            for user in FROZEN:
                with pytest.raises(DatabaseUnavailable):
                    await pool.of(user).fetch(HANGS)
            for user in OTHERS:
                await pool.of(user).fetch("SELECT 1")
            assert not pool.down
            monkeypatch.setattr(servers, "PROBE_OF_SERVER", "SELECT $1::text")
            while pool._servers.down("a00"):
                await asyncio.sleep(0.01)
            assert await pool.of("a00").fetchval("SELECT 1") == 1
    assert told(logs) == [
        "server down: its users are answered 503 until it is up",
        "server up",
    ]


async def test_who_waits_for_a_server_is_refused_as_it_is_found_down(
    distributed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "PROBE_OF_SERVER", NO_ANSWER)
    monkeypatch.setattr(servers, "_ASKING", 60)
    async with (
        open_pool(distributed, size=2, timeout=60, sharded=True) as pool,
        under_way(*hanging(pool, FROZEN[:3])) as hang,
    ):
        await until_waiting(pool, FROZEN, 2)
        assert pool._servers is not None
        pool._servers.report("a00", TimeoutError())
        done, _ = await asyncio.wait(hang, return_when=asyncio.FIRST_COMPLETED)
        assert all(isinstance(each.exception(), DatabaseUnavailable) for each in done)
        assert len(done) == 2  # the third is a statement under way


async def test_while_a_server_is_in_doubt_nothing_is_sent_to_it(
    distributed: str, other: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "PROBE_OF_SERVER", NO_ANSWER)
    monkeypatch.setattr(servers, "_ASKING", 60)
    await other.execute("SELECT pg_advisory_lock(17)")
    async with open_pool(distributed, size=10, timeout=60, sharded=True) as pool, under_way(*hanging(pool, ["a00"])):
        await until_running(pool, 1)
        assert pool._servers is not None
        pool._servers.report("a00", TimeoutError())
        async with under_way(*hanging(pool, FROZEN[1:])) as late:
            for user in OTHERS:
                await pool.of(user).fetch("SELECT 1")
            await until_waiting(pool, FROZEN, len(late))
            await other.execute("SELECT pg_advisory_unlock(17)")
            await asyncio.wait(late)
            assert {type(each.exception()) for each in late} == {DatabaseUnavailable}


async def test_a_server_that_answers_gets_what_waited_meanwhile(
    distributed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "PROBE_OF_SERVER", "SELECT pg_sleep(0.3) WHERE $1::text IS NOT NULL")
    async with open_pool(distributed, size=4, timeout=60, sharded=True) as pool:
        assert await pool.server_of("ann") == 1
        assert pool._servers is not None
        pool._servers.report("ann", TimeoutError())
        values = await asyncio.gather(*(pool.of(user).fetchval("SELECT 1") for user in FROZEN))
        assert values == [1] * len(FROZEN)
        assert not pool._servers._probes


async def test_a_slow_statement_on_a_server_that_answers_changes_nothing(distributed: str) -> None:
    async with open_pool(distributed, size=4, timeout=10, sharded=True) as pool:
        assert await pool.of("ann").fetchval("SELECT 1") == 1
        with deadline.until(asyncio.get_running_loop().time() + 1.5), pytest.raises(TimeoutError):
            await pool.of("ann").fetch(HANGS)
        assert pool._servers is not None
        assert pool._servers._probes
        for _ in range(20):
            assert await pool.of("ann").fetchval("SELECT 1") == 1
            await asyncio.sleep(0.01)


async def test_a_servers_users_have_half_of_the_long_reads(distributed: str) -> None:
    async def read(reads: LongReads, user: str) -> None:
        async with reads.turn(user):
            await asyncio.Event().wait()

    async with open_pool(distributed, size=4, timeout=60, sharded=True) as pool:
        reads = LongReads(pool)
        async with under_way(*(read(reads, user) for user in FROZEN)):
            while not reads._process._value < 2:
                await asyncio.sleep(0.01)
            for user in OTHERS:
                async with reads.turn(user):
                    pass


async def test_a_server_that_hangs_leaves_the_service_ready(distributed: str, other: asyncpg.Connection) -> None:
    async with open_pool(distributed, sharded=True) as pool, other.transaction():
        await other.execute("LOCK TABLE streams")
        assert await Readiness(pool).check() == "reachable"


@pytest.mark.parametrize("sharded", [False, True])
async def test_a_database_that_takes_no_writes_or_not_ours_is_not_ready(distributed: str, sharded: bool) -> None:
    name = urlsplit(distributed).path.removeprefix("/")
    for statement, found in (
        (f"ALTER DATABASE {name} SET default_transaction_read_only = on", "read-only"),
        (f"ALTER DATABASE {name} SET default_transaction_read_only = off", "reachable"),
        ("DROP FUNCTION daybook_lock_stream", "unreachable"),
    ):
        connection = await asyncpg.connect(**connect_arguments(distributed))
        await connection.execute("SET default_transaction_read_only = off")
        await connection.execute(statement)
        await connection.close()
        async with open_pool(distributed, sharded=sharded) as pool:
            assert await Readiness(pool).check() == found
