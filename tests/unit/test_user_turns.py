"""A user's requests take turns, and nobody else's wait for them."""

import asyncio

import pytest

from api.problems import Overloaded
from api.user_turns import MOST_WAITING, READS, WRITES, Turn, UserTurns

WRITE = Turn("ann", reads=False)


async def begun(turns: UserTurns, user: str, number: int, *, reads: bool = False) -> list[asyncio.Task[Turn]]:
    tasks = [asyncio.create_task(turns.begin(user, reads=reads)) for _ in range(number)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_so_many_of_a_user_are_under_way_and_the_next_is_the_one_that_waited_longest() -> None:
    turns = UserTurns(timeout=60)
    asked = await begun(turns, "ann", WRITES + 2)
    assert [task.done() for task in asked] == [True] * WRITES + [False, False]
    assert all(task.done() for task in await begun(turns, "bob", WRITES))
    assert [task.done() for task in await begun(turns, "ann", READS + 1, reads=True)] == [True] * READS + [False]
    turns.end(WRITE)
    await asyncio.sleep(0)
    assert [task.done() for task in asked[-2:]] == [True, False]
    turns.end(WRITE)
    await asked[-1]


async def test_a_request_that_waits_too_long_is_refused_and_leaves_nothing() -> None:
    turns = UserTurns(timeout=0)
    await begun(turns, "ann", WRITES)
    with pytest.raises(Overloaded):
        await turns.begin("ann", reads=False)
    for _ in range(WRITES):
        turns.end(WRITE)
    assert not turns._taken


async def test_past_so_many_that_wait_the_next_is_refused_at_once() -> None:
    turns = UserTurns(timeout=60)
    asked = await begun(turns, "ann", WRITES + MOST_WAITING)
    with pytest.raises(Overloaded):
        await turns.begin("ann", reads=False)
    for _ in asked:
        turns.end(WRITE)
        await asyncio.sleep(0)
    assert all(task.done() for task in asked)
    assert not turns._taken


async def test_whoever_gives_up_holds_no_turn() -> None:
    turns = UserTurns(timeout=60)
    asked = await begun(turns, "ann", WRITES + 2)
    asked[-2].cancel()
    await asyncio.gather(asked[-2], return_exceptions=True)
    turns.end(WRITE)
    await asked[-1]
    for _ in range(WRITES):
        turns.end(WRITE)
    assert not turns._taken
