"""Group commit and batch loading: requests that come while statements run share the next one (docs/adr/0016)."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Generic, TypeVar

from db.errors import UNAVAILABLE, TooManyRequests
from db.pool import Pool
from db.turns import FairQueue
from telemetry import metrics

NUMBER = 2
"""Number of statements at once: Postgres runs one while we handle the result of the other."""
MOST = 16
"""Largest batch. Larger ones gave no throughput: client and server stop overlapping."""
_LONG = 0.02
"""Seconds after which a statement isn't counted: it waits for a lock, or the database is far away."""

Batch = TypeVar("Batch")
Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Lanes(Generic[Batch]):
    """A few tasks that process the waiting work, a batch at a time.

    Invariant: no work waits while fewer than `number` tasks are counted. One with a long batch isn't counted.
    """

    def __init__(
        self,
        number: int,
        take: Callable[[], Batch | None],
        do: Callable[[Batch], Awaitable[None]],
        *,
        on_long: Callable[[Batch], None] = lambda _: None,
    ) -> None:
        """Take batches from `take`, which returns None if there is none, and pass each to `do`, which never raises."""
        self._number, self._take, self._do, self._on_long = number, take, do, on_long
        self._open = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def go_on(self) -> None:
        """Start a task, if there is room for one: there may be work."""
        if self._open < self._number:
            self._open += 1
            task = asyncio.create_task(self._lane())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _lane(self) -> None:
        counted = True

        def pass_on(batch: Batch) -> None:
            nonlocal counted
            counted = False
            self._open -= 1
            self._on_long(batch)
            self.go_on()

        while counted and (batch := self._take()) is not None:
            timer = asyncio.get_running_loop().call_later(_LONG, pass_on, batch)
            await self._do(batch)
            timer.cancel()
        if counted:
            self._open -= 1
        else:
            self.go_on()


def full(pool: Pool, waiting: int) -> bool:
    """Say whether the queue is full: it holds `pool.size` and `pool.max_waiting` together."""
    return waiting >= pool.size + pool.max_waiting


class BatchLoader(Generic[Key, Value]):
    """Batch loader: reads by key that are requested at the same time go in one statement. Users take turns."""

    def __init__(
        self,
        pool: Pool,
        read: Callable[[Pool, Sequence[Key]], Awaitable[Mapping[Key, Value]]],
        *,
        user_of: Callable[[Key], str],
    ) -> None:
        self._pool, self._read, self._user_of = pool, read, user_of
        self._waiting = FairQueue[tuple[Key, asyncio.Future[Value | None]]]()
        self._lanes = Lanes(NUMBER, self._next, self._answer)

    async def get(self, key: Key) -> Value | None:
        """Read the value for this key, as of now or a moment later. Raises `read`'s errors, and `TooManyRequests`."""
        user = self._user_of(key)
        if full(self._pool, len(self._waiting)):
            last = self._waiting.drop(for_user=user)
            metrics.REFUSALS.labels("overloaded").inc()
            if last is None:
                raise TooManyRequests(f"{len(self._waiting)} reads wait for the database already")
            _fail(last[1], TooManyRequests("others wait too, with fewer reads"))
        answer: asyncio.Future[Value | None] = asyncio.get_running_loop().create_future()
        self._waiting.put(user, (key, answer))
        self._lanes.go_on()
        return await answer

    def _next(self) -> list[tuple[Key, asyncio.Future[Value | None]]] | None:
        """Take one read of each user in turn, then another of each, up to `MOST`; None if there are none."""
        batch: list[tuple[Key, asyncio.Future[Value | None]]] = []
        while self._waiting and len(batch) < MOST:
            read = self._waiting.take(next(iter(self._waiting)))
            if not read[1].done():  # else its caller has given up
                batch.append(read)
        return batch or None

    async def _answer(self, batch: Sequence[tuple[Key, asyncio.Future[Value | None]]]) -> None:
        try:
            found = await self._read(self._pool, [key for key, _ in batch])
        except Exception as error:  # noqa: BLE001 - it is raised again in the callers
            if len(batch) > 1 and not isinstance(error, UNAVAILABLE):
                for each in batch:  # one key alone may have caused it
                    await self._answer([each])
                return
            for _, answer in batch:
                _fail(answer, error)
        else:
            for key, answer in batch:
                if not answer.done():
                    answer.set_result(found.get(key))


def _fail(answer: "asyncio.Future[Value | None]", error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
