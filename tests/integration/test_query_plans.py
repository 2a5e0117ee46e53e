"""Query plans: each statement reads one partition by an index, however many rows there are (docs/adr/0016)."""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest

from bench.load import Author, load, settle
from db.pool import Pool
from events.store import log, past, stored_tasks
from queries import accesses, audit, changes, feed, stats, tasks
from tests.conftest import on_plain_postgres

pytestmark = pytest.mark.once

USER = "user-007"


def literal(value: Any) -> str:
    match value:
        case None:
            return "NULL"
        case list():
            return f"ARRAY[{', '.join(map(literal, value))}]"
        case UUID():
            return f"'{value}'::uuid"
        case str() | datetime():
            return f"'{value}'"
        case _:
            return str(value)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for each in plan.get("Plans", ()):
        yield from nodes(each)


async def explained(pool: Pool, statement: str, *arguments: Any) -> list[dict[str, Any]]:
    """Return the plan's nodes as the service would have them, and what was carried out (and undone)."""
    async with pool.acquire() as connection:
        assert await connection.fetchval("SHOW plan_cache_mode") == "force_generic_plan"
        await connection.execute(f"PREPARE it AS {statement}")
        try:
            values = ", ".join(map(literal, arguments))
            await connection.execute("BEGIN")
            found = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE it ({values})")
            await connection.execute("ROLLBACK")
        finally:
            await connection.execute("DEALLOCATE it")
    return list(nodes(json.loads(found)[0]["Plan"]))


