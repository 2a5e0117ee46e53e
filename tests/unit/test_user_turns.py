"""A user's requests take turns, and nobody else's wait for them."""

import asyncio

import pytest
from fastapi import Request
from starlette.types import Message, Scope

from api.problems import Overloaded
from api.user_turns import MOST_WAITING, READS, WRITES, UserTurns, give_turn_back, take_turn


async def taken(turns: UserTurns, user: str, *, reads: bool = False) -> Scope:
    """Take a turn for a new request of the user, and return its scope."""

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError("it stays connected")

    scope: Scope = {"type": "http", "method": "GET" if reads else "POST", "state": {"turns": turns}}
    await take_turn(Request(scope, receive), user)
    return scope


async def begun(turns: UserTurns, user: str, number: int, *, reads: bool = False) -> list[asyncio.Task[Scope]]:
    tasks = [asyncio.create_task(taken(turns, user, reads=reads)) for _ in range(number)]
    for _ in range(4):
        await asyncio.sleep(0)
    return tasks


async def test_so_many_of_a_user_are_under_way_and_the_next_is_the_one_that_waited_longest() -> None:
    turns = UserTurns(timeout=60)
    asked = await begun(turns, "ann", WRITES + 2)
    assert [task.done() for task in asked] == [True] * WRITES + [False, False]
    assert all(task.done() for task in await begun(turns, "bob", WRITES))
    assert [task.done() for task in await begun(turns, "ann", READS + 1, reads=True)] == [True] * READS + [False]
    give_turn_back(asked[0].result())
    give_turn_back(asked[0].result())  # once is enough
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [task.done() for task in asked[-2:]] == [True, False]
    give_turn_back(asked[1].result())
    await asked[-1]


@pytest.mark.parametrize(("reads", "kind"), [(True, "reads"), (False, "writes")])
async def test_a_request_that_waits_too_long_is_refused_and_leaves_nothing(reads: bool, kind: str) -> None:
    turns = UserTurns(timeout=0)
    asked = await begun(turns, "ann", READS if reads else WRITES, reads=reads)
    with pytest.raises(Overloaded) as refused:
        await taken(turns, "ann", reads=reads)
    assert str(refused.value.hint).startswith(f"This waited 0 s for others of your {kind}: {len(asked)} of a user are")
    for task in asked:
        give_turn_back(task.result())
    assert not turns.reads.of_users
    assert not turns.writes.of_users


async def test_past_so_many_that_wait_the_next_is_refused_at_once() -> None:
    turns = UserTurns(timeout=60)
    asked = await begun(turns, "ann", WRITES + MOST_WAITING)
    with pytest.raises(Overloaded) as refused:
        await taken(turns, "ann")
    assert str(refused.value.hint).startswith(f"{MOST_WAITING} of your writes wait already: {WRITES} of a user are")
    for task in asked:
        give_turn_back(await task)
    assert not turns.writes.of_users


async def test_whoever_gives_up_holds_no_turn() -> None:
    turns = UserTurns(timeout=60)
    asked = await begun(turns, "ann", WRITES + 2)
    asked[-2].cancel()
    await asyncio.gather(asked[-2], return_exceptions=True)
    give_turn_back(asked[0].result())
    await asked[-1]
    for task in (*asked[1:WRITES], asked[-1]):
        give_turn_back(task.result())
    assert not turns.writes.of_users
