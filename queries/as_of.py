"""Lists of tasks as of a past moment: folded from the log, in memory bounded by the page and its place."""

import heapq
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from db.pool import Pool
from db.time_slices import TimeSlices
from events.projection import rank, task_document
from events.search_text import search_text
from events.store import log, past
from events.store.event_store import EventStore
from events.task import Task
from queries.tasks import ListQuery, Page, Sort, SortKey, end_of

_FOLDED_AT_ONCE = 50
"""Number of tasks of the page that are folded at once, in the page's order."""


async def fetch_past_tasks(pool: Pool, store: EventStore, user_id: str, query: ListQuery) -> Page:
    """List a user's tasks as they were at the moment `query.as_of`, which must be given.

    Events after number `query.upto` don't count: a write that was under way when the first page was read may have an
    earlier time, and would move tasks from page to page.

    The log is folded twice: all of it for the ids of the page, then the events of the page's tasks. A log of more than
    one batch takes a turn of `LongReads`. Raise `TooBusy`, or the errors of `events.store.past.tasks_at`.
    """
    at = query.as_of
    assert at is not None  # noqa: S101 - lists of the present are another query's
    head = await store.head(user_id)
    upto = head.seq if query.upto is None else query.upto
    page: Sequence[UUID] = ()
    body, last = bytearray(), b""
    async with AsyncExitStack() as turn:
        if upto > log.READ_BATCH:
            await turn.enter_async_context(store.long_reads.turn(user_id))
        slices = store.slices(user_id)
        while not body:  # again if all of a page's tasks were erased before they were folded
            page = await _ids(pool, user_id, query, at, upto, slices)
            async for last in _bodies(pool, user_id, at, upto, page[: query.limit], slices):
                body += b",%b" % last
            if len(page) <= query.limit:
                break
    body[:1] = b"["
    body += b"]"
    end = end_of(last, query.sort) if len(page) > query.limit else None
    return Page(memoryview(body), end, head)


async def _ids(
    pool: Pool, user_id: str, query: ListQuery, at: datetime, upto: int, slices: TimeSlices
) -> Sequence[UUID]:
    """Return the ids of the page's tasks, in order, and one more if there is a next page."""
    found: _Times | _Keys = _Times(query) if query.sort in ("created_at", "updated_at") else _Keys(query)
    words, now = [search_text(word) for word in query.words], query.now()
    async for tasks in past.tasks_at(pool, user_id, at, upto=upto, slices=slices):
        for task in tasks:
            if query.wants(task, now, words):
                found.add(task)
            await slices.pause()
    return found.page()


async def _bodies(
    pool: Pool, user_id: str, at: datetime, upto: int, page: Sequence[UUID], slices: TimeSlices
) -> AsyncIterator[bytes]:
    """Yield the JSON of the page's tasks, in the page's order, without those that were erased meanwhile."""
    for start in range(0, len(page), _FOLDED_AT_ONCE):
        ids = page[start : start + _FOLDED_AT_ONCE]
        bodies = {}
        async for tasks in past.tasks_at(pool, user_id, at, upto=upto, slices=slices, ids=ids):
            for task in tasks:
                bodies[task.id] = task_document(task)
                await slices.pause()
        for id_ in ids:
            if id_ in bodies:
                yield bodies[id_]


class _Times:
    """A collection of matching tasks that keeps no more of them than is needed to tell the page's tasks.

    It is in order of creation or last change: each task's place is a number, and a heap holds the first.
    """

    def __init__(self, query: ListQuery) -> None:
        self._sort = query.sort
        self._sign = 1 if query.order == "desc" else -1
        self._offset, self._most = query.offset, query.offset + query.limit + 1
        self._after = None if query.after is None else self._place(*query.after)
        self._heap: list[int] = []
        """Places of the first tasks, smallest place first: that is the last one in the list's order."""

    def _place(self, moment: SortKey, id_: UUID) -> int:
        """Return the place of a task with this time and id: a number that is larger the earlier it is in the list."""
        assert isinstance(moment, datetime)  # noqa: S101 - as the column is
        return self._sign * ((moment - _FIRST_MOMENT) // _MICROSECOND << 128 | id_.int)

    def add(self, task: Task) -> None:
        place = self._place(getattr(task, self._sort), task.id)
        if self._after is not None and place >= self._after:
            return
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, place)
        elif place > self._heap[0]:
            heapq.heapreplace(self._heap, place)

    def page(self) -> Sequence[UUID]:
        """Return the ids of the page's tasks, in order."""
        backwards = []
        while len(self._heap) > self._offset:
            backwards.append(UUID(int=self._sign * heapq.heappop(self._heap) & _ID))
        return backwards[::-1]


_FIRST_MOMENT = datetime.min.replace(tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_ID = 2**128 - 1


class _Keys:
    """A collection like `_Times` in any other order, nulls last: now and then it is sorted, and the first are kept."""

    MORE = 2000
    """Number of keys kept before they are sorted, besides those that may be on the page: 2 MB at the most."""

    def __init__(self, query: ListQuery) -> None:
        self._key = _KEYS[query.sort]
        self._backwards = query.order == "desc"
        self._offset, self._most = query.offset, query.offset + query.limit + 1
        self._after = None if query.after is None else self._place(*query.after)
        self._found: list[tuple[bool, Any, UUID]] = []

    def _place(self, key: SortKey, id_: UUID) -> tuple[bool, Any, UUID]:
        return (key is None) != self._backwards, key or 0, id_

    def add(self, task: Task) -> None:
        place = self._place(self._key(task), task.id)
        if self._after is not None and not (place < self._after if self._backwards else place > self._after):
            return
        self._found.append(place)
        if len(self._found) > 2 * self._most + self.MORE:
            self._sort()

    def _sort(self) -> None:
        self._found.sort(reverse=self._backwards)
        del self._found[self._most :]

    def page(self) -> Sequence[UUID]:
        """Return the ids of the page's tasks, in order."""
        self._sort()
        return [id_ for *_, id_ in self._found[self._offset :]]


_KEYS: dict[Sort, Callable[[Task], SortKey]] = {
    "title": lambda task: search_text(task.title),
    "due_date": lambda task: task.due_date,
    "priority": lambda task: rank(task.priority),
    "completed_at": lambda task: task.completed_at,
}
