"""Feeds: a user's events as they happen, each with the task after it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TypeAlias
from uuid import UUID

from db.errors import FAILED
from db.pool import Pool
from db.servers import Server
from events.projection import task_of
from events.serialization import Row, payload_of
from events.store import log
from events.store.event_store import EventStore
from events.store.past import tasks_at_versions
from events.task import (
    ENDS,
    Erased,
    FoldedEvent,
    Task,
    TaskCreated,
    TaskRestored,
    UserErased,
    evolve,
    evolve_erased,
)
from queries.remembered_tasks import RememberedTasks, size_of

_TICK = 0.25
"""Seconds between two looks at the heads of users with open feeds, for events that other processes append."""
_LOOKS = 4
"""Number of looks at once on a sharded database, one for each server: most connections are for requests."""
_PAGE, _PAGE_BYTES = 50, 256 * 1024
"""Number of events in memory at once, for each feed, and how many bytes they and their tasks take, about."""
_REMEMBERED = 32 * 1024 * 1024
"""Bytes of tasks that all feeds of a process remember, about."""
_RECENT = 4
"""Number of tasks that a user's feeds go on remembering when they have sent all: one that changes may do so again."""
FeedPage: TypeAlias = Sequence[tuple[Row, Task | None]]
"""Events in order, as rows of the log, each with the task as it left it; `None` if it is deleted, or was erased."""


class TooManyFeeds(Exception):
    """So many feeds are read already, of this user or in this process. The message is for the user."""


class Feeds:
    """Users with open feeds in this process.

    Numbers only wake: a feed sends the events that it reads from the log after the one that it sent last. The log has
    no gaps and is in the order of commits, so nothing can be missed, however late or often a feed is woken.
    """

    def __init__(self, store: EventStore, *, most: int, most_of_user: int) -> None:
        """Make it, and have this process's own appends wake feeds at once."""
        self._store, self._most, self._most_of_user = store, most, most_of_user
        self._users: dict[str, _User] = {}
        self._count = 0
        self._task: asyncio.Task[None] | None = None
        self._looks: dict[Server | str | None, asyncio.Task[None]] = {}
        self._free_looks = asyncio.Semaphore(_LOOKS)
        self._remembered = RememberedTasks(_REMEMBERED)
        store.on_append = self._moved

    @asynccontextmanager
    async def opened(self, user_id: str) -> AsyncIterator["Feed"]:
        """Have a feed for the length of the block. Raise `TooManyFeeds`."""
        user = self._users.get(user_id) or _User(user_id, self._store, self._remembered)
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
            user.behind.discard(feed.waker)
            if not user.wakers:
                del self._users[user_id]
                self._remembered.trim(user, 0)

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
    """The part that the feeds of one user share: reads that are under way, and tasks.

    Invariant: a read is shared only by feeds that want events after the same number, and only until the next event is
    known of. Else a feed could be woken by an event, take part in a read that began before it, and sleep on.
    """

    def __init__(self, user_id: str, store: EventStore, remembered: RememberedTasks) -> None:
        self._user_id, self._store, self._remembered = user_id, store, remembered
        self.wakers: set[asyncio.Event] = set()
        self.behind: set[asyncio.Event] = set()
        """Wakers of the feeds that had something to send when they last read."""
        self._limit = _PAGE
        self._head = 0
        self._reads: dict[int, asyncio.Task[FeedPage]] = {}

    def moved(self, seq: int) -> None:
        """Wake the feeds if the last event is another one than was known; also a former one, of a restored backup."""
        if seq != self._head:
            if seq < self._head:
                self._remembered.trim(self, 0)
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

    def has_read(self, waker: asyncio.Event, *, all_of_it: bool) -> None:
        """Take note that a feed has read a page, or all. When all have, there is less to remember."""
        if not all_of_it:
            self.behind.add(waker)
            return
        self.behind.discard(waker)
        if not self.behind:
            self._remembered.trim(self, _RECENT)
            self._limit = _PAGE

    def _end(self, after: int, reading: "asyncio.Task[FeedPage]") -> None:
        if self._reads.get(after) is reading:
            del self._reads[after]
        if not reading.cancelled():
            reading.exception()  # all of its feeds may have ended

    async def _page(self, pool: Pool, after: int) -> FeedPage:
        rows = _fitting(await pool.fetch(FEED, self._user_id, after, self._limit))
        steps = list(map(_step, rows))
        tasks = await self._before(pool, rows, steps)
        page, size = [], 0
        for row, step in zip(rows, steps, strict=True):
            state = evolve_erased(tasks[step.task_id], step) if isinstance(step, FoldedEvent) else step
            tasks[row["task_id"]] = state
            task = None if state is Erased.ERASED else state
            page.append((row, task))
            size += _size_of_row(row) + (size_of(task) if task else 0)
            if size > _PAGE_BYTES:
                break
        if page:
            self._limit = min(_PAGE, 2 * len(page))
        if self.wakers:  # else all feeds have ended meanwhile
            self._remembered.put(self, (each for each in tasks.values() if isinstance(each, Task)))
        return page

    async def _before(
        self, pool: Pool, rows: Sequence[Row], steps: Sequence[Task | FoldedEvent | Erased | None]
    ) -> dict[UUID, Task | Erased | None]:
        """Return the page's tasks as they were before it, if its events need that: from memory, or folded together.

        A turn of `LongReads` is held if there is much to fold.
        """
        tasks: dict[UUID, Task | Erased | None] = {}
        versions: dict[UUID, int] = {}
        for row, step in zip(rows, steps, strict=True):
            if (id_ := row["task_id"]) not in tasks:
                tasks[id_] = None
                if isinstance(step, FoldedEvent):
                    before = step.version - 1
                    tasks[id_] = self._remembered.get(self, id_, before, keep=len(self.behind) > 1)
                    if tasks[id_] is None:
                        versions[id_] = before
        async with AsyncExitStack() as turn:
            if sum(versions.values()) > log.READ_BATCH:
                await turn.enter_async_context(self._store.long_reads.turn(self._user_id))
            slices = self._store.slices(self._user_id)
            tasks.update(await tasks_at_versions(pool, self._user_id, versions, slices=slices))
        return tasks


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
        """Read the next events after number `after`. Raise the errors of `task_at` (events.store.past)."""
        page = await self._user.read(pool, after)
        self._user.has_read(self.waker, all_of_it=not page)
        return page


