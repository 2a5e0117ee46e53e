"""Reads of tasks: Postgres holds their JSON, and its bytes are sent unchanged."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Literal, TypeAlias
from uuid import UUID

import orjson

from db.long_reads import Scans
from db.pool import Pool
from events import hash_chain
from events.search_text import search_text
from events.store.event_store import EventStore

Sort: TypeAlias = Literal["created_at", "updated_at", "title"]
Order: TypeAlias = Literal["asc", "desc"]
PageKey: TypeAlias = tuple[datetime | str, UUID]
"""The last task of a page: its value in the sort column (for `title`, the search text) and its id."""


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
    return Found(row.version, row.hash or sha256(row.document).digest(), row.document)


_FAR = 1000
"""Largest offset that isn't counted as a slow read, in tasks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """A filter and an order of tasks, and a page of the list. Each of `words` occurs in title or description."""

    completed: bool | None = None
    words: Sequence[str] = ()
    sort: Sort = "created_at"
    order: Order = "desc"
    as_of: datetime | None = None
    """Past moment at which to look, for `queries.as_of`; None for the present."""
    limit: int
    offset: int = 0
    after: PageKey | None = None

    @property
    def looks_at_all(self) -> bool:
        """Say if the list must look at all of a user's tasks, since no index leads to its page."""
        return bool(self.words) or self.sort != "created_at" or self.offset > _FAR


# $4 is the page's size: one row more is read, to know if there is a next page. $6 and $7 are the end of the last page;
# as bounds of a row comparison they let the index (user_id, created_at DESC, id DESC) start right there.
# The number and hash of the user's last event must be read in one statement with the tasks; as one value, since Citus
# hands on no record.
_LIST = """
SELECT (SELECT int8send(seq) || hash FROM streams WHERE user_id = $1) AS head, ARRAY(
    SELECT convert_to(document, 'UTF8')
    FROM tasks
    WHERE user_id = $1
      AND ($2::boolean IS NULL OR completed = $2)
      AND ($3::text[] IS NULL OR search_text LIKE ALL ($3))
      AND {after}
    ORDER BY {order}
    LIMIT $4::bigint + 1 OFFSET $5::bigint
) AS found
"""

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
LIST: dict[tuple[Sort, Order], str] = {order: _LIST.format(**parts) for order, parts in _ORDERS.items()}


@dataclass(frozen=True, slots=True)
class Page:
    """A JSON array of tasks, its end if there are more tasks, and the user's head at that moment."""

    body: bytes
    end: PageKey | None
    head: hash_chain.Head


async def fetch_tasks(pool: Pool, scans: Scans, user_id: str, query: ListQuery) -> Page:
    """List a user's tasks in the order asked for, ids breaking ties.

    A list that `looks_at_all` takes a turn of `scans`. Raise `TooManyRequests`.
    """
    words = [_pattern(search_text(word)) for word in query.words] or None
    arguments = (user_id, query.completed, words, query.limit, query.offset, *(query.after or (None, None)))
    async with AsyncExitStack() as turn:
        if query.looks_at_all:
            await turn.enter_async_context(scans.turn(user_id))
        row = await pool.fetchrow(LIST[query.sort, query.order], *arguments)
    assert row is not None  # noqa: S101 - there is always one
    found: list[bytes] = row["found"]
    head = hash_chain.Head(int.from_bytes(row["head"][:8]), row["head"][8:]) if row["head"] else hash_chain.Head()
    body = b"[%b]" % b",".join(found[: query.limit])
    return Page(body, end_of(found[query.limit - 1], query.sort) if len(found) > query.limit else None, head)


def end_of(task: bytes, sort: Sort) -> PageKey:
    """Return the key of a page's last task, given as JSON."""
    last = orjson.loads(task)
    return (search_text(last["title"]) if sort == "title" else datetime.fromisoformat(last[sort])), UUID(last["id"])


def _pattern(word: str) -> str:
    escaped = word.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    return f"%{escaped}%"