@on_plain_postgres
async def test_each_statement_reads_one_partition_by_its_index(pool: Pool) -> None:
    authors = [Author(f"user-{number:03}") for number in range(160)]
    async with pool.acquire() as connection:
        for author in authors:
            await load(connection, author, 200)
        await settle(connection)
    author = authors[7]
    task = max(author.tasks, key=lambda task: task.version)
    ids = [task.id for task in author.tasks]
    middle = sorted(author.tasks, key=lambda task: task.created_at)[len(ids) // 2]
    first = (USER, None, None, 20, 0, None, None)
    behind = (USER, None, None, 20, 0, middle.created_at, middle.id)
    page = (USER, 0, 2**63 - 1, None, None, None, None, 101)
    of_task = (*page, task.id, 0, 2**31 - 1)
    behind_task = (middle.id, 1, 30)
    key = await pool.fetchval("SELECT idempotency_key FROM events WHERE user_id = $1 AND idempotency_key <> ''", USER)
    expected: dict[str, tuple[str, tuple[Any, ...], set[str]]] = {
        "load": (stored_tasks.STORED, (USER, task.id), {"tasks_pkey", "events_task_version_key"}),
        "list": (tasks.LIST["created_at", "desc", False, False], first, {"tasks_created_at_idx"}),
        "next page": (tasks.LIST["created_at", "desc", False, False], behind, {"tasks_created_at_idx"}),
        "oldest first": (tasks.LIST["created_at", "asc", False, False], first, {"tasks_created_at_idx"}),
        "as an array": (tasks.LIST_AS_ARRAY["desc"], behind, {"tasks_created_at_idx"}),
        "oldest first, as an array": (tasks.LIST_AS_ARRAY["asc"], behind, {"tasks_created_at_idx"}),
        "audit": (audit.AUDIT["desc"].short, page, {"events_pkey"}),
        "oldest events": (audit.AUDIT["asc"].short, page, {"events_pkey"}),
        "audit of a task": (audit.AUDIT_OF_TASK["desc"].short, of_task, {"events_task_version_key"}),
        "head": (audit.HEAD_JSON, (USER,), {"events_pkey"}),
        "read": (log.READ.short, (USER, 10, 20, 5), {"events_pkey"}),
        "heads since a change": (log.HEADS_SINCE_CHANGE, (USER, [150, 151]), {"events_pkey"}),
        "history": (log.HISTORY.short, (USER, task.id, 0, None, None, 200), {"events_task_version_key"}),
        "past": (past.FACTS_AT.short, (USER, 150, middle.created_at, *behind_task), {"events_task_version_key"}),
        "past of a page": (
            past.FACTS_AT_OF_SOME.short,
            (USER, 150, middle.created_at, *behind_task, ids[:50]),
            {"events_task_version_key"},
        ),
        "changes": (changes.CHANGES.short, (USER, 100, 102), {"events_pkey", "tasks_pkey"}),
        "first copy": (
            changes.FIRST_COPY.short,
            (USER, 150, middle.id, 20),
            {"events_pkey", "tasks_pkey", "events_task_version_key"},
        ),
        "tasks of a page": (past.FACTS_UPTO.short, (USER, ids[:9], [0] * 9, [9] * 9, 20), {"events_task_version_key"}),
        "feed": (feed.FEED, (USER, 100, 50), {"events_pkey", "tasks_pkey"}),
        "key": (log.FIND, (USER, key), {"events_idempotency_key"}),
    }
    for name, (statement, arguments, indexes) in expected.items():
        found = await explained(pool, statement, *arguments)
        used = {node["Index Name"] for node in found if "Index Name" in node} - {"streams_pkey"}
        partitions = {index[: len("events_p00")].rstrip("_") for index in used}
        plain = {index.replace("_p" + index.partition("_p")[2][:2], "", 1) for index in used}
        assert plain == indexes, (name, used)
        assert len(partitions) == len({index.partition("_")[0] for index in indexes}), (name, used)
        whole = [node["Relation Name"] for node in found if node["Node Type"] == "Seq Scan"]
        assert whole in ([], ["streams"]), (name, whole)  # which is a page or two, here
        rows = max(node["Actual Rows"] * node["Actual Loops"] for node in found)
        assert rows <= arguments[3] + 2 if name in ("next page", "list") else rows <= 300, (name, rows)

    wanted = ([author.user_id for author in authors[:5]], [next(author.tasks).id for author in authors[:5]])
    found = await explained(pool, stored_tasks.STORED_MANY, *wanted)
    scans = [node for node in found if node.get("Relation Name", "").startswith(("tasks_p", "events_p"))]
    scans = [node for node in scans if node["Actual Loops"]]  # all others were pruned
    assert sum(node["Actual Loops"] for node in scans) == 5 * 2  # one each


SOME_ACCESSES = """
INSERT INTO accesses
SELECT format('user-%s', n % 100), gen_random_uuid(), now(), 'eve', 'eve', '/api/x/audit', 'r'
FROM generate_series(1, 20000) AS n
"""


@on_plain_postgres
async def test_a_page_of_accesses_reads_no_more_than_its_rows(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await connection.execute(SOME_ACCESSES)
        await connection.execute("ANALYZE accesses")
    middle = UUID("80000000-0000-4000-8000-000000000000")
    for before in (None, middle):
        found = await explained(pool, accesses.ACCESSES, "user-7", before, 11)
        [scan] = [node for node in found if "Index Name" in node]
        assert (scan["Index Name"], scan["Actual Rows"]) == ("accesses_pkey", 11)
        assert {node["Node Type"] for node in found} <= {"Limit", "Index Scan"}


GIVE_VALUES = """
UPDATE tasks SET
    priority = 1 + get_byte(uuid_send(id), 15) % 3,
    due_date = (DATE '2026-11-01' + get_byte(uuid_send(id), 14) % 60)::text,
    tags = CASE get_byte(uuid_send(id), 13) % 3 WHEN 0 THEN E'\\nhome\\nshop\\n' END
WHERE get_byte(uuid_send(id), 12) % 2 = 0
"""


@on_plain_postgres
async def test_each_filter_and_sort_stays_within_the_users_own_rows(pool: Pool) -> None:
    authors = [Author(f"user-{number:03}") for number in range(160)]
    async with pool.acquire() as connection:
        for author in authors:
            await load(connection, author, 200)
        await connection.execute(GIVE_VALUES)
        await settle(connection)
    task = next(authors[7].tasks)
    count = sum(1 for _ in authors[7].tasks)
    none = (None, None, None, None, None, "2026-11-20", "2026-11-20T12:00:00.000000Z")
    filters = (
        (2, ["%\nhome\n%"], None, None, None, *none[5:]),
        (None, None, "2026-11-20", "2026-11-10", None, *none[5:]),
        (None, None, None, None, "true", *none[5:]),
        none,
    )
    own = ("due_date", "priority")
    keys = {"due_date": "2026-11-20", "priority": 2, "completed_at": task.created_at, "title": "x"}
    lists = [
        (statement, kind, (USER, None, None, 10, 0, *after, *(each if filtered else ())))
        for kind, statement in tasks.LIST.items()
        for sort, _, filtered, among_nulls in [kind]
        for after in (((None, None), (keys.get(sort, task.created_at), task.id)), ((None, task.id),))[among_nulls]
        for each in (filters if filtered and not among_nulls else [none])
    ]
    counts = (stats.COUNT_TASKS, ("stats", "", False, False), (USER, "2026-11-20", "2026-11-20T12:00:00.000000Z"))
    for statement, (sort, order, filtered, among_nulls), arguments in [*lists, counts]:
        found = await explained(pool, statement, *arguments)
        whole = [node["Relation Name"] for node in found if node["Node Type"] == "Seq Scan"]
        assert whole in ([], ["streams"]), (sort, order, whole)
        indexes = {node["Index Name"].split("_", 2)[2] for node in found if "Index Name" in node}
        rows = tasks_read(found)
        assert rows <= 2 * count, (sort, order, rows)
        if sort in own and not filtered and not among_nulls:
            assert f"{sort}_idx" in indexes, (sort, order, indexes)
            assert rows <= 12, (sort, order, arguments, rows)  # of the page, and one more; or none of those behind it
    due = "SELECT count(*) FROM tasks WHERE user_id = $1 AND due_date >= '2026-11-10' AND due_date < '2026-11-20'"
    for (sort, _, filtered, among_nulls), statement in tasks.LIST.items():
        if sort != "due_date" or not filtered or among_nulls:
            continue
        found = await explained(pool, statement, USER, None, None, 1000, 0, None, None, *filters[1])
        assert tasks_read(found) == await pool.fetchval(due, USER) > 0  # none without a due date, and no other


def tasks_read(found: list[dict[str, Any]]) -> int:
    scans = [node for node in found if node.get("Relation Name", "").startswith("tasks_p")]
    return sum(node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) for node in scans)


async def test_no_index_has_a_column_that_a_toggle_changes(pool: Pool) -> None:
    indexed = await pool.fetch(
        "SELECT DISTINCT attname FROM pg_index, pg_attribute AS a "
        "WHERE indrelid = 'tasks'::regclass AND a.attrelid = indrelid AND a.attnum = ANY (indkey)"
    )
    # so that the row's next version stays beside it, and no index is written (HOT)
    assert {row[0] for row in indexed} == {"user_id", "id", "created_at", "due_date", "priority"}