# The document is there if the task is as this event left it.
FEED = f"""
SELECT {log.COLUMNS}, (
    SELECT textsend(document) FROM tasks
    WHERE user_id = $1 AND id = events.task_id AND tasks.version = events.version AND tasks.updated_at = events.at
) AS document
FROM events WHERE user_id = $1 AND seq > $2 ORDER BY seq LIMIT $3
"""  # noqa: S608 - a constant fragment


def _fitting(rows: Sequence[Row]) -> Sequence[Row]:
    """Return the first rows that fit into a page, and one at least."""
    size = 0
    for number, row in enumerate(rows):
        size += _size_of_row(row)
        if number and size > _PAGE_BYTES:
            return rows[:number]
    return rows


def _size_of_row(row: Row) -> int:
    return len(row["data"] or b"") + len(row["document"] or b"")


def _step(row: Row) -> Task | FoldedEvent | Erased | None:
    """Return the task after an event if its row tells it alone, else the event, which the task before is needed for."""
    if row["type"] in ENDS or row["type"] == UserErased.__name__:
        return None
    if row["data"] is None:
        return Erased.ERASED
    if row["document"] is not None:
        with suppress(ValueError):  # of a former release, or damaged: the log has it
            return task_of(row["document"])
    payload = payload_of(row["type"], row["data"])
    event = FoldedEvent(row["user_id"], row["task_id"], row["version"], row["at"], payload)
    whole = isinstance(payload, TaskCreated) or (isinstance(payload, TaskRestored) and not payload.before)
    return evolve(None, event) if whole else event
