"""Connections that end, and a network that goes silent."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx2
import pytest

from api.user_turns import READS
from tests.arrange import until_locked_out
from tests.faults.servers import service
from tests.integration.test_roles import as_login
from tests.network import Link
from tests.processes import Serving, free_port, run
from tests.service import TASKS, bearer

pytestmark = pytest.mark.once

REFUSED = 'daybook_database_refusals_total{reason="unavailable"}'


@asynccontextmanager
async def started(folder: Path, dsn: str, **variables: str) -> AsyncIterator[tuple[Serving, httpx2.AsyncClient]]:
    with service(folder, dsn, **variables) as serving:
        await asyncio.to_thread(serving.wait_until_ready)
        async with httpx2.AsyncClient(base_url=serving.url, headers=bearer(), timeout=30) as client:
            yield serving, client
        assert await asyncio.to_thread(serving.stop) == 0


async def test_when_the_server_ends_every_idle_connection_the_next_requests_succeed(
    database: str, other: asyncpg.Connection, folder: Path
) -> None:
    """Neon ends idle connections when it suspends a database; reads and writes have no moment to notice."""
    end_all = """
        SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
    """
    async with started(folder, database) as (_, client):
        path = (await client.post(TASKS, json={"title": "x"})).headers["location"]
        ended = 0
        for _ in range(30):
            async with other.transaction():
                await other.execute("LOCK TABLE tasks")  # so that each list has a connection of its own
                of_bob = [client.get("/api/bob/tasks", headers=bearer("bob")) for _ in range(READS)]
                lists = asyncio.gather(*(client.get(TASKS) for _ in range(READS)), *of_bob)
                await until_locked_out(other, 2 * READS)
            await lists
            ended += await other.fetchval(end_all)
            answers = await asyncio.gather(
                *(client.get(TASKS) for _ in range(4)),
                *(client.post(TASKS, json={"title": "y"}) for _ in range(4)),
                client.patch(f"{path}/complete"),
            )
            assert Counter(answer.status_code for answer in answers) == {200: 5, 201: 4}
        assert ended >= 2 * READS * 30 > 60
        events = await other.fetch("SELECT type, count(*) FROM events GROUP BY type ORDER BY type")
        assert [tuple(row) for row in events] == [("TaskCreated", 121), ("TaskToggled", 30)]


async def test_requests_end_while_the_network_stalls_and_succeed_afterwards(database: str, folder: Path) -> None:
    link, port = Link(database), free_port()
    async with (
        link.open() as dsn,
        started(folder, dsn, DATABASE_TIMEOUT="2", DATABASE_POOL_SIZE="4", METRICS_PORT=str(port)) as (serving, client),
    ):
        path = (await client.post(TASKS, json={"title": "x"})).headers["location"]
        await asyncio.gather(*(client.get(TASKS) for _ in range(8)))
        for _ in range(2):
            link.stall()
            answers = await asyncio.gather(
                *(client.get(TASKS) for _ in range(8)), *(client.patch(f"{path}/complete") for _ in range(8))
            )
            assert {answer.status_code for answer in answers} == {503}
            assert {answer.headers.get("retry-after", "none") for answer in answers[:8]} <= {"1", "2", "3"}
            while await told(port, "daybook_database_up"):
                await asyncio.sleep(0.05)
            refusals = await told(port, REFUSED)
            assert {(await client.get(TASKS)).status_code for _ in range(20)} == {503}
            assert await told(port, REFUSED) == refusals + 20  # not one of them was asked
            assert (await client.get("/readyz")).status_code == 503
            assert (await client.get("/livez")).status_code == 200
            link.flow()
            while (await client.get("/readyz")).status_code != 200:
                await asyncio.sleep(0.05)
            answers = await asyncio.gather(*(client.get(TASKS) for _ in range(20)))
            assert {answer.status_code for answer in answers} == {200}
            assert (await client.patch(f"{path}/complete", json={"completed": True})).status_code == 200
        while await told(port, "daybook_pool_in_use"):
            await asyncio.sleep(0.05)
        assert await told(port, "daybook_database_up") == 1
        assert not [line for line in serving.errors if "Traceback" in line]


async def test_a_login_that_is_refused_is_an_outage_too(database: str, other: asyncpg.Connection, folder: Path) -> None:
    """Each request would otherwise try the login itself, and be refused half a dozen times."""
    name, port = f"outcast_{uuid4().hex}", free_port()
    await asyncio.to_thread(run, folder, "migrate", DATABASE_URL=as_login(database, name), DATABASE_URL_DIRECT=database)
    async with started(folder, as_login(database, name), DATABASE_URL_DIRECT=database, METRICS_PORT=str(port)) as (
        _,
        client,
    ):
        assert (await client.get(TASKS)).status_code == 200
        await other.execute(f"ALTER ROLE {name} NOLOGIN")
        await other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", name)
        while await told(port, "daybook_database_up"):
            assert (await client.get(TASKS)).status_code == 503
        await other.execute(f"ALTER ROLE {name} LOGIN")
        while (await client.get(TASKS)).status_code != 200:
            await asyncio.sleep(0.05)
    await other.execute(f"DROP ROLE {name}")


async def test_connections_from_before_an_outage_are_not_used_again(database: str, folder: Path) -> None:
    """Most connections idled through the outage, and lead nowhere by now."""
    link, port = Link(database), free_port()
    async with (
        link.open() as dsn,
        started(folder, dsn, DATABASE_TIMEOUT="1", METRICS_PORT=str(port)) as (_, client),
    ):
        await asyncio.gather(*(client.get(TASKS) for _ in range(20)))
        link.stall()
        assert (await client.get(TASKS)).status_code == 503
        while await told(port, "daybook_database_up"):
            await asyncio.sleep(0.05)
        link.forget()
        while not await told(port, "daybook_database_up"):
            await asyncio.sleep(0.05)
        answers = await asyncio.gather(*(client.get(TASKS) for _ in range(20)))
        assert {answer.status_code for answer in answers} == {200}


async def test_one_request_finds_out_that_all_connections_lead_nowhere(database: str, folder: Path) -> None:
    """The old connections don't end and new ones are well, as when an address has moved."""
    link = Link(database)
    async with link.open() as dsn, started(folder, dsn, DATABASE_TIMEOUT="1") as (_, client):
        await asyncio.gather(*(client.get(TASKS) for _ in range(20)))
        link.forget()
        assert (await client.get(TASKS)).status_code == 503
        await asyncio.sleep(0.5)  # for the question whether it is there
        answers = await asyncio.gather(*(client.get(TASKS) for _ in range(20)))
        assert {answer.status_code for answer in answers} == {200}


