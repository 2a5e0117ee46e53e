"""HEAD is answered wherever GET is, with the same headers (docs/http-api.md, "Paths and ids")."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from starlette.responses import StreamingResponse
from starlette.routing import BaseRoute, Route

from api.middleware import HeadRequests
from tests.service import SECRET, TASKS, Service, bearer, listening, serving, value
from tests.sockets import connected

pytestmark = pytest.mark.edge

OTHER = "01a1faae-1629-7326-8868-5894cfd36f95"
CHANGES = ("x-request-id", "content-length")
"""What differs from one answer to the next: problems hold their own request id. Of those the length is compared."""


@pytest.fixture
async def served(database: str) -> AsyncIterator[Service]:
    async with serving(database, metrics_public=True, cors_origins="https://app.example.com") as service:
        yield service


async def paths(service: Service) -> list[str]:
    """Return each path of the app whose GET has an end, with a task of ann's."""
    task = (await service.client.post(TASKS, json={"title": "x"})).json()
    routes = [each for route in service.app.routes for each in _within(route)]
    found = {route.path for route in routes if isinstance(route, Route) and "GET" in (route.methods or ())}
    found.remove("/api/{user_id}/audit/stream")
    return [path.replace("{user_id}", "ann").replace("{task_id}", task["id"]) for path in found]


def _within(route: BaseRoute) -> Sequence[BaseRoute]:
    """Return the routes of a router that was included, or the route itself."""
    return route.original_router.routes if hasattr(route, "original_router") else [route]


async def test_every_route_that_answers_get_answers_head(served: Service) -> None:
    every = await paths(served)
    assert {TASKS, "/health", "/livez", "/docs", "/openapi.json", "/metrics", "/api/ann/audit/head"} <= {*every}
    for path in every:
        for headers in ({}, {"Origin": "https://app.example.com", "X-Request-ID": "same"}):
            await assert_same(served, path, headers)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (f"{TASKS}/", {}, 200),
        (f"{TASKS}?limit=1", {}, 200),
        (TASKS, {"If-None-Match": '"2"'}, 304),
        (TASKS, {"Authorization": ""}, 401),
        (TASKS, {"Authorization": "Bearer x"}, 401),
        ("/api/bob/tasks", {}, 403),
        (f"{TASKS}/{OTHER}", {}, 404),
        (f"{TASKS}/x", {}, 400),
        (f"{TASKS}?limit=0", {}, 400),
        ("/nope", {}, 404),
        (f"{TASKS}/{OTHER}/complete", {}, 405),
        ("/api/ann/audit", {"Accept": "text/csv"}, 200),
        ("/api/ann/audit?format=ndjson", {}, 200),
    ],
)
async def test_head_is_answered_for_every_kind_of_answer(
    served: Service, path: str, headers: dict[str, str], status: int
) -> None:
    for title in ("a", "b"):
        await served.client.post(TASKS, json={"title": title})
    assert await assert_same(served, path, {"X-Request-ID": "same", **headers}) == status


async def assert_same(service: Service, path: str, headers: dict[str, str]) -> int:
    get = await service.client.get(path, headers=headers)
    head = await service.client.head(path, headers=headers)
    assert head.status_code == get.status_code, path
    assert head.content == b""
    assert {**head.headers, **dict.fromkeys(CHANGES)} == {**get.headers, **dict.fromkeys(CHANGES)}
    if path != "/metrics":  # which counts the requests
        assert head.headers.get("content-length") == get.headers.get("content-length"), path
    return int(head.status_code)


async def test_head_is_logged_and_counted_as_head(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    labels = {"method": "HEAD", "route": "/api/{user_id}/tasks", "status": "200"}
    before = value("daybook_http_request_duration_seconds_count", **labels)
    async with serving(database, log_format="json") as service:
        capsys.readouterr()
        await service.client.head(TASKS)
    [line] = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (line["method"], line["route"], line["status"], line["user"]) == ("HEAD", labels["route"], 200, "ann")
    assert value("daybook_http_request_duration_seconds_count", **labels) == before + 1


async def test_a_failure_is_500(served: Service) -> None:
    async with served.pool.acquire() as connection:
        await connection.execute("ALTER TABLE tasks RENAME COLUMN document TO text")
    head = await served.client.head(TASKS)
    assert (head.status_code, head.headers["content-type"]) == (500, "application/problem+json")


async def test_methods_that_are_allowed_name_it_where_get_is(served: Service) -> None:
    answer = await served.client.delete(TASKS)
    assert answer.headers["allow"] == "GET, HEAD, POST"
    answer = await served.client.head(f"{TASKS}/{OTHER}/complete")
    assert (answer.status_code, answer.headers["allow"]) == (405, "PATCH")


@pytest.mark.parametrize("spec_version", ["2.3", "2.4"])
async def test_a_stream_is_ended_with_its_head_and_lets_go_of_what_it_holds(spec_version: str) -> None:
    taken: list[str] = []

    async def lines() -> AsyncIterator[bytes]:
        try:
            for _ in range(1000):
                taken.append("a line")
                yield b"x"
        finally:
            taken.append("closed")

    begun = lines()
    await anext(begun)  # as an export does, so that it can fail before its head
    app = HeadRequests(StreamingResponse(begun, headers={"X-Kept": "1"}))
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "HEAD", "path": "/", "asgi": {"spec_version": spec_version}}
    await app(scope, asyncio.Event().wait, send)  # type: ignore[arg-type] # a client that says nothing more
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert (b"x-kept", b"1") in sent[0]["headers"]
    assert sent[1].get("body", b"") == b""
    assert sent[1].get("more_body", False) is False
    assert taken == ["a line"]
    del app, begun
    while taken[-1] != "closed":
        await asyncio.sleep(0)


async def test_the_answer_to_head_has_no_body_on_the_wire(served: Service) -> None:
    token = f"Authorization: {bearer()['Authorization']}\r\n".encode()
    async with listening(served.asgi) as port, connected(port) as connection:
        for path in [*await paths(served), "/nope", "/api/ann/audit?format=csv"]:
            request = path.encode() + b" HTTP/1.1\r\nHost: x\r\n" + token
            await connection.send(b"HEAD " + request + b"\r\n")
            head = await connection.head()
            assert head.status in (200, 307, 404), path
            assert "transfer-encoding" not in head.headers
        await connection.send(b"GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert (await connection.answer()).body == b'{"status":"alive"}'
        assert await connection.closed()


def test_the_document_says_so_and_has_no_operations_for_it(served: Service) -> None:
    document = served.app.openapi()
    assert "HEAD" in document["info"]["description"]
    assert not any("head" in operations for operations in document["paths"].values())
    assert SECRET not in str(document)
