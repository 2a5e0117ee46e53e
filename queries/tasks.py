"""Reads of tasks: Postgres holds their JSON, and its bytes are sent unchanged."""

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Literal, NamedTuple, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson

from db.long_reads import Scans
from db.pool import Pool
from events import hash_chain
from events.projection import present_form, rank, task_search_text
from events.search_text import search_text
from events.serialization import rfc3339
from events.store.event_store import EventStore
from events.task import Priority, Task
from queries.json_array import json_array

UTC_ZONE = ZoneInfo("UTC")

Sort: TypeAlias = Literal["created_at", "updated_at", "title", "due_date", "priority", "completed_at"]
Order: TypeAlias = Literal["asc", "desc"]
NULLABLE = frozenset[Sort](("due_date", "priority", "completed_at"))
"""Columns in which a task may have nothing: it comes last, in both orders."""
SortKey: TypeAlias = datetime | str | int | None
PageKey: TypeAlias = tuple[SortKey, UUID]
"""The last task of a page: its value in the sort column and its id."""


@dataclass(frozen=True, slots=True)
class Found:
    """A task's version, the hash of the event that left it so, and the task as JSON."""

    version: int
    hash: bytes
    body: bytes


async def get(store: EventStore, user_id: str, task_id: UUID) -> Found | None:
    """Read one task; return `None` if this user has none with this id.

    A row that no event left so gets its content's hash; only a rebuild can repair it.
    """
    row = await store.load(user_id, task_id)
    if row is None:
        return None
    return Found(row.version, row.hash or sha256(row.document).digest(), present_form(row.document))


_FAR = 1000
"""Largest offset that isn't counted as a slow read, in tasks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """A filter and an order of tasks, and a page of the list. Each of `words` occurs in title, description or tags."""

    completed: bool | None = None
    priority: Priority | None = None
    tags: Sequence[str] = ()
    due_before: str | None = None
    """A due date, as a task has it, that comes after those wanted."""
    due_after: str | None = None
    """The first due date wanted."""
    overdue: bool | None = None
    zone: ZoneInfo = UTC_ZONE
    """Time zone in which a day ends, for `overdue`."""
    words: Sequence[str] = ()
    sort: Sort = "created_at"
    order: Order = "desc"
    as_of: datetime | None = None
    """Past moment at which to look, for `queries.as_of`; None for the present."""
    upto: int | None = None
    """Number of the last event that counts, for the pages behind the first one of a past list."""
    limit: int
    offset: int = 0
    after: PageKey | None = None

    @property
    def looks_at_all(self) -> bool:
        """Say if the list must look at all of a user's tasks, since no index leads to its page."""
        return bool(self.words) or self.has_filters or self.sort != "created_at" or self.offset > _FAR

    @property
    def has_filters(self) -> bool:
        """Say if the list has a filter of priority, tags or due date."""
        by_due_date = (self.due_before, self.due_after, self.overdue)
        return bool(self.tags or self.priority) or any(each is not None for each in by_due_date)

    def now(self) -> "Now":
        """Return the moment from which a task is overdue or not."""
        return Now.at(self.as_of or datetime.now(UTC), self.zone)

    def wants(self, task: Task, now: "Now", words: Sequence[str]) -> bool:
        """Say if the task is one of the list. `words` are in the form of `search_text`."""
        due = task.due_date
        if self.completed not in (None, task.completed) or self.priority not in (None, task.priority):
            return False
        if self.tags and not {*self.tags} <= {*task.tags}:
            return False
        if self.due_before is not None and (due is None or due >= self.due_before):
            return False
        if self.due_after is not None and (due is None or due < self.due_after):
            return False
        if self.overdue is not None and self.overdue != (not task.completed and now.is_past(due)):
            return False
        return not words or all(word in task_search_text(task) for word in words)


class Now(NamedTuple):
    """A moment and its day in a time zone, in the forms of due dates."""

    day: str
    moment: str

    @classmethod
    def at(cls, moment: datetime, zone: ZoneInfo) -> "Now":
        """Make it of a moment, and of the zone that has the day: its day in UTC if no date in the zone can hold it."""
        try:
            day = moment.astimezone(zone).date()
        except OverflowError:
            day = moment.date()
        return cls(day.isoformat(), rfc3339(moment))

    def is_past(self, due: str | None) -> bool:
        """Say if a due date is over: a date when its day has ended, a moment at once."""
        return due is not None and due < (self.day if len(due) == _LENGTH_OF_DATE else self.moment)


_LENGTH_OF_DATE = len("2026-12-01")


OVERDUE = "(NOT completed AND coalesce(due_date < CASE length(due_date) WHEN 10 THEN {day} ELSE {moment} END, false))"
"""Condition as `Now.is_past` has it, for a task that isn't completed."""

# Apart, since most lists have none of these filters, and each costs time for each row.
_FILTERS = f"""
      AND ($8::smallint IS NULL OR priority = $8)
      AND ($9::text[] IS NULL OR tags LIKE ALL ($9))
      AND ($10::text IS NULL OR due_date < $10)
      AND ($11::text IS NULL OR due_date >= $11)
      AND ($12::boolean IS NULL OR $12 = {OVERDUE.format(day="$13::text", moment="$14::text")})"""

