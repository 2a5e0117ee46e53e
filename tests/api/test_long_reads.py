"""Reads as long as a log: one at once for a user, a few for the service, and each ends with its client."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from db import time_slices
from db.long_reads import AT_ONCE, WAITING, LongReads
from events.store import log
from tests.arrange import note_statements
from tests.long_logs import make_history, make_tasks
from tests.service import Service, bearer, serving, value

pytestmark = pytest.mark.once

LATER = "2026-06-01T00:00:00Z"
LONG = log.READ_BATCH + 1
LIST = f"/api/ann/tasks?as_of={LATER}&limit=1"
REASONS = ("user_overloaded", "overloaded")
KINDS = ("list", "version", "moment", "restore")


@pytest.fixture
async def history(service: Service) -> str:
    """Make a task of ann with a long history, and return its id. Her log is long, too; bob's is, carl's isn't."""
    async with service.pool.acquire() as connection:
        task = await make_history(connection, "ann", LONG)
        await make_tasks(connection, "bob", LONG)
        await make_tasks(connection, "carl", 2)
    return task


def reads(service: Service) -> LongReads:
    found: LongReads = service.state["store"].long_reads
    return found


def request(kind: str, task: str) -> tuple[str, str, str]:
    """Return method, path and query of a request for which ann's log or that task's history must be read."""
    path = f"/api/ann/tasks/{task}"
    return {
        "list": ("GET", "/api/ann/tasks", f"as_of={LATER}&limit=1"),
        "version": ("GET", path, f"version={LONG}"),
        "moment": ("GET", path, f"as_of={LATER}"),
        "restore": ("POST", f"{path}/restore", "version=1"),
    }[kind]


async def ask(service: Service, kind: str, task: str) -> Any:
    method, path, query = request(kind, task)
    return await service.client.request(method, f"{path}?{query}")


async def asking(service: Service, user: str, number: int) -> None:
    """Wait until so many of the user's requests hold a turn or wait for one."""
    while True:
        found = reads(service).users.of_users.get(user)
        if (found.requests if found else 0) == number:
            return
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_users_second_long_read_waits_for_the_first_and_others_dont(
    service: Service, history: str, kind: str
) -> None:
    async with reads(service).turn("ann"):
        waiting = asyncio.create_task(ask(service, kind, history))
        await asking(service, "ann", 2)
        async with service.as_user("bob") as bob:
            assert len((await bob.get(f"/api/bob/tasks?as_of={LATER}")).json()) == LONG
        assert not waiting.done()
    assert (await waiting).status_code == 200
    await asking(service, "ann", 0)


async def test_past_the_queue_a_users_long_read_is_refused_at_once(service: Service, history: str) -> None:
    async with reads(service).turn("ann"):
        waiting = [asyncio.create_task(service.client.get(LIST)) for _ in range(WAITING)]
        await asking(service, "ann", WAITING + 1)
        refused = [value("daybook_database_refusals_total", reason=each) for each in REASONS]
        for kind in KINDS:
            answer = await ask(service, kind, history)
            assert (answer.status_code, answer.json()["type"]) == (503, "/problems/overloaded")
            assert 1 <= int(answer.headers["retry-after"]) <= 3
        counted = [value("daybook_database_refusals_total", reason=each) for each in REASONS]
        assert counted == [refused[0] + len(KINDS), refused[1]]
    assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {200}


async def test_a_turn_that_doesnt_come_in_time_is_refused(database: str) -> None:
    async with serving(database, database_timeout=0.2) as service:
        async with service.pool.acquire() as connection:
            await make_tasks(connection, "ann", LONG)
        async with reads(service).turn("ann"):
            answer = await service.client.get(LIST)
            assert (answer.status_code, answer.json()["type"]) == (503, "/problems/overloaded")
        assert (await service.client.get(LIST)).status_code == 200


