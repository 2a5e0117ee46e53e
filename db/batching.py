"""Statements for many: what comes while others are under way goes together in the next one (docs/adr/0016)."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Generic, TypeVar

from config import metrics
from db.errors import UNAVAILABLE, TooManyRequests
from db.pool import Pool
from db.turns import FairQueue

NUMBER = 2
"""Statements at once: while Postgres does the one, what comes of the other is dealt with."""
MOST = 16
"""What goes together at most. More saves little, and then we wait for Postgres, and it for us."""
_LONG = 0.02
"""Seconds after which a statement isn't counted: it waits for a lock, or the database is far away."""

Batch = TypeVar("Batch")
Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Lanes(Generic[Batch]):
    """A few tasks that see to what waits, a batch at a time. Nothing waits as long as one of them is free."""

    def __init__(
        self,
        number: int,
        take: Callable[[], Batch | None],
        do: Callable[[Batch], Awaitable[None]],
        *,
        on_long: Callable[[Batch], None] = lambda _: None,
    ) -> None:
        """`take` gives the next batch, if any; `do` does it, and raises nothing."""
        self._number, self._take, self._do, self._on_long = number, take, do, on_long
        self._open = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def go_on(self) -> None:
        """There may be something to do."""
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
    """Whether no more may wait for this pool's connections, as many as for any other reason."""
    return waiting >= pool.size + pool.max_waiting


class BatchLoader(Generic[Key, Value]):
    """Reads by key, with one statement for those that are asked for at the same time. Users take turns."""

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
        """What there is by this key now, or a moment later. Raises what `read` does, and `TooManyRequests`."""
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
        """One read of each user whose turn it is, then another of each, as long as there is room."""
        batch: list[tuple[Key, asyncio.Future[Value | None]]] = []
        while self._waiting and len(batch) < MOST:
            read = self._waiting.take(next(iter(self._waiting)))
            if not read[1].done():  # else nobody waits for it any more
                batch.append(read)
        return batch or None

    async def _answer(self, batch: Sequence[tuple[Key, asyncio.Future[Value | None]]]) -> None:
        try:
            found = await self._read(self._pool, [key for key, _ in batch])
        except Exception as error:  # noqa: BLE001 - it is raised where it was asked for
            if len(batch) > 1 and not isinstance(error, UNAVAILABLE):
                for each in batch:  # it may be the fault of one alone
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