_WHERE = """WHERE user_id = $1
      AND ($2::boolean IS NULL OR completed = $2)
      AND ($3::text[] IS NULL OR search_text LIKE ALL ($3)){more}"""

# $4 is the page's size: one row more is read, to know if there is a next page. $6 and $7 are the end of the page
# before; as bounds of a row comparison they let the index (user_id, created_at DESC, id DESC) start right there.
# The number and hash of the user's last event must be read in one statement with the tasks. `textsend` makes the bytes
# that are sent anyway: convert_to checks them once more.
_HEAD = "SELECT int8send(seq) || hash AS head, NULL::{} AS found FROM streams WHERE user_id = $1"
_ROWS = f"""
{_HEAD.format("bytea")} UNION ALL
SELECT NULL, textsend(document) FROM ({{page}}) AS page
"""  # noqa: S608 - constant fragments
_ARRAY = f"""
{_HEAD.format("bytea[]")} UNION ALL
SELECT NULL, ARRAY(
    SELECT CASE WHEN octet_length(document) <= 4096 THEN textsend(document) END FROM ({{page}}) AS page
)
"""  # noqa: S608 - constant fragments

_PAGE = f"""
    SELECT document FROM tasks
    {_WHERE}
      AND {{after}}
    ORDER BY {{order}}
    LIMIT $4::bigint + 1 OFFSET $5::bigint
"""  # noqa: S608 - constant fragments

# Tasks without a value in the sort column come last, whatever the order. They are in no index but the primary key, and
# are read only as far as the tasks with a value don't fill the page (docs/adr/0028).
_NULLS_LAST = f"""
    WITH valued AS MATERIALIZED (
        SELECT document, {{column}} AS key, id FROM tasks
        {_WHERE}
          AND {{column}} IS NOT NULL{{span}}
          AND ({{column}}, id) {{than}} (coalesce($6::{{type}}, {{bound}}), coalesce($7::uuid, {{bound_id}}))
        ORDER BY {{column}} {{direction}}, id {{direction}}
        LIMIT $4::bigint + 1 + $5::bigint
    )
    SELECT document FROM (
        SELECT 1 AS part, document, key, id FROM valued
        UNION ALL (
            SELECT 2, document, NULL, id FROM tasks
            {_WHERE} AND {{column}} IS NULL{{unless}}
            ORDER BY id {{direction}}
            LIMIT $4::bigint + 1 + $5::bigint - (SELECT count(*) FROM valued)
        )
        ORDER BY part, key {{direction}}, id {{direction}}
        LIMIT $4::bigint + 1 OFFSET $5::bigint
    ) AS parts
"""  # noqa: S608 - constant fragments

_FIRST, _LAST = "'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"
_EARLIER = f"({{0}}, id) < (coalesce($6::timestamptz, 'infinity'), coalesce($7::uuid, {_LAST}))"
_LATER = f"({{0}}, id) > (coalesce($6::timestamptz, '-infinity'), coalesce($7::uuid, {_FIRST}))"
_BELOW = "($6::text IS NULL OR (title_key, id) < ($6, $7::uuid))"
_ABOVE = "($6::text IS NULL OR (title_key, id) > ($6, $7::uuid))"

_ORDERS: dict[tuple[Sort, Order], dict[str, str]] = {
    ("created_at", "desc"): {"order": "created_at DESC, id DESC", "after": _EARLIER.format("created_at")},
    ("created_at", "asc"): {"order": "created_at, id", "after": _LATER.format("created_at")},
    ("updated_at", "desc"): {"order": "updated_at DESC, id DESC", "after": _EARLIER.format("updated_at")},
    ("updated_at", "asc"): {"order": "updated_at, id", "after": _LATER.format("updated_at")},
    ("title", "desc"): {"order": "title_key DESC, id DESC", "after": _BELOW},
    ("title", "asc"): {"order": "title_key, id", "after": _ABOVE},
}

_DIRECTIONS: dict[Order, dict[str, str]] = {
    "asc": {"direction": "ASC", "than": ">", "bound_id": _FIRST},
    "desc": {"direction": "DESC", "than": "<", "bound_id": _LAST},
}
_BOUNDS: dict[Sort, tuple[str, dict[Order, str]]] = {
    "due_date": ("text", {"asc": "''", "desc": "':'"}),  # a colon comes after all digits
    "priority": ("smallint", {"asc": "0", "desc": "4"}),
    "completed_at": ("timestamptz", {"asc": "'-infinity'", "desc": "'infinity'"}),
}
"""Type of each nullable column, and a bound before all of its values, by order."""

_SOME = {False: "", True: _FILTERS}

