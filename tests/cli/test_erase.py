"""`daybook erase` as a process of its own."""

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest

from commands.commands import DeleteTask, UpdateTask
from db.pool import Pool
from tests.arrange import create, run
from tests.conftest import keep_the_log, let_the_log_change, on_plain_postgres
from tests.processes import run as call
from tests.service import sql


async def erase(folder: Path, dsn: str, *arguments: str) -> tuple[int, str, str]:
    said = await asyncio.to_thread(call, folder, "erase", *arguments, DATABASE_URL=dsn)
    return said.returncode, said.stdout, said.stderr


async def types(pool: Pool) -> list[str]:
    return [row["type"] for row in await pool.fetch("SELECT type FROM events ORDER BY user_id, seq")]


WHY = ("--user", "ann", "--reason", "request 4711")


async def test_a_task_is_erased_also_if_it_is_there(folder: Path, database: str, pool: Pool) -> None:
    there, gone = await create(pool), await create(pool)
    await run(pool, DeleteTask(user_id="ann", task_id=gone.id))
    for task in (there, gone):
        status, out, err = await erase(folder, database, *WHY, "--task", str(task.id), "--yes", "--actor", "bo")
        assert (status, out) == (0, f"The content of task {task.id} is erased for good.\n")
        assert "docs/guides/erasure.md" in err
    assert await pool.fetchval("SELECT count(*) FROM tasks") == 0
    rows = await pool.fetch("SELECT actor, data FROM events WHERE type = 'TaskErased'")
    assert [row["actor"] for row in rows] == ["bo", "bo"]
    assert all("request 4711" in row["data"] for row in rows)
    assert await pool.fetchval("SELECT count(*) FROM events WHERE personal IS NOT NULL") == 3


async def test_all_of_a_users_content_is_erased_once(folder: Path, database: str, pool: Pool) -> None:
    await create(pool)
    await create(pool, "ben")
    status, out, _ = await erase(folder, database, *WHY, "--yes")
    assert (status, out) == (0, "All content of 'ann' is erased for good; event 3 records it.\n")
    assert await types(pool) == ["TaskCreated", "TaskErased", "UserErased", "TaskCreated"]
    status, out, _ = await erase(folder, database, *WHY, "--yes")
    assert (status, out) == (0, "There is nothing of 'ann' left to erase.\n")
    status, out, _ = await erase(folder, database, "--user", "Ann", "--reason", "x", "--yes")
    unknown = "The log has no event of 'Ann', so there is nothing to erase: is the user's id spelled right?\n"
    assert (status, out) == (0, unknown)
    assert await pool.fetchval("SELECT count(*) FROM events") == 4


async def test_nothing_is_erased_that_nobody_confirmed(folder: Path, database: str, pool: Pool) -> None:
    await create(pool)
    status, out, err = await erase(folder, database, *WHY)
    assert (status, out) == (2, "")
    assert "Nothing was erased: nobody can be asked here. Give --yes if it is really wanted." in err
    assert await types(pool) == ["TaskCreated"]


async def test_a_task_that_isnt_the_users_is_refused(folder: Path, database: str, pool: Pool) -> None:
    other = await create(pool, "ben")
    for task in (str(uuid4()), str(other.id)):
        status, out, err = await erase(folder, database, *WHY, "--task", task, "--yes")
        assert (status, out) == (2, "")
        assert f"There is no task {task}." in err
    assert await types(pool) == ["TaskCreated"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--user", "ann"),
        ("--reason", "x"),
        ("--user", "ann", "--reason", " "),
        ("--user", "ann", "--reason", "two\nlines"),
        ("--user", "ann", "--reason", "x" * 501),
        ("--user", "a/b", "--reason", "x"),
        (*WHY, "--task", "42"),
        (*WHY, "--actor", ""),
    ],
)
def test_what_cant_be_meant_is_refused(folder: Path, arguments: tuple[str, ...]) -> None:
    said = call(folder, "erase", *arguments, "--yes", DATABASE_URL="postgresql://nobody@127.0.0.1:1/x")
    assert said.returncode == 2
    assert "Traceback" not in said.stderr
    assert "can't be reached" not in said.stderr


async def test_a_database_without_a_schema_is_told(folder: Path, empty_database: str) -> None:
    status, _, err = await erase(folder, empty_database, *WHY, "--yes")
    assert status == 2
    assert "run `daybook migrate` first" in err


def test_without_a_database_none_is_made(folder: Path) -> None:
    said = call(folder, "erase", *WHY, "--yes")
    assert said.returncode == 2
    assert "There is no database" in said.stderr
    assert not (folder / ".daybook" / "postgres").exists()


DAMAGES = ["actor = 'mallory'", "hash = sha256(hash)"]
UNREADABLE = """data = data || '{"n": 1e400}'"""


@on_plain_postgres
@pytest.mark.parametrize(
    ("of", "damage"), [*(("task", each) for each in DAMAGES), *(("user", each) for each in (*DAMAGES, UNREADABLE))]
)
async def test_events_that_were_changed_by_hand_dont_keep_the_others(
    folder: Path, database: str, pool: Pool, damage: str, of: str
) -> None:
    task = await damaged_task(pool, database, damage)
    arguments = ("--task", task) if of == "task" else ()
    for _ in range(2):
        status, _, err = await erase(folder, database, *WHY, *arguments, "--yes")
        assert status == 2
        assert "Traceback" not in err
        assert "aren't as they were written" in err
    rows = await pool.fetch("SELECT seq FROM events WHERE personal IS NULL AND type NOT LIKE '%Erased' ORDER BY seq")
    assert [row["seq"] for row in rows] == ([2, 3] if "hash" in damage else [2])  # the third's hash follows from it


@on_plain_postgres
async def test_a_task_that_cant_be_read_isnt_erased_alone(folder: Path, database: str, pool: Pool) -> None:
    task = await damaged_task(pool, database, UNREADABLE)
    status, _, err = await erase(folder, database, *WHY, "--task", task, "--yes")
    told = "daybook: It wasn't finished: the data of this TaskUpdated are damaged: KeyError('v').\n"
    assert (status, err.endswith(told)) == (2, True)
    assert await types(pool) == ["TaskCreated", *["TaskUpdated"] * 3]


async def damaged_task(pool: Pool, database: str, damage: str) -> str:
    """Make a task of four events, the second of which is changed by hand. Return its id."""
    task = await create(pool)
    for title in ("x", "y", "z"):
        await run(pool, UpdateTask(user_id="ann", task_id=task.id, fields={"title": title}))
    await let_the_log_change(database)
    await sql(pool, f"UPDATE events SET {damage} WHERE user_id = 'ann' AND seq = 2")
    await keep_the_log(database)
    return str(task.id)
