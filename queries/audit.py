"""Reads of the log: a page of it, a whole selection, and its head."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from db.pool import Pool
from events.serialization import Row
from events.store import log
from queries.tasks import Order

LAST_SEQ = 2**63 - 1
EXPORT_BATCH = 50
"""Number of events of an export in memory at once, 3 MB if all are of the largest size: many exports may be read at
once, and slowly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """A selection of a user's events, in an order of `seq`. All bounds are exclusive but `since`."""

    task_id: UUID | None = None
    types: tuple[str, ...] = ()
    actors: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    after: int = 0
    before: int = LAST_SEQ
    order: Order = "desc"
    versions: tuple[int, int] = (0, 2**31 - 1)
    """Bounds on `version` for a selection of one task: after the first, up to the second. An index can find them."""


_AUDIT = f"""
SELECT {log.COLUMNS} FROM events
WHERE user_id = $1 AND seq > $2 AND seq < $3
  AND at >= coalesce($4::timestamptz, '-infinity') AND at < coalesce($5::timestamptz, 'infinity')
  AND ($6::text[] IS NULL OR type = ANY ($6))
  AND ($7::text[] IS NULL OR actor = ANY ($7))
  {{and_task}}
ORDER BY {{order}} LIMIT $8
"""  # noqa: S608 - a constant fragment
AUDIT: dict[Order, str] = {
    "asc": _AUDIT.format(and_task="", order="seq"),
    "desc": _AUDIT.format(and_task="", order="seq DESC"),
}
# A task's events have the same order by version, and there is an index for that.
_OF_TASK = "AND task_id = $9 AND version > $10 AND version <= $11"
AUDIT_OF_TASK: dict[Order, str] = {
    "asc": _AUDIT.format(and_task=_OF_TASK, order="version"),
    "desc": _AUDIT.format(and_task=_OF_TASK, order="version DESC"),
}


async def page(pool: Pool, user_id: str, selection: Selection, *, limit: int) -> Sequence[Row]:
    """Read the first `limit` events of the selection, as rows for `events.records`."""
    arguments = (
        user_id,
        selection.after,
        selection.before,
        selection.since,
        selection.until,
        selection.types or None,
        selection.actors or None,
        limit,
    )
    if selection.task_id is None:
        return await pool.fetch(AUDIT[selection.order], *arguments)
    return await pool.fetch(AUDIT_OF_TASK[selection.order], *arguments, selection.task_id, *selection.versions)


def behind(selection: Selection, row: Row) -> Selection:
    """Return the rest of the selection after this row."""
    above, upto = selection.versions
    if selection.order == "asc":
        return replace(selection, after=row["seq"], versions=(row["version"] if selection.task_id else above, upto))
    return replace(selection, before=row["seq"], versions=(above, row["version"] - 1 if selection.task_id else upto))


async def export(
    pool: Pool, user_id: str, selection: Selection, *, limit: int | None = None
) -> AsyncIterator[Sequence[Row]]:
    """Read the selection as it is now, or its first `limit` events, in one or more batches of rows.

    Between batches no connection is held, however slowly they are taken, and none is needed: the log only grows.
    """
    left = limit
    last = (await log.head(pool, user_id)).seq
    selection = replace(selection, before=min(selection.before, last + 1))
    while left is None or left > 0:
        size = EXPORT_BATCH if left is None else min(EXPORT_BATCH, left)
        rows = await page(pool, user_id, selection, limit=size)
        complete = len(rows) < size
        if rows:
            selection = behind(selection, rows[-1])
        yield rows
        del rows  # before the next batch is fetched
        if complete:
            return
        left = None if left is None else left - size


HEAD_JSON = """
SELECT format(
    '{"seq":%s,"hash":"%s","at":"%s"}',
    seq, encode(hash, 'hex'), to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
)
FROM events WHERE user_id = $1 ORDER BY seq DESC LIMIT 1
"""


async def head_json(pool: Pool, user_id: str) -> bytes:
    """Read the number, hash and time of a user's last event as JSON; 0, empty and null if there is none."""
    body: str = await pool.fetchval(HEAD_JSON, user_id) or '{"seq":0,"hash":"","at":null}'
    return body.encode()
