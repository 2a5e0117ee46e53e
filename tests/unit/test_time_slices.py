"""Long work gives way to everything else, takes turns with other long work, and always goes on."""

import asyncio
from contextlib import suppress

import pytest

from db import time_slices
from db.time_slices import TimeSlices


class Clock:
    """A clock that moves only by what the test says that something took."""

    now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time_slices, "time", clock)
    return clock


async def long_work(clock: Clock, done: list[str], name: str, steps: int = 5, user: str = "ann") -> None:
    slices = TimeSlices(user)
    for _ in range(steps):
        clock.now += 0.002
        done.append(name)
        await slices.pause()


async def short_work(clock: Clock, done: list[str], turns: int) -> None:
    for _ in range(turns):
        clock.now += 0.001
        done.append("short")
        await asyncio.sleep(0)


async def test_two_pieces_of_work_take_turns(clock: Clock) -> None:
    done: list[str] = []
    await asyncio.gather(long_work(clock, done, "a"), long_work(clock, done, "b"))
    assert done == ["a", "b"] * 5


async def test_users_take_turns_however_much_one_of_them_asks_for(clock: Clock) -> None:
    done: list[str] = []
    much = [long_work(clock, done, "ann's") for _ in range(8)]
    await asyncio.gather(*much, long_work(clock, done, "bob's", 4, user="bob"))
    assert "".join(each[0] for each in done[9:15]) == "ababab"


async def test_ready_tasks_go_before_long_work(clock: Clock) -> None:
    done: list[str] = []
    await asyncio.gather(long_work(clock, done, "long", 2), short_work(clock, done, 10))
    assert done == ["long", *["short"] * 10, "long"]


async def test_work_goes_on_also_where_there_is_always_something_ready(clock: Clock) -> None:
    done: list[str] = []
    others = asyncio.create_task(short_work(clock, done, 1000))
    await long_work(clock, done, "long", 5)
    assert done.count("long") == 5
    assert 30 < done.count("short") < 200
    await others


async def test_long_work_has_a_part_of_a_loop_that_is_always_busy(clock: Clock) -> None:
    done: list[str] = []
    others = asyncio.create_task(short_work(clock, done, 2000))
    await long_work(clock, done, "long", 100)
    assert 600 < done.count("short") < 1100  # a millisecond each, beside 200 of long work
    await others


async def test_others_have_as_much_time_as_work_that_holds_a_lock(clock: Clock) -> None:
    done: list[str] = []
    others = asyncio.create_task(short_work(clock, done, 100))
    slices = TimeSlices("ann", locked=True)
    for _ in range(3):
        clock.now += 0.004
        done.append("long")
        await slices.pause()
    assert done == ["long", *["short"] * 4] * 3
    await others


async def test_work_that_is_cancelled_holds_up_no_other(clock: Clock) -> None:
    done: list[str] = []
    tasks = [asyncio.create_task(long_work(clock, done, name)) for name in "abc"]
    while len(done) < 3:
        await asyncio.sleep(0)
    tasks[0].cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task
    assert (done.count("a"), done.count("b"), done.count("c")) == (1, 5, 5)


async def test_short_work_is_not_interrupted(clock: Clock) -> None:
    done: list[str] = []
    others = asyncio.create_task(short_work(clock, done, 1))
    slices = TimeSlices("ann")
    await slices.pause()
    assert done == []
    await others
