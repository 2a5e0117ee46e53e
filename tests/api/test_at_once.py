"""Contract, section 4, over real connections: many writers at once, and answers that are lost on their way."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from db.dsn import connect_arguments
from db.pool import Pool
from tests.api.test_etags import CHANGES, TASKS, count
from tests.api.test_idempotency import KEY, REPEATABLE
from tests.service import Service, bearer, listening, serving


@asynccontextmanager
async def over_sockets(service: Service, many: int) -> AsyncIterator[httpx2.AsyncClient]:
    """A client with a connection of its own for each request at once."""
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
    assert {answer.headers["etag"] for answer in answers if answer.status_code == 412} <= {'"2"'}
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


class Cut:
    """Between the service and Postgres: it hangs up instead of passing on what came of a statement."""

    def __init__(self, dsn: str) -> None:
        arguments = connect_arguments(dsn)
        self._host, self._port = arguments["host"], arguments.get("port") or 5432
        self.statements = 0
        """Of how many statements from now on the last one's answer is lost; 0 for none."""
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host = self._host[0] if isinstance(self._host, list) else self._host
        if host.startswith("/"):
            there = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{self._port}")
        else:
            there = await asyncio.open_connection(host, self._port)
        for each in (self._pass(reader, there[1]), self._pass(there[0], writer, answers=True)):
            task = asyncio.create_task(each)
            self._tasks.add(task)

    async def _pass(self, source: asyncio.StreamReader, to: asyncio.StreamWriter, *, answers: bool = False) -> None:
        while data := await source.read(65536):
            if answers and self.statements and data.startswith(b"2\0\0\0\4"):  # BindComplete: it has been executed
                self.statements -= 1
                if not self.statements:
                    break
            to.write(data)
        to.transport.abort()


async def test_a_write_whose_answer_was_lost_on_the_way_from_postgres_is_found_when_it_is_sent_again(
    database: str, pool: Pool
) -> None:
    cut = Cut(database)
    user, password = (connect_arguments(database)[name] or "" for name in ("user", "password"))
    name = connect_arguments(database)["database"]
    async with (
        cut.listening() as address,
        serving(f"postgresql://{quote(user)}:{quote(password)}@{address}/{name}?sslmode=disable") as service,
    ):
        cut.statements = 1  # the append
        lost = await service.client.post(TASKS, json={"title": "x"}, headers=KEY)
        assert (lost.status_code, lost.headers.get("retry-after")) == (503, "1")
        assert "same Idempotency-Key" in lost.json()["detail"]
        assert await count(pool) == 1
        again = await service.client.post(TASKS, json={"title": "x"}, headers=KEY)
        assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "true")
        assert await count(pool) == 1
        cut.statements = 2  # load, append
        lost = await service.client.delete(again.headers["location"])
        assert (lost.status_code, "retry-after" in lost.headers) == (503, False)
        assert "Look, then repeat it" in lost.json()["detail"]
        assert await count(pool) == 2
