"""Batching: reads that arrive together go in one statement, and each gets its own answer or error."""

import asyncio
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from db.batching import MAX_BATCH, NUMBER, BatchLoader, BatchWorkers
from db.errors import ConnectionLost, TooBusy

POOL: Any = SimpleNamespace(size=2, max_waiting=48)


class Reads:
    """Reads that return squares of numbers, fail for 13, and wait until they are told to end."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.go = asyncio.Event()
        self.lost = False

    async def __call__(self, _pool: Any, keys: Sequence[int]) -> Mapping[int, int]:
        self.asked.append(list(keys))
        await self.go.wait()
        if self.lost:
            raise ConnectionLost("gone")
        if 13 in keys:
            raise ValueError("unlucky")
        return {key: key**2 for key in keys if key < 100}


async def asked(together: BatchLoader[int, int], keys: Sequence[int]) -> list[asyncio.Task[int | None]]:
    tasks = [asyncio.create_task(together.get(key)) for key in keys]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_reads_that_arrive_while_others_run_share_a_statement() -> None:
    reads = Reads()
    together = BatchLoader(POOL, reads, user_of=str)
    first = await asked(together, [1])
    second = await asked(together, [2])
    rest = await asked(together, [3, 4, 5, 100, 3])
    assert reads.asked == [[1], [2]][:NUMBER]  # at once, and alone
    reads.go.set()
    assert await asyncio.gather(*first, *second, *rest) == [1, 4, 9, 16, 25, None, 9]
    assert reads.asked[NUMBER:] == [[3, 4, 5, 100, 3]]


async def test_a_batch_is_bounded() -> None:
    reads = Reads()
    together = BatchLoader(POOL, reads, user_of=str)
    tasks = await asked(together, range(20, 60))
    reads.go.set()
    assert await asyncio.gather(*tasks) == [key**2 for key in range(20, 60)]
    assert max(map(len, reads.asked)) == MAX_BATCH


async def test_a_key_that_cannot_be_read_fails_alone() -> None:
    reads = Reads()
    reads.go.set()
    outcomes = await asyncio.gather(
        *await asked(BatchLoader(POOL, reads, user_of=str), [12, 13, 14]), return_exceptions=True
    )
    assert [outcomes[0], outcomes[2]] == [144, 196]
    assert isinstance(outcomes[1], ValueError)


async def test_a_read_that_was_given_up_is_not_made_again() -> None:
    reads = Reads()
    tasks = await asked(BatchLoader(POOL, reads, user_of=str), [12, 13, 14])
    tasks[0].cancel()
    reads.go.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert reads.asked == [[12, 13, 14], [13], [14]]


async def test_a_lost_connection_fails_the_batch_and_cancelled_reads_are_skipped() -> None:
    reads = Reads()
    together = BatchLoader(POOL, reads, user_of=str)
    tasks = [*await asked(together, [1]), *await asked(together, [2]), *await asked(together, [3, 4])]
    tasks[2].cancel()
    reads.lost = True
    reads.go.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [
        ConnectionLost,
        ConnectionLost,
        asyncio.CancelledError,
        ConnectionLost,
    ]


async def test_reads_past_the_bound_are_refused() -> None:
    reads = Reads()
    together = BatchLoader(POOL, reads, user_of=str)
    waiting = [*await asked(together, [1]), *await asked(together, [2]), *await asked(together, range(50))]
    with pytest.raises(TooBusy, match="50 reads"):
        await together.get(1)
    reads.go.set()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_users_take_turns() -> None:
    """The odd numbers are one user's, who asks for as many as may wait."""
    reads = Reads()
    together = BatchLoader(POOL, reads, user_of=lambda key: str(key % 2))
    waiting = [*await asked(together, [1]), *await asked(together, [3]), *await asked(together, range(101, 201, 2))]
    others = await asked(together, [2, 4])
    outcomes = await asyncio.gather(*waiting[-2:], return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [
        TooBusy,
        TooBusy,
    ]  # so many waited that there was no more room
    reads.go.set()
    assert await asyncio.gather(*others) == [4, 16]
    assert reads.asked[NUMBER][:4] == [101, 2, 103, 4]
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_long_batch_makes_room_for_another() -> None:
    begun: list[int] = []
    long: list[int] = []
    left = iter(range(NUMBER + 2))
    go = asyncio.Event()

    async def do(number: int) -> None:
        begun.append(number)
        await go.wait()

    workers = BatchWorkers(NUMBER, lambda: next(left, None), do, on_long=long.append)
    for _ in range(NUMBER + 2):
        workers.wake()
    await asyncio.sleep(0)
    assert begun == list(range(NUMBER))
    async with asyncio.timeout(5):
        while len(begun) < NUMBER + 2:
            await asyncio.sleep(0.01)
    assert long[:NUMBER] == list(range(NUMBER))
    go.set()
