"""Reads for clients that keep a copy of the tasks: the first copy, and the changes since."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from asyncpg import Record

from db.pool import Pool
from events.task import ENDS


class SyncPoint(NamedTuple):
    """The event up to which a client's copy is complete: its number, and the first bytes of its hash.

    While the first copy is read, `start` is the id of the next task; the copy is of the moment of this event.
    """

    seq: int
    hash: bytes
    start: UUID | None = None


class Deletion(NamedTuple):
    """A task that is gone: its id, and the version and number of its deletion."""

    id: UUID
    version: int
    seq: int


@dataclass(frozen=True, slots=True)
class ChangesPage:
    """A page of changes: documents of tasks, deleted tasks, where the next page begins, and whether there is one.

    Invariant: no task in it is newer than `next`. So a client with this page, and a database that was restored from a
    backup, agree on `next` only if they agree on each task.
    """

    tasks: list[bytes]
    deleted: Sequence[Deletion]
    next: SyncPoint
    more: bool


_PAGE_BYTES = 1024 * 1024
"""Bytes of long documents that end a page, also if it has fewer tasks than were asked for: a thousand have 20 MB."""
_LEFT_OUT = b"\0"
"""Bytes in place of a long document."""


class _Paged(NamedTuple):
    """A statement for a page, with `document` as bytes, in two forms: few users have long tasks."""

    short: str
    """Has `_LEFT_OUT` for documents that are long."""
    bounded: str
    """Returns as many of its rows as have `_PAGE_BYTES`. Only their documents are read."""


def _paged(columns: str, statement: str, *, order: str) -> _Paged:
    """Make both forms of a statement with these columns beside `document`, whose rows are in this order.

    `bytes` is the length of the documents up to and with each row, in the bounded form.
    """
    short = f"""
SELECT {columns}, CASE WHEN octet_length(document) <= 4096 THEN textsend(document)
    WHEN document IS NOT NULL THEN '\\x00'::bytea END AS document, NULL::bigint AS bytes
FROM ({statement}) AS page ORDER BY {order}
"""  # noqa: S608 - constant fragments
    bounded = f"""
SELECT {columns}, textsend(document) AS document, bytes FROM (
    SELECT page.*, sum(coalesce(octet_length(document), 0)) OVER (ORDER BY {order} ROWS UNBOUNDED PRECEDING) AS bytes
    FROM ({statement}) AS page
) AS counted
WHERE bytes - coalesce(octet_length(document), 0) < {_PAGE_BYTES} ORDER BY {order}
"""  # noqa: S608 - constant fragments
    return _Paged(short, bounded)


async def _fetch(pool: Pool, statement: _Paged, *arguments: Any) -> tuple[Sequence[Record], bool]:
    """Fetch a page. Say whether there may be more rows, since these are full."""
    rows = await pool.fetch(statement.short, *arguments)
    if _LEFT_OUT not in [row["document"] for row in rows]:
        return rows, False
    rows = await pool.fetch(statement.bounded, *arguments)
    return rows, max((row["bytes"] or 0 for row in rows), default=0) >= _PAGE_BYTES


# A task's document is there only in the row of its last event: others bring what is outdated, or comes on a later page.
_CHANGES = """
    SELECT seq, hash, task_id, version, type, (
        SELECT CASE WHEN tasks.version = events.version THEN document ELSE '' END
        FROM tasks WHERE user_id = $1 AND id = events.task_id
    ) AS document
    FROM events WHERE user_id = $1 AND seq >= $2 ORDER BY seq LIMIT $3
"""
CHANGES = _paged("seq, hash, task_id, version, type", _CHANGES, order="seq")


async def fetch_changes(pool: Pool, user_id: str, since: SyncPoint, *, limit: int) -> ChangesPage | None:
    """Read the tasks whose last events are among the next `limit` events, or fewer if their tasks are long.

    Return `None` if the log has no such point. A task that later events have changed is left out: it is on their page.
    """
    rows, full = await _fetch(pool, CHANGES, user_id, since.seq, limit + 1 + (since.seq > 0))
    if since.seq:
        if not rows or rows[0]["seq"] != since.seq or not rows[0]["hash"].startswith(since.hash):
            return None
        rows = rows[1:]
    page = rows[:limit]
    more = len(rows) > limit or full
    documents = [row["document"] for row in page if row["document"]]
    gone = {row["task_id"]: row for row in page if row["document"] is None and row["type"] in ENDS}
    deleted = [Deletion(row["task_id"], row["version"], row["seq"]) for row in gone.values()]
    end = SyncPoint(page[-1]["seq"], page[-1]["hash"]) if page else since
    return ChangesPage(documents, deleted, end, more)


# In order of ids, with the one behind the page. A task with an event after the copy's moment has no document here: the
# changes since bring it.
_TASKS = """
    SELECT id, CASE WHEN $2::bigint IS NULL OR (
        SELECT seq FROM events
        WHERE user_id = $1 AND task_id = tasks.id AND events.version = tasks.version
    ) <= $2 THEN document END AS document
    FROM tasks WHERE user_id = $1 AND id >= $3 ORDER BY id LIMIT $4
"""
_HEAD = """
SELECT NULL::uuid AS id, (SELECT hash FROM events WHERE user_id = $1 AND seq = $2) AS hash,
    int8send(seq) || hash AS document, NULL::bigint AS bytes
FROM streams WHERE user_id = $1
"""
FIRST_COPY = _Paged(*(f"{_HEAD} UNION ALL ({form})" for form in _paged("id, NULL::bytea", _TASKS, order="id")))


async def fetch_first_copy(pool: Pool, user_id: str, since: SyncPoint | None, *, limit: int) -> ChangesPage | None:
    """Read the next `limit` tasks as of the moment at which the copy was begun, which is now if there is no `since`.

    They are fewer if they are long. Return `None` if the log has no such point.
    """
    start = since.start if since and since.start else UUID(int=0)
    rows, full = await _fetch(pool, FIRST_COPY, user_id, since and since.seq, start, limit + 1)
    head, hash_ = next(((_point(row["document"]), row["hash"]) for row in rows if row["id"] is None), (_NOTHING, None))
    if since is None:
        since = head
    elif hash_ is None or not hash_.startswith(since.hash):
        return None
    found = [row for row in rows if row["id"] is not None]
    behind = found.pop() if len(found) > limit or full else None
    documents = [row["document"] for row in found if row["document"] is not None]
    if behind is not None:
        return ChangesPage(documents, (), since._replace(start=behind["id"]), more=True)
    return ChangesPage(documents, (), since._replace(start=None), more=head.seq > since.seq)


_NOTHING = SyncPoint(0, b"")


def _point(head: bytes) -> SyncPoint:
    return SyncPoint(int.from_bytes(head[:8]), head[8:])
