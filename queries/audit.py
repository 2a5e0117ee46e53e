"""Reads of the log: a page of it, a whole selection, and its head."""

from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from asyncpg import Record

from db.pool import Pool
from events.serialization import Row
from events.store import log
from queries.tasks import Order

LAST_SEQ = 2**63 - 1


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
_BY_SEQ: dict[Order, str] = {"asc": "seq", "desc": "seq DESC"}
AUDIT: dict[Order, log.Batched] = {
    order: log.batched(log.COLUMN_NAMES, _AUDIT.format(and_task="", order=by), order=by)
    for order, by in _BY_SEQ.items()
}
# A task's events have the same order by version, and there is an index for that.
_OF_TASK = "AND task_id = $9 AND version > $10 AND version <= $11"
_BY_VERSION: dict[Order, str] = {"asc": "version", "desc": "version DESC"}
AUDIT_OF_TASK: dict[Order, log.Batched] = {
    order: log.batched(log.COLUMN_NAMES, _AUDIT.format(and_task=_OF_TASK, order=by), order=by)
    for order, by in _BY_VERSION.items()
}


def fetch_events(
    pool: Pool, user_id: str, selection: Selection, *, most: int | None = None
) -> AsyncIterator[Sequence[Row]]:
    """Read the selection, or its first `most` events, in batches of rows for `events.records`.

    Between batches no connection is held, however slowly they are taken, and none is needed: the log only grows.
    """
    task_id = selection.task_id
    filters = (selection.since, selection.until, selection.types or None, selection.actors or None)

    def fetch(form: str, last: Record | None, limit: int) -> Awaitable[Sequence[Record]]:
        rest = selection if last is None else behind(selection, last)
        of_task = () if task_id is None else (task_id, *rest.versions)
        return pool.fetch(form, user_id, rest.after, rest.before, *filters, limit, *of_task)

    statements = AUDIT if task_id is None else AUDIT_OF_TASK
    return log.in_batches(statements[selection.order], fetch, most=most)


def behind(selection: Selection, row: Row) -> Selection:
    """Return the rest of the selection after this row."""
    above, upto = selection.versions
    if selection.order == "asc":
        return replace(selection, after=row["seq"], versions=(row["version"] if selection.task_id else above, upto))
    return replace(selection, before=row["seq"], versions=(above, row["version"] - 1 if selection.task_id else upto))


async def has_events(pool: Pool, user_id: str, task_id: UUID) -> bool:
    """Say whether the user has, or had, this task."""
    return bool(await log.known(pool, user_id, [task_id]))


async def export(
    pool: Pool, user_id: str, selection: Selection, *, limit: int | None = None
) -> AsyncIterator[Sequence[Row]]:
    """Read the selection as it is now, or its first `limit` events, as `fetch_events` does."""
    last = (await log.head(pool, user_id)).seq
    selection = replace(selection, before=min(selection.before, last + 1))
    async for rows in fetch_events(pool, user_id, selection, most=limit):
        yield rows


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
