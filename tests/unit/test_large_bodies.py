"""Large bodies are validated one at a time, and other requests run in between."""

import asyncio

import orjson
import pytest
from fastapi import Request
from fastapi.routing import APIRoute
from starlette.types import Message

from api import large_bodies
from api.operations import Operations
from api.request_body import LARGEST, _read, json_body
from tests.arrange import busy_loop

_validated = json_body(Operations)


async def turns_of_others(length: int) -> list[int]:
    """Validate five bodies that arrive at once; return how many turns other requests had had after each."""
    operations = [{"op": "create", "title": "long", "description": 4_000 * "x"}] * (length // 4_000 + 1)
    body = orjson.dumps({"operations": operations})
    after = list[int]()

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def request() -> None:
        route = APIRoute("/batch", turns_of_others)
        arriving = Request({"type": "http", "headers": [], "path_params": {"user_id": "ann"}, "route": route}, receive)
        assert len((await _validated(arriving, await _read(arriving))).operations) == len(operations)
        large_bodies.release(arriving.scope)
        after.append(loop.turns)

    async with busy_loop() as loop:
        await asyncio.gather(*(request() for _ in range(5)))
    return after


async def test_other_requests_run_between_large_bodies() -> None:
    after = await turns_of_others(2 * LARGEST)
    assert len(set(after)) == 5


@pytest.mark.parametrize("length", [0, LARGEST // 2])
async def test_small_bodies_wait_for_nothing(length: int) -> None:
    assert len(set(await turns_of_others(length))) == 1
