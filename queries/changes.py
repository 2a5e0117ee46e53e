"""Reads for clients that keep a copy of the tasks: the first copy, and the changes since."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

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


# A task's document is there only in the row of its last event: others bring what is outdated, or comes on a later page.
CHANGES = """
SELECT seq, hash, task_id, version, type, (
    SELECT CASE WHEN tasks.version = events.version THEN textsend(document) ELSE '' END
    FROM tasks WHERE user_id = $1 AND id = events.task_id
) AS document
FROM events WHERE user_id = $1 AND seq >= $2 ORDER BY seq LIMIT $3
"""


async def fetch_changes(pool: Pool, user_id: str, since: SyncPoint, *, limit: int) -> ChangesPage | None:
    """Read the tasks whose last events are among the next `limit` events. Return `None` if the log has no such point.

    A task that later events have changed is left out: it is on their page.
    """
    rows = await pool.fetch(CHANGES, user_id, since.seq, limit + 1 + (since.seq > 0))
    if since.seq:
        if not rows or rows[0]["seq"] != since.seq or not rows[0]["hash"].startswith(since.hash):
            return None
        rows = rows[1:]
    page = rows[:limit]
    documents = [row["document"] for row in page if row["document"]]
    gone = {row["task_id"]: row for row in page if row["document"] is None and row["type"] in ENDS}
    deleted = [Deletion(row["task_id"], row["version"], row["seq"]) for row in gone.values()]
    end = SyncPoint(page[-1]["seq"], page[-1]["hash"]) if page else since
    return ChangesPage(documents, deleted, end, len(rows) > limit)


# In order of ids, with the one behind the page. A task with an event after the copy's moment has no document here: the
# changes since bring it.
FIRST_COPY = """
SELECT NULL::uuid AS id, int8send(seq) || hash AS found, (
    SELECT hash FROM events WHERE user_id = $1 AND seq = $2
) AS hash
FROM streams WHERE user_id = $1
UNION ALL (
    SELECT id, CASE WHEN $2::bigint IS NULL OR (
        SELECT seq FROM events
        WHERE user_id = $1 AND task_id = tasks.id AND events.version = tasks.version
    ) <= $2 THEN textsend(document) END, NULL
    FROM tasks WHERE user_id = $1 AND id >= $3 ORDER BY id LIMIT $4
)
"""


async def fetch_first_copy(pool: Pool, user_id: str, since: SyncPoint | None, *, limit: int) -> ChangesPage | None:
    """Read the next `limit` tasks as of the moment at which the copy was begun, which is now if there is no `since`.

    Return `None` if the log has no such point.
    """
    start = since.start if since and since.start else UUID(int=0)
    rows = await pool.fetch(FIRST_COPY, user_id, since and since.seq, start, limit + 1)
    head, hash_ = next(((_point(row["found"]), row["hash"]) for row in rows if row["id"] is None), (_NOTHING, None))
    if since is None:
        since = head
    elif hash_ is None or not hash_.startswith(since.hash):
        return None
    found = [(row["id"], row["found"]) for row in rows if row["id"] is not None]
    documents = [document for _, document in found[:limit] if document is not None]
    if len(found) > limit:
        return ChangesPage(documents, (), since._replace(start=found[limit][0]), more=True)
    return ChangesPage(documents, (), since._replace(start=None), more=head.seq > since.seq)


_NOTHING = SyncPoint(0, b"")


def _point(head: bytes) -> SyncPoint:
    return SyncPoint(int.from_bytes(head[:8]), head[8:])
