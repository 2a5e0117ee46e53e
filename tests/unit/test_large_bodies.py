"""Large bodies are validated one at a time, and other requests run in between."""

import asyncio
from contextlib import ExitStack
from typing import Annotated

import orjson
import pytest
from fastapi import Request
from fastapi.routing import APIRoute
from pydantic import AfterValidator
from starlette.types import Message
from typing_extensions import TypedDict

from api import large_bodies
from api.large_bodies import WAITING_OF_USER, LargeBodies
from api.operations import Operations
from api.problems import Overloaded
from api.request_body import LARGEST, _read, json_body
from db.errors import TooBusy
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
        scope = {"type": "http", "headers": [], "path_params": {"user_id": "ann"}, "route": route, "state": state}
        arriving = Request(scope, receive)
        assert len((await _validated(arriving, await _read(arriving))).operations) == len(operations)
        large_bodies.release(scope)
        after.append(loop.turns)

    state, route = {"large_bodies": LargeBodies(timeout=60)}, APIRoute("/batch", turns_of_others)
    async with busy_loop() as loop:
        await asyncio.gather(*(request() for _ in range(5)))
    return after


async def test_other_requests_run_between_large_bodies() -> None:
    after = await turns_of_others(2 * LARGEST)
    assert len(set(after)) == 5


@pytest.mark.parametrize(("length", "sliced"), [(LARGEST, True), (LARGEST // 2, False)])
async def test_other_requests_run_before_a_large_body_is_validated_and_after_it(length: int, sliced: bool) -> None:
    turns = list[int]()

    def note(value: str) -> str:
        turns.append(loop.turns)
        return value

    class Body(TypedDict):
        text: Annotated[str, AfterValidator(note)]

    read, scope = json_body(Body), {"type": "http", "headers": [], "path_params": {"user_id": "ann"}}
    async with busy_loop() as loop:
        note("before")
        await read(Request(scope), orjson.dumps({"text": length * "x"}))
        note("after")
    assert len(set(turns)) == (3 if sliced else 1)


@pytest.mark.parametrize("length", [0, LARGEST // 2])
async def test_small_bodies_wait_for_nothing(length: int) -> None:
    assert len(set(await turns_of_others(length))) == 1


async def entered(bodies: LargeBodies, user: str) -> ExitStack:
    room = ExitStack()
    await bodies.enter(room, user)
    return room


async def test_bodies_past_the_room_of_a_user_wait_and_others_do_not() -> None:
    bodies = LargeBodies(timeout=60, at_once=4, of_user=2)
    rooms = [await entered(bodies, "ann") for _ in range(2)]
    waiting = asyncio.create_task(entered(bodies, "ann"))
    other = await entered(bodies, "bob")
    await asyncio.sleep(0)
    assert not waiting.done()
    rooms[0].close()
    for room in (rooms[1], other, await waiting):
        room.close()
    assert not bodies.users.of_users


async def test_bodies_past_the_room_of_the_process_wait() -> None:
    bodies = LargeBodies(timeout=60, at_once=2, of_user=2)
    rooms = [await entered(bodies, user) for user in ("ann", "bob")]
    waiting = asyncio.create_task(entered(bodies, "cy"))
    await asyncio.sleep(0)
    assert not waiting.done()
    rooms[0].close()
    (await waiting).close()


async def test_who_waits_for_room_too_long_is_refused_and_keeps_nothing() -> None:
    bodies = LargeBodies(timeout=0.01, at_once=1)
    first = await entered(bodies, "ann")
    with ExitStack() as room, pytest.raises(TooBusy, match=r"large bodies took more than 0\.01 s"):
        await bodies.enter(room, "bob")
    first.close()
    assert not bodies.users.of_users


async def test_of_a_user_with_too_many_that_wait_the_next_is_refused_at_once() -> None:
    bodies = LargeBodies(timeout=60, of_user=1)
    first = await entered(bodies, "ann")
    waiting = [asyncio.create_task(entered(bodies, "ann")) for _ in range(WAITING_OF_USER)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await entered(bodies, "ann")
    first.close()
    for each in waiting:
        (await each).close()


async def test_the_process_has_no_more_waiting_bodies_than_it_has_memory_for() -> None:
    bodies = LargeBodies(timeout=60, at_once=1, waiting=2)
    first = await entered(bodies, "ann")
    waiting = [asyncio.create_task(entered(bodies, user)) for user in ("bob", "cy")]
    await asyncio.sleep(0)
    with pytest.raises(TooBusy, match="2 large bodies wait already"):
        await entered(bodies, "dee")
    first.close()
    for each in waiting:
        (await each).close()
    (await entered(bodies, "dee")).close()
