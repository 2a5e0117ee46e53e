"""Feeds: a user's events as they happen, each with the task after it."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from uuid import UUID

from db.errors import FAILED
from db.pool import Pool
from events.projection import task_of
from events.serialization import Row, from_row
from events.store import log
from events.store.event_store import EventStore
from events.store.past import task_at
from events.task import Task, evolve

_TICK = 0.25
"""Seconds between two looks at the heads of the users whose feeds are read, for events that other processes append."""
_PAGE = 50
"""Number of events in memory at once, for each feed: 3 MB if all are of the largest size."""
_REMEMBERED = 50
"""Number of tasks that a feed remembers, so that the next event of one needs no fold of all before it."""


class TooManyFeeds(Exception):
    """So many feeds are read already, of this user or in this process."""


class Feeds:
    """The users whose feeds are read in this process, and the numbers of their last events, as far as they are known.

    Numbers only wake: what a feed sends, it reads from the log after the event that it sent last. The log has no gaps
    and is in the order of commits, so nothing can be missed, however late or often a feed is woken.
    """

    def __init__(self, store: EventStore, *, most: int, most_of_user: int) -> None:
        """Make it, and have this process's own appends wake feeds at once."""
        self._store, self._most, self._most_of_user = store, most, most_of_user
        self._wakers: dict[str, set[asyncio.Event]] = {}
        self._heads: dict[str, int] = {}
        self._count = 0
        self._task: asyncio.Task[None] | None = None
        store.on_append = self._moved

    @asynccontextmanager
    async def opened(self, user_id: str) -> AsyncIterator["Feed"]:
        """Have a feed for the length of the block. Raise `TooManyFeeds`."""
        mine = self._wakers.get(user_id, ())
        if self._count >= self._most or len(mine) >= self._most_of_user:
            raise TooManyFeeds(f"{len(mine)} of the user, {self._count} of all")
        waker = asyncio.Event()
        self._wakers.setdefault(user_id, set()).add(waker)
        self._count += 1
        if self._task is None:
            self._task = asyncio.create_task(self._look())
        try:
            yield Feed(user_id, waker)
        finally:
            self._count -= 1
            self._wakers[user_id].discard(waker)
            if not self._wakers[user_id]:
                del self._wakers[user_id]
                self._heads.pop(user_id, None)

    def _moved(self, user_id: str, seq: int) -> None:
        if user_id in self._wakers and seq > self._heads.get(user_id, 0):
            self._heads[user_id] = seq
            for waker in self._wakers[user_id]:
                waker.set()

    async def _look(self) -> None:
        """Look for events that other processes append, while there are feeds."""
        try:
            while self._wakers:
                with suppress(*FAILED):  # the next look is soon
                    for user_id, head in (await self._store.heads(list(self._wakers))).items():
                        self._moved(user_id, head.seq)
                await asyncio.sleep(_TICK)
        finally:
            self._task = None


class Feed:
    """One reader's feed of a user's events."""

    def __init__(self, user_id: str, waker: asyncio.Event) -> None:
        self._user_id, self._waker = user_id, waker
        self._tasks = OrderedDict[UUID, Task | None]()

    async def wait(self, seconds: float) -> bool:
        """Wait to be woken, for so many seconds at the most, and say if it was. There may be new events then."""
        try:
            async with asyncio.timeout(seconds):
                await self._waker.wait()
        except TimeoutError:
            return False
        self._waker.clear()
        return True

    def wake(self) -> None:
        """End a wait."""
        self._waker.set()

    async def read(self, pool: Pool, store: EventStore, *, after: int) -> Sequence[tuple[Row, Task | None]]:
        """Read the next events after number `after`, each with the task as it left it; `None` if it is deleted."""
        rows = await pool.fetch(FEED, self._user_id, after, _PAGE)
        return [(row, await self._after(store, row)) for row in rows]

    async def _after(self, store: EventStore, row: Row) -> Task | None:
        """Return the task after the event: from its row if it is the last one, else by the fold."""
        id_, event = row["task_id"], from_row(row)
        before = self._tasks.pop(id_, None)
        if row["document"] is not None and (there := _read(row["document"])) is not None:
            task: Task | None = there
        elif (before is not None and before.version == event.version - 1) or event.version == 1:
            task = evolve(before if event.version > 1 else None, event)
        else:
            found = await task_at(store, self._user_id, id_, version=event.version)
            task = found and found.task
        if task is not None:
            self._tasks[id_] = task
            if len(self._tasks) > _REMEMBERED:
                self._tasks.popitem(last=False)
        return task


# The document is there if the task is as this event left it.
FEED = f"""
SELECT {log.COLUMNS}, (
    SELECT convert_to(document, 'UTF8') FROM tasks
    WHERE user_id = $1 AND id = events.task_id AND tasks.version = events.version AND tasks.updated_at = events.at
) AS document
FROM events WHERE user_id = $1 AND seq > $2 ORDER BY seq LIMIT $3
"""  # noqa: S608 - a constant fragment


def _read(document: bytes) -> Task | None:
    try:
        return task_of(document)
    except ValueError:  # of a former release, or damaged: the log has it
        return None
