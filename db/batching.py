"""Group commit and batch loading: requests that come while statements run share the next one (docs/adr/0016)."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from contextvars import Context
from typing import Generic, TypeVar

from db import deadline
from db.errors import UNAVAILABLE
from db.pool import Pool
from db.turns import FairQueue, overloaded

NUMBER = 2
"""Number of statements at once: Postgres runs one while we handle the result of the other."""
MAX_BATCH = 16
"""Largest batch. Larger ones gave no throughput: client and server stop overlapping."""
_LONG = 0.02
"""Seconds after which a statement isn't counted: it waits for a lock, or the database is far away."""

_Batch = TypeVar("_Batch")
_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class BatchWorkers(Generic[_Batch]):
    """A few tasks that process the waiting work, a batch at a time.

    Invariant: nothing that `take` would return waits while fewer than `number` tasks are counted. One with a long batch
    isn't counted.
    """

    def __init__(
        self,
        number: int,
        take: Callable[[], _Batch | None],
        do: Callable[[_Batch], Awaitable[None]],
        *,
        on_long: Callable[[_Batch], None] = lambda _: None,
    ) -> None:
        """Take batches from `take`, which returns None if there is none, and pass each to `do`, which never raises."""
        self._number, self._take, self._do, self._on_long = number, take, do, on_long
        self._open = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """Start a task, if there is room for one: there may be work."""
        if self._open < self._number:
            self._open += 1
            task = asyncio.create_task(self._work(), context=Context())  # it works for other requests too
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _work(self) -> None:
        counted = True

        def pass_on(batch: _Batch) -> None:
            nonlocal counted
            counted = False
            self._open -= 1
            self._on_long(batch)
            self.wake()

        while counted and (batch := self._take()) is not None:
            timer = asyncio.get_running_loop().call_later(_LONG, pass_on, batch)
            await self._do(batch)
            timer.cancel()
        if counted:
            self._open -= 1
        else:
            self.wake()


def full(pool: Pool, waiting: int) -> bool:
    """Say whether the queue is full: it holds `pool.size` and `pool.max_waiting` together."""
    return waiting >= pool.size + pool.max_waiting


class BatchLoader(Generic[_Key, _Value]):
    """Batch loader: reads by key that are requested at the same time go in one statement. Users take turns."""

    def __init__(
        self,
        pool: Pool,
        read: Callable[[Pool, Sequence[_Key]], Awaitable[Mapping[_Key, _Value]]],
        *,
        user_of: Callable[[_Key], str],
    ) -> None:
        self._pool, self._read, self._user_of = pool, read, user_of
        self._waiting = FairQueue[tuple[_Key, asyncio.Future[_Value | None]]]()
        self._workers = BatchWorkers(NUMBER, self._next, self._answer)

    async def get(self, key: _Key) -> _Value | None:
        """Read the value for this key, as of now or a moment later, in time for the deadline.

        Raises `read`'s errors, and `TooBusy`.
        """
        user = self._user_of(key)
        if full(self._pool, len(self._waiting)):
            last = self._waiting.drop(for_user=user)
            if last is None:
                raise overloaded(f"{len(self._waiting)} reads wait for the database already")
            _fail(last[1], overloaded("others wait too, with fewer reads"))
        answer: asyncio.Future[_Value | None] = asyncio.get_running_loop().create_future()
        self._waiting.put(user, (key, answer))
        self._workers.wake()
        try:
            async with asyncio.timeout_at(deadline.current()):
                return await answer
        finally:
            del answer  # its error holds this frame

    def _next(self) -> list[tuple[_Key, asyncio.Future[_Value | None]]] | None:
        """Take one read of each user in turn, then another of each, up to `MAX_BATCH`; None if there are none."""
        batch: list[tuple[_Key, asyncio.Future[_Value | None]]] = []
        while self._waiting and len(batch) < MAX_BATCH:
            read = self._waiting.take(next(iter(self._waiting)))
            if not read[1].done():  # else its caller has given up
                batch.append(read)
        return batch or None

    async def _answer(self, batch: Sequence[tuple[_Key, asyncio.Future[_Value | None]]]) -> None:
        try:
            found = await self._read(self._pool, [key for key, _ in batch])
        except Exception as error:  # noqa: BLE001 - it is raised again in the callers
            if len(batch) > 1 and not isinstance(error, UNAVAILABLE):
                for each in batch:  # one key alone may have caused it
                    if not each[1].done():  # else its caller has given up meanwhile
                        await self._answer([each])
                return
            for _, answer in batch:
                _fail(answer, error)
        else:
            for key, answer in batch:
                if not answer.done():
                    answer.set_result(found.get(key))


def _fail(answer: "asyncio.Future[_Value | None]", error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