async def told(port: int, metric: str) -> float:
    async with httpx2.AsyncClient() as client:
        text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
    found = re.search(rf"^{re.escape(metric)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


async def test_requests_past_the_queue_are_refused_until_there_is_room(
    database: str, other: asyncpg.Connection, folder: Path
) -> None:
    async with started(folder, database, DATABASE_POOL_SIZE="2", DATABASE_POOL_MAX_WAITING="5") as (_, client):

        async def write(user: str) -> httpx2.Response:
            return await client.post(f"/api/{user}/tasks", json={"title": "x"}, headers=bearer(user))

        users = [f"user-{number:02}" for number in range(50)]  # a single one's requests would wait for each other
        for user in users:
            assert (await write(user)).status_code == 201
        async with other.transaction():
            await other.execute("SELECT FROM streams FOR UPDATE")
            writing = [asyncio.create_task(write(user)) for user in users]
            answered: set[asyncio.Task[httpx2.Response]] = set()
            while len(answered) < 43:  # while the others still wait
                answered, _ = await asyncio.wait(writing, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.sleep(0.02)
            for refused in [task.result() for task in answered]:
                assert (refused.status_code, refused.json()["type"]) == (503, "/problems/overloaded")
                assert refused.headers["retry-after"] in ("1", "2", "3")
            assert (await client.get("/livez")).status_code == 200
        assert Counter([(await task).status_code for task in writing]) == {503: 43, 201: 7}
        assert (await write("ann")).status_code == 201
        assert await other.fetchval("SELECT count(*) FROM events") == 58
