"""Feeds: a user's events as they happen, each with the task after it."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TypeAlias
from uuid import UUID

from db.errors import FAILED
from db.pool import Pool
from db.servers import Server
from events.projection import task_of
from events.serialization import Row, from_row
from events.store import log
from events.store.event_store import EventStore
from events.store.past import task_at
from events.task import Task, evolve

_TICK = 0.25
"""Seconds between two looks at the heads of the users whose feeds are read, for events that other processes append."""
_LOOKS = 4
"""Number of looks at once on a sharded database, one for each server: most connections are for requests."""
_PAGE = 50
"""Number of events in memory at once, for each feed: 3 MB if all are of the largest size."""
_REMEMBERED = 50
"""Number of a user's tasks in memory, so that the next event of one needs no fold of all before it."""

FeedPage: TypeAlias = "Sequence[tuple[Row, Task | None]]"
"""Events in order, each with the task as it left it."""


class TooManyFeeds(Exception):
    """So many feeds are read already, of this user or in this process. The message is for the user."""


class Feeds:
    """The users whose feeds are read in this process.

    Numbers only wake: a feed sends what it reads from the log after the event that it sent last. The log has no gaps
    and is in the order of commits, so nothing can be missed, however late or often a feed is woken.
    """

    def __init__(self, store: EventStore, *, most: int, most_of_user: int) -> None:
        """Make it, and have this process's own appends wake feeds at once."""
        self._store, self._most, self._most_of_user = store, most, most_of_user
        self._users: dict[str, _User] = {}
        self._count = 0
        self._task: asyncio.Task[None] | None = None
        self._looks: dict[Server | str | None, asyncio.Task[None]] = {}
        self._free_looks = asyncio.Semaphore(_LOOKS)
        store.on_append = self._moved

    @asynccontextmanager
    async def opened(self, user_id: str) -> AsyncIterator["Feed"]:
        """Have a feed for the length of the block. Raise `TooManyFeeds`."""
        user = self._users.get(user_id) or _User(user_id, self._store)
        if len(user.wakers) >= self._most_of_user:
            raise TooManyFeeds(f"Close a stream first: {len(user.wakers)} of yours are open.")
        if self._count >= self._most:
            raise TooManyFeeds("Try again later: there is no room for another stream now.")
        feed = Feed(user)
        self._users[user_id] = user
        self._count += 1
        if self._task is None:
            self._task = asyncio.create_task(self._look())
        try:
            yield feed
        finally:
            self._count -= 1
            user.wakers.discard(feed.waker)
            if not user.wakers:
                del self._users[user_id]

    def _moved(self, user_id: str, seq: int) -> None:
        if user := self._users.get(user_id):
            user.moved(seq)

    async def _look(self) -> None:
        """Look for events that other processes append, while there are feeds, and don't wait for servers that hang."""
        try:
            while self._users:
                for server, users in (await self._store.by_server(list(self._users))).items():
                    if server not in self._looks:
                        self._looks[server] = asyncio.create_task(self._look_at(server, users))
                await asyncio.sleep(_TICK)
        finally:
            self._task = None

    async def _look_at(self, server: Server | str | None, users: Sequence[str]) -> None:
        try:
            async with self._free_looks:
                with suppress(*FAILED):  # the next look is soon
                    for user_id, head in (await self._store.heads(users)).items():
                        self._moved(user_id, head.seq)
        finally:
            del self._looks[server]


class _User:
    """What the feeds of one user share: reads that are under way, and tasks.

    Invariant: a read is shared only by feeds that want events after the same number, and only until the next event is
    known of. Else a feed could be woken by an event, take part in a read that began before it, and sleep on.
    """

    def __init__(self, user_id: str, store: EventStore) -> None:
        self._user_id, self._store = user_id, store
        self.wakers: set[asyncio.Event] = set()
        self._head = 0
        self._reads: dict[int, asyncio.Task[FeedPage]] = {}
        self._tasks = OrderedDict[tuple[UUID, int], Task | None]()

    def moved(self, seq: int) -> None:
        """Wake the feeds if the last event is another one than was known; also a former one, of a restored backup."""
        if seq != self._head:
            self._head = seq
            self._reads.clear()
            for waker in self.wakers:
                waker.set()

    async def read(self, pool: Pool, after: int) -> FeedPage:
        """Read a page of events, or wait for the same read of another feed."""
        reading = self._reads.get(after)
        if reading is None:
            reading = self._reads[after] = asyncio.create_task(self._page(pool, after))
            reading.add_done_callback(lambda done: self._end(after, done))
        await asyncio.wait((reading,))  # doesn't cancel it for the others if this feed ends
        return reading.result()

    def _end(self, after: int, reading: "asyncio.Task[FeedPage]") -> None:
        if self._reads.get(after) is reading:
            del self._reads[after]
        if not reading.cancelled():
            reading.exception()  # all of its feeds may have ended

    async def _page(self, pool: Pool, after: int) -> FeedPage:
        rows = await pool.fetch(FEED, self._user_id, after, _PAGE)
        return [(row, await self._after(row)) for row in rows]

    async def _after(self, row: Row) -> Task | None:
        """Return the task after the event: from its row if it is the last one, else by the fold."""
        id_, event = row["task_id"], from_row(row)
        before = self._tasks.get((id_, event.version - 1))
        if row["document"] is not None and (there := _read(row["document"])) is not None:
            task: Task | None = there
        elif before is not None or event.version == 1:
            task = evolve(before, event)
        else:
            found = await task_at(self._store, self._user_id, id_, version=event.version)
            task = found and found.task
        if task is not None:
            self._tasks[id_, event.version] = task
            if len(self._tasks) > _REMEMBERED:
                self._tasks.popitem(last=False)
        return task


class Feed:
    """One reader's feed of a user's events."""

    def __init__(self, user: _User) -> None:
        self._user, self.waker = user, asyncio.Event()
        user.wakers.add(self.waker)

    async def wait(self, seconds: float) -> None:
        """Wait to be woken, for so many seconds at the most. There may be new events then."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.waker.wait()
        self.waker.clear()

    def wake(self) -> None:
        """End a wait."""
        self.waker.set()

    async def read(self, pool: Pool, *, after: int) -> FeedPage:
        """Read the next events after number `after`, each with the task as it left it; `None` if it is deleted."""
        return await self._user.read(pool, after)


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