@pytest.mark.usefixtures("history")
async def test_the_service_has_so_many_long_reads_at_once_and_short_ones_dont_wait(service: Service) -> None:
    others = [reads(service).turn(f"user-{number}") for number in range(AT_ONCE)]
    for other in others:
        await other.__aenter__()
    waiting = asyncio.create_task(service.client.get(LIST))
    await asking(service, "ann", 1)
    async with service.as_user("carl") as carl:
        (task, _) = (await carl.get(f"/api/carl/tasks?as_of={LATER}")).json()
        path = f"/api/carl/tasks/{task['id']}"
        assert (await carl.get(f"{path}?version=1")).json() == task
        assert (await carl.delete(path)).status_code == 204
        assert (await carl.post(f"{path}/restore")).status_code == 200
    assert not waiting.done()
    for other in others:
        await other.__aexit__(None, None, None)
    assert (await waiting).status_code == 200


async def test_a_long_page_of_the_audit_trail_takes_a_turn(service: Service) -> None:
    """It may have 60 MB, so that few are made at once. A short one doesn't wait."""
    async with service.pool.acquire() as connection:
        await make_tasks(connection, "ann", 60, length=5000)  # 1.2 MB
        await make_tasks(connection, "carl", LONG)
    others = [reads(service).turn(f"user-{number}") for number in range(AT_ONCE)]
    async with AsyncExitStack() as held:
        for other in others:
            await held.enter_async_context(other)
        waiting = asyncio.create_task(service.client.get("/api/ann/audit?limit=1000"))
        await asking(service, "ann", 1)
        async with service.as_user("carl") as carl:
            assert len((await carl.get("/api/carl/audit?limit=1000")).json()) == LONG
        assert len((await service.client.get("/api/ann/audit?limit=10")).json()) == 10
        assert not waiting.done()
    assert [each["seq"] for each in (await waiting).json()] == list(range(60, 0, -1))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_long_read_ends_with_its_client(service: Service, history: str, kind: str) -> None:
    await end_while_waiting(service, *request(kind, history))


READS = (
    "audit",
    "audit?format=ndjson",
    "tasks?as_of=2100-01-01T00:00:00Z",
    "tasks/{id}?version=1",
    "tasks/{id}/history",
)


@pytest.mark.parametrize("path", READS)
async def test_the_wait_for_the_database_is_no_slice_of_work(
    service: Service, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """A short read is answered at once, also if its statements took long."""
    monkeypatch.setattr(time_slices, "_SLICE", 0.15)
    statements = note_statements(monkeypatch)

    async def wait(_statement: object) -> None:
        await asyncio.sleep(0.3)

    task = (await service.client.post("/api/ann/tasks", json={"title": "x"})).json()
    statements.on_answer = wait
    answer = await service.client.get(f"/api/ann/{path.format(id=task['id'])}")
    assert (answer.status_code, b'"x"' in answer.content) == (200, True)
    assert asyncio.get_running_loop() not in time_slices._schedulers  # which waits until the loop is idle


async def test_a_long_page_of_the_audit_trail_ends_with_its_client(service: Service) -> None:
    async with service.pool.acquire() as connection:
        await make_tasks(connection, "ann", 60, length=5000)
    await end_while_waiting(service, "GET", "/api/ann/audit", "limit=1000")


async def end_while_waiting(service: Service, method: str, path: str, query: str) -> None:
    """Hang up while ann's request waits for a turn, and check that it ends at once, without an answer."""
    gone = asyncio.Event()
    received = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Any:
        if message := next(received, None):
            return message
        await gone.wait()
        return {"type": "http.disconnect"}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(b"authorization", bearer()["Authorization"].encode())],
        "client": ("192.0.2.7", 4711),
        "server": ("daybook", 80),
    }
    async with reads(service).turn("ann"):
        answering = asyncio.ensure_future(service.asgi(scope, receive, send))
        await asking(service, "ann", 2)
        gone.set()
        await answering
        await asking(service, "ann", 1)
    assert sent == []
    await asking(service, "ann", 0)
