"""Reading tasks: Postgres builds the JSON, and its bytes go out as they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias
from uuid import UUID

from db.pool import Pool

Sort: TypeAlias = Literal["created_at", "updated_at", "title"]
Order: TypeAlias = Literal["asc", "desc"]
Key: TypeAlias = tuple[datetime | str, UUID]
"""Where a page ended: the sort column's value (text for `title`) and the task's id."""

# The one place that says what a task looks like on its way out of the database (contract, section 1).
_TASK = """json_build_object(
    'id', id, 'user_id', user_id, 'title', title, 'description', description, 'completed', completed,
    'created_at', to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'updated_at', to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'version', version)"""

GET = f"SELECT {_TASK}::text FROM tasks WHERE user_id = $1 AND id = $2"  # noqa: S608 - a constant fragment


async def get(pool: Pool, user_id: str, task_id: UUID) -> bytes | None:
    """A task as JSON; `None` where this user has none with this id."""
    body: str | None = await pool.fetchval(GET, user_id, task_id)
    return None if body is None else body.encode()


# $4 is the page's size: one row more is read, to know whether there is a next page. $6 and $7 are where the last page
# ended; as bounds of a row comparison they let the index (user_id, created_at DESC, id DESC) start right there.
_LIST = f"""
SELECT coalesce(json_agg({_TASK}) FILTER (WHERE n <= $4), '[]')::text AS body,
       max(key) FILTER (WHERE n = $4 AND more) AS key,
       max(id::text) FILTER (WHERE n = $4 AND more) AS id
FROM (
    SELECT *, row_number() OVER () AS n, count(*) OVER () > $4 AS more
    FROM (
        SELECT id, user_id, title, description, completed, created_at, updated_at, version, {{key}} AS key
        FROM tasks
        WHERE user_id = $1
          AND ($2::boolean IS NULL OR completed = $2)
          AND ($3::text[] IS NULL OR (title || E'\\n' || coalesce(description, '')) ILIKE ALL ($3))
          AND {{after}}
        ORDER BY {{order}}
        LIMIT $4::bigint + 1 OFFSET $5::bigint
    ) AS page
) AS numbered
"""  # noqa: S608 - constant fragments

_FIRST, _LAST = "'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"
_EARLIER = f"({{0}}, id) < (coalesce($6::timestamptz, 'infinity'), coalesce($7::uuid, {_LAST}))"
_LATER = f"({{0}}, id) > (coalesce($6::timestamptz, '-infinity'), coalesce($7::uuid, {_FIRST}))"
_BELOW = "($6::text IS NULL OR (lower(title), id) < (lower($6), $7::uuid))"
_ABOVE = "($6::text IS NULL OR (lower(title), id) > (lower($6), $7::uuid))"

LIST: dict[tuple[Sort, Order], str] = {
    ("created_at", "desc"): _LIST.format(
        key="created_at", order="created_at DESC, id DESC", after=_EARLIER.format("created_at")
    ),
    ("created_at", "asc"): _LIST.format(key="created_at", order="created_at, id", after=_LATER.format("created_at")),
    ("updated_at", "desc"): _LIST.format(
        key="updated_at", order="updated_at DESC, id DESC", after=_EARLIER.format("updated_at")
    ),
    ("updated_at", "asc"): _LIST.format(key="updated_at", order="updated_at, id", after=_LATER.format("updated_at")),
    ("title", "desc"): _LIST.format(key="title", order="lower(title) DESC, id DESC", after=_BELOW),
    ("title", "asc"): _LIST.format(key="title", order="lower(title), id", after=_ABOVE),
}


@dataclass(frozen=True, slots=True)
class Page:
    """A JSON array of tasks, and where it ended if there are more."""

    body: bytes
    end: Key | None


async def list_tasks(
    pool: Pool,
    user_id: str,
    *,
    completed: bool | None = None,
    words: Sequence[str] = (),
    sort: Sort = "created_at",
    order: Order = "desc",
    limit: int,
    offset: int = 0,
    after: Key | None = None,
) -> Page:
    """A user's tasks in the order asked for, ids breaking ties. Each of `words` occurs in title or description."""
    key, task_id = after or (None, None)
    row = await pool.fetchrow(
        LIST[sort, order],
        user_id,
        completed,
        [_pattern(w) for w in words] or None,
        limit,
        offset,
        key,
        task_id,
    )
    assert row is not None  # noqa: S101 - an aggregate always returns a row
    return Page(row["body"].encode(), None if row["id"] is None else (row["key"], UUID(row["id"])))


def _pattern(word: str) -> str:
    escaped = word.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    return f"%{escaped}%"