# Due dates between two are read from the index, though `_FILTERS` says the same.
_SPANS: dict[Sort, str] = {
    "due_date": " AND due_date < coalesce($10::text, ':') AND due_date >= coalesce($11::text, '')"
}
_UNLESS: dict[Sort, str] = {
    "due_date": " AND $10::text IS NULL AND $11::text IS NULL AND $12::boolean IS NOT TRUE",
    "priority": " AND $8::smallint IS NULL",
}
"""Conditions, by sort column, without which a filter fits no task that has no value in it: those aren't read then."""

_PAGES: dict[tuple[Sort, Order, bool, bool], str] = {
    **{
        (*order, filtered, False): _PAGE.format(more=more, **parts)
        for order, parts in _ORDERS.items()
        for filtered, more in _SOME.items()
    },
    **{
        (column, order, filtered, False): _NULLS_LAST.format(
            more=more,
            span=_SPANS.get(column, "") * filtered,
            unless=_UNLESS.get(column, "") * filtered,
            column=column,
            type=type_,
            bound=bounds[order],
            **direction,
        )
        for column, (type_, bounds) in _BOUNDS.items()
        for order, direction in _DIRECTIONS.items()
        for filtered, more in _SOME.items()
    },
    **{
        (column, order, filtered, True): _PAGE.format(
            more=more,
            order=f"id {direction['direction']}",
            after=f"{column} IS NULL AND $6::text IS NULL AND id {direction['than']} $7::uuid",
        )
        for column in _BOUNDS
        for order, direction in _DIRECTIONS.items()
        for filtered, more in _SOME.items()
    },
}
LIST = {kind: _ROWS.format(page=page) for kind, page in _PAGES.items()}
"""List statements by sort, order, whether there are filters of priority, tags or due date, and whether the page is
behind a task without a value in the sort column.
"""
LIST_AS_ARRAY: dict[Order, str] = {
    order: _ARRAY.format(page=_PAGES["created_at", order, False, False]) for order in _DIRECTIONS
}
"""List statements by order of creation, without such filters: one array with the documents. A long one is null.

A row each takes twice the time on a long page. But Postgres holds an array four times over while it makes and sends it.
"""
_MANY = 100
"""Largest page, in tasks, that is read as rows at once: an array would save less than a second statement may cost."""


@dataclass(frozen=True, slots=True)
class Page:
    """A JSON array of tasks, its end if there are more tasks, and the user's head at that moment."""

    body: bytes | memoryview
    end: PageKey | None
    head: hash_chain.Head


async def fetch_tasks(pool: Pool, scans: Scans, user_id: str, query: ListQuery) -> Page:
    """List a user's tasks in the order asked for, ids breaking ties.

    A list that `looks_at_all`, and a long page with long tasks, takes a turn of `scans` until its array is made: such
    a page has up to 20 MB, and its bytes count only once they are sent (api.server.unsent). Raise `TooBusy`.
    """
    words = [f"%{_escaped(search_text(word))}%" for word in query.words] or None
    arguments: list[Any] = [user_id, query.completed, words, query.limit, query.offset, *(query.after or (None, None))]
    if query.has_filters:
        tags = [f"%\n{_escaped(tag)}\n%" for tag in query.tags] or None
        arguments += [rank(query.priority), tags, query.due_before, query.due_after, query.overdue, *query.now()]
    among_nulls = query.sort in NULLABLE and query.after is not None and query.after[0] is None
    kind = (query.sort, query.order, query.has_filters, among_nulls)
    async with AsyncExitStack() as turn:
        if query.looks_at_all:
            await turn.enter_async_context(scans.turn(user_id))
        elif query.limit > _MANY:
            head, [documents] = await _read(pool, LIST_AS_ARRAY[query.order], arguments)
            if all(documents[: query.limit]):
                return await _page(user_id, query, head, documents)
            del documents  # nothing of it is held while it waits
            await turn.enter_async_context(scans.turn(user_id))
        return await _page(user_id, query, *await _read(pool, LIST[kind], arguments))


async def _page(user_id: str, query: ListQuery, head: hash_chain.Head, documents: list[bytes]) -> Page:
    """Make the page of its documents, and the one behind it, if there is one."""
    end = end_of(documents[query.limit - 1], query.sort) if len(documents) > query.limit else None
    del documents[query.limit :]
    return Page(await json_array(user_id, documents), end, head)


async def _read(pool: Pool, statement: str, arguments: list[Any]) -> tuple[hash_chain.Head, list[Any]]:
    rows = await pool.fetch(statement, *arguments)
    found: bytes | None = next((head for head, _ in rows if head is not None), None)
    head = hash_chain.Head(int.from_bytes(found[:8]), found[8:]) if found else hash_chain.Head()
    return head, [documents for _, documents in rows if documents is not None]


def end_of(task: bytes, sort: Sort) -> PageKey:
    """Return the key of a page's last task, given as JSON."""
    last = orjson.loads(task)
    value: SortKey = last.get(sort)  # not there in a document of a former release
    if isinstance(value, str) and sort != "due_date":
        value = _KEYS[sort](value) if sort in _KEYS else datetime.fromisoformat(value)
    return value, UUID(last["id"])


_KEYS: dict[Sort, Callable[[Any], SortKey]] = {"title": search_text, "priority": rank}


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
