"""Counts of a user's tasks, for badges and dashboards."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import orjson

from db.long_reads import Scans
from db.pool import Pool
from queries.tasks import OVERDUE, Now

MOST_TAGS = 1000
"""Largest number of tags that are counted: the most frequent ones."""

# No index covers it: `completed` in one would cost each toggle its HOT update (docs/adr/0028).
COUNT_TASKS = f"""
WITH mine AS MATERIALIZED (SELECT completed, priority, due_date, tags FROM tasks WHERE user_id = $1)
SELECT counts.*, tags.by_tag
FROM (
    SELECT count(*) AS total,
        count(*) FILTER (WHERE NOT completed) AS pending,
        count(*) FILTER (WHERE completed) AS completed,
        count(*) FILTER (WHERE {OVERDUE.format(day="$2::text", moment="$3::text")}) AS overdue,
        count(*) FILTER (WHERE priority = 1) AS low,
        count(*) FILTER (WHERE priority = 2) AS medium,
        count(*) FILTER (WHERE priority = 3) AS high,
        count(*) FILTER (WHERE priority IS NULL) AS "none"
    FROM mine
) AS counts, (
    SELECT json_object_agg(tag, number) AS by_tag FROM (
        SELECT tag, count(*) AS number
        FROM (SELECT string_to_table(btrim(tags, E'\\n'), E'\\n') AS tag FROM mine) AS each_tag
        GROUP BY tag ORDER BY number DESC, tag LIMIT {MOST_TAGS}
    ) AS counted
) AS tags
"""  # noqa: S608 - constant fragments


async def fetch_stats(pool: Pool, scans: Scans, user_id: str, zone: ZoneInfo) -> bytes:
    """Count a user's tasks; return the counts as JSON (docs/http-api.md, "Counts"). Raise `TooBusy`.

    It looks at all of the user's tasks, and takes a turn of `scans`.
    """
    async with scans.turn(user_id):
        row = await pool.fetchrow(COUNT_TASKS, user_id, *Now.at(datetime.now(UTC), zone))
    assert row is not None  # noqa: S101 - there is always one
    return orjson.dumps(
        {
            **{name: row[name] for name in ("total", "pending", "completed", "overdue")},
            "by_priority": {name: row[name] for name in ("low", "medium", "high", "none")},
            "by_tag": orjson.loads(row["by_tag"] or "{}"),
        }
    )
