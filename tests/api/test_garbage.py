"""Requests leave no reference cycles, so what they used is freed at once and not by a later garbage collection."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any

import pytest
from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import Message

from api.server.disconnects import while_connected
from tests.service import TASKS, Service

pytestmark = pytest.mark.once

TIMES = 20
HEADERS = {"Content-Type": "application/json"}

REFUSED = b'{"atomic": false, "operations": [{"op": "delete", "id": "0198c0de-0000-7000-8000-000000000000"}]}'

REQUESTS = {
    "list": ("GET", TASKS, b""),
    "long list": ("GET", f"{TASKS}?limit=1000", b""),
    "past list": ("GET", f"{TASKS}?as_of=2099-01-01T00:00:00Z", b""),
    "sync": ("GET", f"{TASKS}/changes", b""),
    "log": ("GET", "/api/ann/audit", b""),
    "create": ("POST", TASKS, b'{"title": "Buy milk"}'),
    "batch": ("POST", "/api/ann/batch", b'{"operations": [{"op": "create", "title": "Buy milk"}]}'),
    "restore all": ("POST", "/api/ann/restore", b'{"as_of": "2020-01-01T00:00:00Z", "dry_run": true}'),
    "refused operations": ("POST", "/api/ann/batch", REFUSED),
    "replay": ("POST", TASKS, b'{"title": "Buy milk"}'),
    "no JSON": ("POST", TASKS, b'{"title'),
    "no title": ("POST", TASKS, b'{"title": ""}'),
    "no task": ("GET", f"{TASKS}/0198c0de-0000-7000-8000-000000000000", b""),
    "wrong parameter": ("GET", f"{TASKS}?limit=x", b""),
    "other user": ("GET", "/api/bob/tasks", b""),
    "unknown path": ("GET", "/nowhere", b""),
}


@pytest.fixture
def _without_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


async def left_by(work: Callable[[], Awaitable[object]]) -> int:
    """Return the number of objects that the work leaves, done `TIMES` times; what else runs may leave some at times."""

    async def left() -> int:
        gc.collect()
        for _ in range(TIMES):
            await work()
        return gc.collect()

    await left()  # fills caches
    return min([await left() for _ in range(3)])


@pytest.mark.usefixtures("_without_collection")
@pytest.mark.parametrize("name", REQUESTS)
async def test_a_request_leaves_nothing_to_a_garbage_collection(service: Service, name: str) -> None:
    method, path, body = REQUESTS[name]
    headers = {**HEADERS, "Idempotency-Key": "k-1"} if name == "replay" else HEADERS
    assert await left_by(lambda: service.client.request(method, path, content=body or None, headers=headers)) < TIMES


async def ended_with_its_client() -> None:
    async with asyncio.timeout(60):
        await asyncio.sleep(60)


async def failed() -> None:
    raise ClientDisconnect


@pytest.mark.usefixtures("_without_collection")
@pytest.mark.parametrize(("work", "event"), [(ended_with_its_client, "http.disconnect"), (failed, "http.request")])
async def test_work_that_ends_early_leaves_nothing(work: Callable[[], Coroutine[Any, Any, None]], event: str) -> None:
    async def receive() -> Message:
        await asyncio.sleep(0)
        return {"type": event}

    async def request() -> None:
        with suppress(ClientDisconnect):
            await while_connected(Request({"type": "http"}, receive), work())

    assert await left_by(request) < TIMES
