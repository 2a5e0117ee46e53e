"""Tasks with long texts are in a list like others; Postgres doesn't hold a page of them in memory."""

from typing import Any

import asyncpg
import orjson
import pytest
from uuid_utils.compat import uuid7

from commands.commands import CreateTask
from commands.handler import handle
from db.long_reads import Scans
from db.pool import Pool, open_pool
from events.task import Metadata
from queries.tasks import LIST_AS_ARRAY, ListQuery, fetch_tasks
from tests.arrange import note_statements, store_of
from tests.service import SHARDED

LENGTHS = [10, 5000, 4000, 10, 880, 1024, 5000]
"""Lengths of descriptions, in characters of four bytes."""


async def make(pool: Pool, user: str, lengths: list[int]) -> list[str]:
    titles = [f"{number}: {length}" for number, length in enumerate(lengths)]
    for title, length in zip(titles, lengths, strict=True):
        fields: Any = {"title": title, "description": "🎉" * length}
        command = CreateTask(user_id=user, task_id=uuid7(), fields=fields)
        await handle(store_of(pool), command, actor=user, metadata=Metadata())
    return titles


@pytest.fixture
async def made(pool: Pool) -> list[str]:
    return await make(pool, "ann", LENGTHS)


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 101, 1000])
async def test_pages_with_long_tasks_together_are_the_list(pool: Pool, made: list[str], limit: int) -> None:
    after, found = None, list[str]()
    while True:
        page = await fetch_tasks(pool, Scans(pool), "ann", ListQuery(order="asc", limit=limit, after=after))
        tasks = orjson.loads(page.body)
        assert all(len(task["description"]) == int(task["title"].split()[1]) for task in tasks)
        found += [task["title"] for task in tasks]
        if page.end is None:
            break
        after = page.end
    assert found == made


@pytest.mark.parametrize(
    ("query", "statements"),
    [
        (ListQuery(limit=100), 1),
        (ListQuery(limit=101), 2),
        (ListQuery(limit=101, words=["1"]), 1),
        (ListQuery(limit=101, sort="title"), 1),
        (ListQuery(limit=101, priority="high"), 1),
        (ListQuery(limit=101, offset=6), 1),  # the oldest task is short
    ],
)
@pytest.mark.usefixtures("made")
async def test_only_a_long_page_in_the_order_of_creation_is_read_twice(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, query: ListQuery, statements: int
) -> None:
    noted = note_statements(monkeypatch)
    await fetch_tasks(pool, Scans(pool), "ann", query)
    assert len(noted.sent) == statements


async def test_a_long_task_behind_the_page_is_no_reason_to_read_it_twice(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(pool, "ann", [10] * 101 + [5000])
    noted = note_statements(monkeypatch)
    page = await fetch_tasks(pool, Scans(pool), "ann", ListQuery(order="asc", limit=101))
    assert page.end is not None
    assert [len(orjson.loads(page.body)), len(noted.sent)] == [101, 1]


@pytest.mark.usefixtures("made")
async def test_no_long_document_is_in_an_array(pool: Pool) -> None:
    rows = await pool.fetch(LIST_AS_ARRAY["asc"], "ann", None, None, 1000, 0, None, None)
    [documents] = [documents for _, documents in rows if documents]
    assert [document is None for document in documents] == [length > 1000 for length in LENGTHS]
    assert max(len(document) for document in documents if document) <= 4096


@pytest.mark.usefixtures("made")
async def test_the_first_list_of_a_connection_reads_no_types(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def introspect(_connection: asyncpg.Connection, types: set[int], _timeout: float) -> Any:
        raise AssertionError(f"it reads the types {types}")

    monkeypatch.setattr(asyncpg.Connection, "_introspect_types", introspect)
    async with open_pool(database, sharded=SHARDED) as pool:
        assert len(orjson.loads((await fetch_tasks(pool, Scans(pool), "ann", ListQuery(limit=1000))).body)) == 7
