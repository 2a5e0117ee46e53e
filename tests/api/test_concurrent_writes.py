"""Concurrent writers over real connections, and answers that are lost on the way (docs/http-api.md, "Safe writes")."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from db.pool import Pool
from tests.api.test_etags import CHANGES, count, number
from tests.api.test_idempotency import KEY, REPEATABLE
from tests.network import Link
from tests.service import TASKS, Service, bearer, listening, serving


@asynccontextmanager
async def over_sockets(service: Service, many: int) -> AsyncIterator[httpx2.AsyncClient]:
    """Yield a client with a connection of its own for each request at once."""
    limits = httpx2.Limits(max_connections=many, max_keepalive_connections=0)
    async with (
        listening(service.asgi) as port,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=bearer(), limits=limits, timeout=60) as client,
    ):
        yield client


@pytest.mark.parametrize(("method", "end", "body"), CHANGES)
async def test_of_fifty_writers_who_saw_the_same_version_one_succeeds(
    service: Service, pool: Pool, path: str, method: str, end: str, body: Any
) -> None:
    seen = {"If-Match": '"1"'}
    async with over_sockets(service, 50) as client:
        answers = await asyncio.gather(
            *(
                client.request(method, path + end, json=body and {"title": f"Writer {n}"}, headers=seen)
                for n in range(50)
            )
        )
    won, lost = (204, 404) if method == "DELETE" else (200, 412)
    assert Counter(answer.status_code for answer in answers) == {won: 1, lost: 49}
    assert {number(answer) for answer in answers if answer.status_code == 412} <= {2}
    assert await count(pool) == 2


async def test_fifty_identical_creations_at_once_are_one(service: Service, pool: Pool) -> None:
    async with over_sockets(service, 50) as client:
        answers = await asyncio.gather(*(client.post(TASKS, json={"title": "x"}, headers=KEY) for _ in range(50)))
    assert len({(answer.status_code, answer.content, answer.headers["location"]) for answer in answers}) == 1
    assert answers[0].status_code == 201
    assert Counter(answer.headers.get("idempotency-replayed") for answer in answers) == {"true": 49, None: 1}
    assert await count(pool) == 1
    assert await pool.fetchval("SELECT count(*) FROM tasks") == 1


@pytest.mark.parametrize(("method", "end", "body"), REPEATABLE)
async def test_fifty_identical_changes_at_once_are_one(
    service: Service, pool: Pool, path: str, method: str, end: str, body: Any
) -> None:
    await service.client.put(path, json={"title": "before"})
    async with over_sockets(service, 50) as client:
        answers = await asyncio.gather(*(client.request(method, path + end, json=body, headers=KEY) for _ in range(50)))
    assert len({(answer.status_code, answer.content) for answer in answers}) == 1
    assert answers[0].is_success
    assert Counter(answer.headers.get("idempotency-replayed") for answer in answers) == {"true": 49, None: 1}
    assert await count(pool) == 3


async def test_of_two_requests_with_one_key_at_once_one_is_carried_out(service: Service, pool: Pool) -> None:
    async with over_sockets(service, 20) as client:
        answers = await asyncio.gather(
            *(client.post(TASKS, json={"title": str(number % 2)}, headers=KEY) for number in range(20))
        )
    assert Counter(answer.status_code for answer in answers) == {201: 10, 422: 10}
    assert len({answer.content for answer in answers if answer.status_code == 201}) == 1
    assert await count(pool) == 1


async def test_a_client_that_never_saw_the_answer_gets_it_when_it_asks_again(service: Service, pool: Pool) -> None:
    body = b'{"title": "x"}'
    async with over_sockets(service, 1) as client:
        head = f"POST {TASKS} HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer()['Authorization']}\r\n"
        head += f"Idempotency-Key: k-1\r\nContent-Length: {len(body)}\r\n\r\n"
        _, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        writer.write(head.encode() + body)
        await writer.drain()
        writer.transport.abort()
        for _ in range(500):
            if await count(pool):
                break
            await asyncio.sleep(0.01)
        again = await client.post(TASKS, content=body, headers=KEY)
    assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "true")
    assert await count(pool) == 1


@asynccontextmanager
async def over_a_link(database: str) -> AsyncIterator[tuple[Service, Link]]:
    link = Link(database)
    async with link.open() as dsn, serving(dsn) as service:
        yield service, link


@pytest.mark.parametrize("key", [{}, KEY])
async def test_a_write_whose_answer_was_lost_on_the_way_from_postgres_is_done_once_and_answered(
    database: str, pool: Pool, key: dict[str, str]
) -> None:
    async with over_a_link(database) as (service, link):
        link.lose(range(1))  # the append
        made = await service.client.post(TASKS, json={"title": "x"}, headers=key)
        assert made.status_code == 201
        assert "idempotency-replayed" not in made.headers
        assert await count(pool) == 1
        path = made.headers["location"]
        link.lose(range(1))  # the load
        assert (await service.client.patch(path, json={"title": "y"})).status_code == 200
        link.lose(range(1, 2))  # load, append
        toggled = await service.client.patch(f"{path}/complete")
        assert (toggled.status_code, toggled.json()["completed"], toggled.json()["version"]) == (200, True, 3)
        link.lose(range(1, 2))
        assert (await service.client.delete(path)).status_code == 204
        assert await count(pool) == 4


async def test_a_write_that_had_to_wait_for_its_turn_is_done_once_too(database: str, pool: Pool) -> None:
    """Two toggles meet: the second one's first append conflicts, and its locked attempt loses the answer."""
    async with over_a_link(database) as (service, link):
        path = (await service.client.post(TASKS, json={"title": "x"})).headers["location"]
        for lost in range(2, 8):  # whichever statement it is that is lost
            before = await count(pool)
            link.lose(range(lost, lost + 1))
            answers = await asyncio.gather(*(service.client.patch(f"{path}/complete") for _ in range(2)))
            assert [answer.status_code for answer in answers] == [200, 200], lost
            versions = {answer.json()["version"] for answer in answers}
            assert len(versions) == 2
            assert await count(pool) == before + 2


async def test_a_read_whose_connection_was_lost_is_asked_again(database: str) -> None:
    async with over_a_link(database) as (service, link):
        made = (await service.client.post(TASKS, json={"title": "x"})).json()
        for path in (TASKS, f"{TASKS}/{made['id']}", "/api/ann/audit", f"{TASKS}/{made['id']}/history"):
            link.lose(range(1))
            assert (await service.client.get(path)).status_code == 200


async def test_a_write_whose_outcome_stays_unknown_is_answered_so(database: str, pool: Pool) -> None:
    async with over_a_link(database) as (service, link):
        await service.client.get(TASKS)  # the user's server is known then
        link.lose(range(1000))
        lost = await service.client.post(TASKS, json={"title": "x"}, headers=KEY)
        assert (lost.status_code, lost.headers.get("retry-after")) in [(503, "1"), (503, "2"), (503, "3")]
        assert "same Idempotency-Key" in lost.json()["hint"]
        assert await count(pool) == 1
        link.lose(range(0))
        await until_back(service)
        again = await service.client.post(TASKS, json={"title": "x"}, headers=KEY)
        assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "true")
        assert await count(pool) == 1
        link.lose(range(1, 1000))  # load, append
        lost = await service.client.delete(again.headers["location"])
        assert (lost.status_code, "retry-after" in lost.headers) == (503, False)
        assert "Look, then repeat it" in lost.json()["hint"]
        assert await count(pool) == 2


async def until_back(service: Service) -> None:
    while (await service.client.get(TASKS)).status_code != 200:
        await asyncio.sleep(0.05)
