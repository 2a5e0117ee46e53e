"""Reading tasks: Postgres builds the JSON, and its bytes go out as they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias
from uuid import UUID

import orjson

from db.pool import Pool
from events import log, past
from events.codec import rfc3339
from events.task import Task

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

GET = f"SELECT version, {_TASK}::text AS body FROM tasks WHERE user_id = $1 AND id = $2"  # noqa: S608 - a constant fragment


async def get(pool: Pool, user_id: str, task_id: UUID) -> tuple[int, bytes] | None:
    """A task's version, and the task as JSON; `None` where this user has none with this id."""
    row = await pool.fetchrow(GET, user_id, task_id)
    return None if row is None else (row["version"], row["body"].encode())


# $4 is the page's size: one row more is read, to know whether there is a next page. $6 and $7 are where the last page
# ended; as bounds of a row comparison they let the index (user_id, created_at DESC, id DESC) start right there.
_LIST = """
SELECT {found},
       max(key) FILTER (WHERE n = $4 AND more) AS key,
       max(id::text) FILTER (WHERE n = $4 AND more) AS id,
       {seq} AS seq
FROM (
    SELECT *, row_number() OVER () AS n, count(*) OVER () > $4 AS more
    FROM (
        SELECT id, user_id, title, description, completed, created_at, updated_at, version, {key} AS key
        FROM {tasks}
        WHERE user_id = $1
          AND ($2::boolean IS NULL OR completed = $2)
          AND ($3::text[] IS NULL OR (title || E'\\n' || coalesce(description, '')) ILIKE ALL ($3))
          AND {after}
        ORDER BY {order}
        LIMIT $4::bigint + 1 OFFSET $5::bigint
    ) AS page
) AS numbered
"""

_FIRST, _LAST = "'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"
_EARLIER = f"({{0}}, id) < (coalesce($6::timestamptz, 'infinity'), coalesce($7::uuid, {_LAST}))"
_LATER = f"({{0}}, id) > (coalesce($6::timestamptz, '-infinity'), coalesce($7::uuid, {_FIRST}))"
_BELOW = "($6::text IS NULL OR (lower(title), id) < (lower($6), $7::uuid))"
_ABOVE = "($6::text IS NULL OR (lower(title), id) > (lower($6), $7::uuid))"

_ORDERS: dict[tuple[Sort, Order], dict[str, str]] = {
    ("created_at", "desc"): {
        "key": "created_at",
        "order": "created_at DESC, id DESC",
        "after": _EARLIER.format("created_at"),
    },
    ("created_at", "asc"): {"key": "created_at", "order": "created_at, id", "after": _LATER.format("created_at")},
    ("updated_at", "desc"): {
        "key": "updated_at",
        "order": "updated_at DESC, id DESC",
        "after": _EARLIER.format("updated_at"),
    },
    ("updated_at", "asc"): {"key": "updated_at", "order": "updated_at, id", "after": _LATER.format("updated_at")},
    ("title", "desc"): {"key": "title", "order": "lower(title) DESC, id DESC", "after": _BELOW},
    ("title", "asc"): {"key": "title", "order": "lower(title), id", "after": _ABOVE},
}
_BODY = f"coalesce(json_agg({_TASK}) FILTER (WHERE n <= $4), '[]')::text AS body"
LIST: dict[tuple[Sort, Order], str] = {
    order: _LIST.format(found=_BODY, tasks="tasks", seq="(SELECT seq FROM journals WHERE user_id = $1)", **parts)
    for order, parts in _ORDERS.items()
}
# The same on tasks that are brought along ($8), so that filters, words and orders mean the same in the past. Which of
# them are on the page is all that comes back.
_BROUGHT = """json_to_recordset($8::json) AS tasks (
            id uuid, user_id text, title text, description text, completed boolean,
            created_at timestamptz, updated_at timestamptz, version integer
        )"""
LIST_PAST: dict[tuple[Sort, Order], str] = {
    order: _LIST.format(
        found="coalesce(array_agg(id) FILTER (WHERE n <= $4), '{}') AS ids", tasks=_BROUGHT, seq="$9::bigint", **parts
    )
    for order, parts in _ORDERS.items()
}


@dataclass(frozen=True, slots=True)
class Page:
    """A JSON array of tasks, where it ended if there are more, and the number of the user's last event then."""

    body: bytes
    end: Key | None
    seq: int


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
    as_of: datetime | None = None,
) -> Page:
    """A user's tasks in the order asked for, ids breaking ties. Each of `words` occurs in title or description.

    With `as_of` they are folded from the log, as they were at that moment: that takes as long as the log is, and the
    memory of all the tasks that there were.
    """
    key, task_id = after or (None, None)
    arguments = (user_id, completed, [_pattern(w) for w in words] or None, limit, offset, key, task_id)
    if as_of is None:
        row = await pool.fetchrow(LIST[sort, order], *arguments)
        assert row is not None  # noqa: S101 - an aggregate always returns a row
        body = row["body"].encode()
    else:
        seq = await log.head(pool, user_id)
        tasks = {task.id: task for task in await past.tasks_at(pool, user_id, as_of, upto=seq)}
        brought = orjson.dumps([_keys(task, texts=bool(words)) for task in tasks.values()]).decode()
        row = await pool.fetchrow(LIST_PAST[sort, order], *arguments, brought, seq)
        assert row is not None  # noqa: S101 - an aggregate always returns a row
        body = b"[%b]" % b",".join(as_json(tasks[task_id]) for task_id in row["ids"])
    return Page(body, None if row["id"] is None else (row["key"], UUID(row["id"])), row["seq"] or 0)


def _keys(task: Task, *, texts: bool) -> dict[str, Any]:
    """What a list filters and orders by: descriptions, the bulk of it, only where words are looked for."""
    return {
        "id": str(task.id),
        "user_id": task.user_id,
        "title": task.title,
        "description": task.description if texts else None,
        "completed": task.completed,
        "created_at": task.created_at,
        "updated_at": task.updated_at,
    }


def as_json(task: Task) -> bytes:
    """A task from the log as `_TASK` makes one of a row."""
    return orjson.dumps(
        {
            "id": str(task.id),
            "user_id": task.user_id,
            "title": task.title,
            "description": task.description,
            "completed": task.completed,
            "created_at": rfc3339(task.created_at),
            "updated_at": rfc3339(task.updated_at),
            "version": task.version,
        }
    )


def _pattern(word: str) -> str:
    escaped = word.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    return f"%{escaped}%"
