"""The requests that a user has under way at once are bounded, and nobody else waits for them."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from api.user_turns import READS, WRITES
from db.dsn import connect_arguments
from db.long_reads import LongReads, Scans
from events.store import log
from tests.service import Service, bearer, listening
from tests.sockets import connected

TASKS = "/api/ann/tasks"


async def test_a_users_requests_wait_for_the_users_own_and_for_nobody_elses(database: str, service: Service) -> None:
    ann = service.client
    await ann.post(TASKS, json={"title": "x"})
    other = await asyncpg.connect(**connect_arguments(database))
    transaction = other.transaction()
    await transaction.start()
    await other.execute("SELECT FROM streams WHERE user_id = 'ann' FOR UPDATE")
    creating = [
        asyncio.create_task(ann.post(TASKS, json={"title": "y"}, headers={"If-Match": "*"})) for _ in range(WRITES)
    ]
    await asyncio.sleep(0.1)
    one_more = asyncio.create_task(ann.post(TASKS, json={"title": "z"}))
    await asyncio.sleep(0.1)
    assert (await ann.get(TASKS)).status_code == 200  # reads wait for reads
    for _ in range(3):
        assert (await ann.get("/api/bob/tasks", headers=bearer("bob"))).status_code == 200
    assert (await ann.get(TASKS, headers={"Authorization": "Bearer nonsense"})).status_code == 401
    assert service.state["turns"].writes.locked("ann")
    assert not one_more.done()
    await transaction.rollback()
    assert [(await task).status_code for task in creating] == [201] * WRITES
    assert (await one_more).status_code == 201
    await other.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def head(method: str, target: str, *more: str) -> bytes:
    lines = (f"{method} {target} HTTP/1.1", "Host: x", f"Authorization: {bearer()['Authorization']}", *more, "", "")
    return "\r\n".join(lines).encode()


@pytest.mark.parametrize(
    ("kind", "query"),
    [
        (Scans, "q=milk"),
        (Scans, "sort=title"),
        (Scans, "offset=5000"),
        (LongReads, "as_of=2100-01-01T00:00:00Z"),
    ],
)
async def test_long_reads_wait_for_each_other_and_end_with_their_clients(
    service: Service, kind: type[LongReads], query: str
) -> None:
    """A search box that asks anew at each key makes reads whose clients leave."""
    for _ in range(log.READ_BATCH + 1):  # past lists of shorter logs take no turn
        await service.client.post(TASKS, json={"title": "x"})
    reads: LongReads = service.state["scans"] if kind is Scans else service.state["store"].long_reads
    async with listening(service.asgi) as port, AsyncExitStack() as clients:
        async with reads.turn("ann"):
            for _ in range(12):
                client = await clients.enter_async_context(connected(port))
                await client.send(head("GET", f"{TASKS}?{query}"))
            await until(lambda: reads.users.of_users["ann"].requests == 1 + 12)
            for _ in range(2 * READS):
                assert (await service.client.get(TASKS)).status_code == 200
            await clients.aclose()
            await until(lambda: reads.users.of_users["ann"].requests == 1)
        assert (await service.client.get(f"{TASKS}?{query}")).status_code == 200
    assert not service.state["turns"].reads.of_users


async def test_a_read_that_waits_ends_with_its_client(service: Service) -> None:
    turns = service.state["turns"]
    for _ in range(READS):
        await turns.reads.acquire("ann")
    async with listening(service.asgi) as port, AsyncExitStack() as clients:
        for _ in range(12):
            client = await clients.enter_async_context(connected(port))
            await client.send(head("GET", TASKS))
        await until(lambda: turns.reads.of_users["ann"].requests == READS + 12)
        await clients.aclose()
        await until(lambda: turns.reads.of_users["ann"].requests == READS)
    for _ in range(READS):
        turns.reads.release("ann")
    assert not turns.reads.of_users


async def test_a_body_that_comes_slowly_holds_no_turn(service: Service) -> None:
    async with listening(service.asgi) as port, AsyncExitStack() as clients:
        for _ in range(2 * WRITES):
            client = await clients.enter_async_context(connected(port))
            await client.send(head("POST", TASKS, "Content-Type: application/json", "Content-Length: 20"), b'{"title"')
        assert (await service.client.post(TASKS, json={"title": "x"})).status_code == 201


@pytest.mark.parametrize("traced", [False, True])
async def test_a_turn_ends_before_the_answer_is_sent(service: Service, traced: bool) -> None:
    spans = InMemorySpanExporter()
    if traced:  # FastAPI then does by itself what `api.routing` does
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(spans))
        service.app._telemetry.update({"tracing": True, "tracer_provider": tracers})
    taken: list[Any] = []

    async def send(message: Any) -> None:
        taken.append((message["type"], dict(service.state["turns"].reads.of_users)))

    async def receive() -> Any:
        await asyncio.Event().wait()

    scope = {
        "type": "http",
        "method": "GET",
        "path": TASKS,
        "raw_path": TASKS.encode(),
        "query_string": b"",
        "headers": [(b"authorization", bearer()["Authorization"].encode())],
        "client": None,
    }
    await service.asgi(scope, receive, send)
    assert taken == [("http.response.start", {}), ("http.response.body", {})]
    assert bool(spans.get_finished_spans()) is traced
