"""A database that the former release filled goes on with this one, before and after a rebuild."""

import asyncio
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest

from db.dsn import connect_arguments
from db.migrate import migrate
from events.integrity import work_units
from events.integrity.rebuild import rebuild
from events.integrity.verify import verify
from events.projection import project
from events.serialization import from_row
from events.task import Task, evolve
from tests.arrange import build_no_indexes
from tests.schema import REVISIONS
from tests.service import TASKS, serving
from tests.unit.test_old_event_forms import ROWS_2

COLUMNS = (
    *("user_id", "seq", "hash", "id", "task_id", "version", "type", "at", "actor", "data", "request_id"),
    *("client_address", "client_agent", "idempotency_key", "fingerprint", "salt"),
)
NEW = ("priority", "due_date", "tags", "completed_at")


async def fill(dsn: str, rows: list[dict[str, Any]]) -> Task:
    """Write a user's log and projection as the release before 0002 wrote them. Return the task."""
    task = None
    for each in rows:
        task = evolve(task, from_row(each))
    assert task is not None
    row = project(task)
    document = {name: value for name, value in orjson.loads(row.document).items() if name not in NEW}
    connection = await asyncpg.connect(**connect_arguments(dsn))
    await connection.executemany(
        f"INSERT INTO events ({', '.join(COLUMNS)}) VALUES ({', '.join(f'${n}' for n in range(1, 17))})",
        [[each[name] for name in COLUMNS] for each in rows],
    )
    await connection.execute("INSERT INTO streams VALUES ('ann', $1, $2)", rows[-1]["seq"], rows[-1]["hash"])
    columns = ("user_id", "id", "version", "completed", "created_at", "updated_at", "title_key", "search_text")
    await connection.execute(
        f"INSERT INTO tasks ({', '.join(columns)}, document) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        *(getattr(row, name) for name in columns),
        orjson.dumps(document).decode(),
    )
    await connection.close()
    return task


@pytest.fixture
async def former(empty_database: str, migrations: Path) -> str:
    """Return the DSN of a database with the schema of the release before 0002."""
    later = [(path, path.read_text()) for path in (migrations / "versions").glob("*.py") if "0001" not in path.name]
    for path, _ in later:
        path.unlink()
    connection = await asyncpg.connect(**connect_arguments(empty_database))
    await build_no_indexes(connection)
    assert await asyncio.to_thread(migrate, empty_database) == ["0001"]
    await connection.close()
    for path, text in later:
        path.write_text(text)
    return empty_database


async def damaged(connection: asyncpg.Connection) -> set[str]:
    [unit] = [unit async for unit in work_units.everyone(connection)]
    return {each.table for each in (await verify(connection, unit.streams)).mismatches}


@pytest.mark.parametrize("events", [3, 5, 6], ids=["completed", "brought back", "restored"])
async def test_a_database_of_the_former_release_goes_on(former: str, events: int) -> None:
    task = await fill(former, ROWS_2[:events])
    assert await asyncio.to_thread(migrate, former) == REVISIONS[1:]
    path = f"{TASKS}/{task.id}"
    async with serving(former) as service:
        client = service.client
        found = (await client.get(path)).json()
        assert [found[name] for name in NEW] == [None, None, [], None]
        assert list(found) == list(orjson.loads(project(task).document))
        for sort in ("created_at", "due_date", "priority", "completed_at"):
            listed = await client.get(TASKS, params={"sort": sort})
            assert (listed.status_code, listed.json()) == (200, [found])
        assert (await client.get(TASKS, params={"priority": "high"})).json() == []
        assert (await client.get(f"{TASKS}/stats")).json()["by_priority"]["none"] == 1
        past = (await client.get(path, params={"version": task.version})).json()
        assert past == {**found, "completed_at": past["completed_at"]} == orjson.loads(project(task).document)
        assert (await client.get("/api/ann/audit", params={"limit": 1})).json()[0]["hash"] == ROWS_2[events - 1][
            "hash"
        ].hex()

        connection = await asyncpg.connect(**connect_arguments(former))
        assert await damaged(connection) == {"tasks"}  # until a write or a rebuild makes it anew
        changed = await client.patch(path, json={"priority": "high"}, headers={"If-Match": f'"{task.version}"'})
        assert changed.json() == {
            **past,
            "priority": "high",
            "updated_at": changed.json()["updated_at"],
            "version": task.version + 1,
        }
        assert await damaged(connection) == set()
        assert (await client.get(TASKS, params={"priority": "high"})).json() == [changed.json()]
        await connection.close()


async def test_a_rebuild_fills_in_what_rows_of_the_former_release_lack(former: str) -> None:
    task = await fill(former, ROWS_2[:3])
    await asyncio.to_thread(migrate, former)
    connection = await asyncpg.connect(**connect_arguments(former))
    [unit] = [unit async for unit in work_units.everyone(connection)]
    rebuilt = await rebuild(connection, unit.streams)
    assert (rebuilt.written, rebuilt.mismatches) == (1, [])
    assert await damaged(connection) == set()
    await connection.close()
    async with serving(former) as service:
        [found] = (await service.client.get(TASKS, params={"sort": "completed_at"})).json()
    assert found == orjson.loads(project(task).document)
    assert found["completed_at"] is not None
