"""A restoration puts all tasks back to a moment (docs/http-api.md, "Restore all tasks")."""

import asyncio
from typing import Any

import asyncpg
import httpx2
import pytest

from db.pool import Pool
from tests.api.test_etags import count
from tests.api.test_long_reads import LONG, asking, reads
from tests.api.test_undo import KEY
from tests.long_logs import make_tasks
from tests.service import TASKS, Service, serving, sql, value

RESTORE = "/api/ann/restore"
CONTENT = ("id", "title", "description", "completed", "priority", "due_date", "tags", "created_at")

pytestmark = pytest.mark.once


async def content(service: Service) -> list[dict[str, Any]]:
    return [{name: each[name] for name in CONTENT} for each in (await service.client.get(TASKS)).json()]


async def moment(service: Service) -> str:
    at: str = (await service.client.get("/api/ann/audit/head")).json()["at"]
    return at


async def arranged(service: Service) -> tuple[str, list[dict[str, Any]], list[str]]:
    """Make tasks, remember them and the moment, and then change one, delete one, create one, and leave one as it is."""
    ids = []
    for title in ("changed", "deleted", "same", "gone before", "twice"):
        ids.append((await service.client.post(TASKS, json={"title": title, "tags": [title]})).json()["id"])
    await service.client.delete(f"{TASKS}/{ids[3]}")
    then, before = await moment(service), await content(service)
    await service.client.put(f"{TASKS}/{ids[0]}", json={"title": "x", "completed": True})
    await service.client.delete(f"{TASKS}/{ids[1]}")
    await service.client.post(f"{TASKS}/{ids[3]}/restore")
    await service.client.put(f"{TASKS}/{ids[4]}", json={"title": "y"})
    await service.client.put(f"{TASKS}/{ids[4]}", json={"title": "twice"})
    ids.append((await service.client.post(TASKS, json={"title": "new"})).json()["id"])
    return then, before, ids


async def test_all_tasks_are_as_they_were(service: Service, pool: Pool) -> None:
    then, before, ids = await arranged(service)
    told = await service.client.post(RESTORE, json={"as_of": then, "dry_run": True})
    events = await count(pool)
    changes = {each["task_id"]: each for each in told.json()["changes"]}
    assert told.json()["dry_run"]
    assert {id_: (each["type"], each["fields"], each["seq"]) for id_, each in changes.items()} == {
        ids[0]: ("TaskRestored", ["title", "completed"], None),
        ids[1]: ("TaskRestored", ["title", "description", "completed", "priority", "due_date", "tags"], None),
        ids[3]: ("TaskDeleted", [], None),
        ids[5]: ("TaskDeleted", [], None),
    }
    done = await service.client.post(RESTORE, json={"as_of": then}, headers={"If-Match": told.headers["etag"]})
    assert done.status_code == 200, done.text
    assert [{**each, "seq": None} for each in done.json()["changes"]] == told.json()["changes"]
    assert [each["seq"] for each in done.json()["changes"]] == [events + number for number in (1, 2, 3, 4)]
    assert done.headers["daybook-seq"] == str(events + 4)
    assert await content(service) == before
    assert (await service.client.get(TASKS)).headers["etag"] == done.headers["etag"]


async def test_it_can_be_taken_back_by_another(service: Service) -> None:
    then, _, _ = await arranged(service)
    now, before = await moment(service), await content(service)
    await service.client.post(RESTORE, json={"as_of": then})
    await service.client.post(RESTORE, json={"as_of": now})
    assert await content(service) == before


async def test_a_dry_run_changes_nothing_and_a_stale_one_is_412(service: Service, pool: Pool) -> None:
    then, _, _ = await arranged(service)
    events = await count(pool)
    told = await service.client.post(RESTORE, json={"as_of": then, "dry_run": True}, headers=KEY)
    assert ("daybook-seq" in told.headers, await count(pool)) == (False, events)
    await service.client.post(TASKS, json={"title": "meanwhile"})
    stale = await service.client.post(RESTORE, json={"as_of": then}, headers={"If-Match": told.headers["etag"]})
    assert (stale.status_code, await count(pool)) == (412, events + 1)


async def test_a_dry_run_is_refused_as_the_restoration_would_be(service: Service) -> None:
    then, _, _ = await arranged(service)
    tag = (await service.client.get(TASKS)).headers["etag"]
    dry = {"as_of": then, "dry_run": True}
    stale = await service.client.post(RESTORE, json=dry, headers={"If-Match": '"1"'})
    assert (stale.status_code, stale.headers["etag"]) == (412, tag)
    assert (await service.client.post(RESTORE, json=dry, headers={"If-Match": tag})).status_code == 200
    await service.client.post(TASKS, json={"title": "x"}, headers=KEY)
    used = await service.client.post(RESTORE, json=dry, headers=KEY)
    assert (used.status_code, used.json()["type"]) == (422, "/problems/idempotency-key-reused")


async def test_a_restoration_that_changed_nothing_leaves_no_key(service: Service, task: dict[str, Any]) -> None:
    """The restoration has an If-Match, so it is refused when it comes again after a change."""
    tag = (await service.client.get(TASKS)).headers["etag"]
    restoration: Any = {"json": {"as_of": await moment(service)}, "headers": {**KEY, "If-Match": tag}}
    assert (await service.client.post(RESTORE, **restoration)).json()["changes"] == []
    await service.client.post(TASKS, json={"title": "since"})
    assert (await service.client.post(RESTORE, **restoration)).status_code == 412
    assert len((await service.client.get(TASKS)).json()) == 2
    assert (await service.client.get(f"{TASKS}/{task['id']}")).json() == task


async def test_a_moment_before_everything_deletes_everything_and_one_in_the_future_nothing(service: Service) -> None:
    await arranged(service)
    future = await service.client.post(RESTORE, json={"as_of": "9999-12-31T23:59:59Z"})
    assert (future.json()["changes"], "daybook-seq" in future.headers) == ([], False)
    await service.client.post(RESTORE, json={"as_of": "2000-01-01T00:00:00Z"})
    assert await content(service) == []


async def test_it_is_about_ones_own_tasks(service: Service, task: dict[str, Any]) -> None:
    async with service.as_user("bob") as bob:
        await bob.post("/api/bob/tasks", json={"title": "Bob's"})
        await bob.post("/api/bob/restore", json={"as_of": "2000-01-01T00:00:00Z"})
        assert (await bob.get("/api/bob/tasks")).json() == []
        assert (await bob.post(RESTORE, json={"as_of": "2000-01-01T00:00:00Z"})).status_code == 403
    assert (await service.client.get(TASKS)).json() == [task]


async def test_a_restoration_sent_again_with_its_key_is_answered_again(service: Service, pool: Pool) -> None:
    then, _, ids = await arranged(service)
    first = await service.client.post(RESTORE, json={"as_of": then}, headers=KEY)
    await service.client.put(f"{TASKS}/{ids[0]}", json={"title": "since"})
    events = await count(pool)
    again = await service.client.post(RESTORE, json={"as_of": then}, headers=KEY)
    assert (again.status_code, again.content) == (200, first.content)
    for name in ("etag", "daybook-seq"):
        assert again.headers[name] == first.headers[name]
    assert (again.headers["idempotency-replayed"], await count(pool)) == ("true", events)
    other = await service.client.post(RESTORE, json={"as_of": await moment(service)}, headers=KEY)
    assert other.status_code == 422


async def test_it_goes_by_the_log_whatever_the_rows_say(service: Service, pool: Pool) -> None:
    then, before, _ = await arranged(service)
    await sql(pool, "DELETE FROM tasks WHERE completed")
    await service.client.post(RESTORE, json={"as_of": then})
    assert await content(service) == before


async def test_many_tasks_are_put_back_in_one_transaction(service: Service, pool: Pool) -> None:
    operations = [{"op": "create", "title": str(number)} for number in range(100)]
    for _ in range(3):
        await service.client.post("/api/ann/batch", json={"operations": operations})
    then = await moment(service)
    for task in (await service.client.get(TASKS)).json()[:250]:
        await service.client.delete(f"{TASKS}/{task['id']}")
    done = await service.client.post(RESTORE, json={"as_of": then})
    assert (len(done.json()["changes"]), done.headers["daybook-seq"]) == (250, "800")
    assert await pool.fetchval("SELECT count(*) FROM tasks") == 300


@pytest.mark.parametrize("body", [{}, {"as_of": None}, {"as_of": "yesterday"}, {"as_of": 5}, {"dry_run": True}])
async def test_without_a_moment_it_is_422(service: Service, task: dict[str, Any], body: dict[str, Any]) -> None:
    answer = await service.client.post(RESTORE, json=body)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) in ((422, "as_of"), (422, "body"))
    assert (await service.client.get(TASKS)).json() == [task]


async def test_a_field_that_is_not_known_is_refused(service: Service, pool: Pool) -> None:
    """A misspelled dry run must not put everything back."""
    await service.client.post(TASKS, json={"title": "x"})
    answer = await service.client.post(RESTORE, json={"as_of": "2000-01-01T00:00:00Z", "dryRun": True})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "dryRun")
    assert await count(pool) == 1


BEGINNING = "2000-01-01T00:00:00Z"
BODIES = ({"as_of": BEGINNING}, {"as_of": BEGINNING, "dry_run": True})


def under_way(answer: httpx2.Response) -> bool:
    problem = answer.json()
    return (answer.status_code, problem["type"], "retry-after" in answer.headers, "all tasks" in problem["hint"]) == (
        503, "/problems/overloaded", True, True,
    )  # fmt: skip


@pytest.mark.parametrize("body", BODIES)
async def test_a_users_second_restoration_waits_without_a_connection(service: Service, body: dict[str, Any]) -> None:
    async with service.pool.acquire() as connection:
        await make_tasks(connection, "ann", LONG)
        await make_tasks(connection, "bob", 2)
    async with reads(service).turn("ann"):
        waiting = asyncio.create_task(service.client.post(RESTORE, json=body))
        await asking(service, "ann", 2)
        assert value("daybook_pool_in_use") == 0
        async with service.as_user("bob") as bob:  # whose log is short
            assert len((await bob.post("/api/bob/restore", json=body)).json()["changes"]) == 2
        assert not waiting.done()
    assert len((await waiting).json()["changes"]) == LONG
    await asking(service, "ann", 0)


async def test_a_long_restoration_is_answered_again(service: Service, pool: Pool) -> None:
    async with service.pool.acquire() as connection:
        await make_tasks(connection, "ann", LONG)
    first, second = [await service.client.post(RESTORE, json=BODIES[0], headers=KEY) for _ in range(2)]
    assert (first.status_code, first.content) == (200, second.content)
    assert await count(pool) == 2 * LONG


@pytest.mark.parametrize("body", BODIES)
async def test_a_restoration_whose_turn_doesnt_come_in_time_is_refused(database: str, body: dict[str, Any]) -> None:
    async with serving(database, database_timeout=0.2) as service:
        async with service.pool.acquire() as connection:
            await make_tasks(connection, "ann", LONG)
        async with reads(service).turn("ann"):
            assert under_way(await service.client.post(RESTORE, json=body))


async def test_a_restoration_that_waits_too_long_for_another_process_is_refused(
    database: str, other: asyncpg.Connection
) -> None:
    async with serving(database, database_timeout=0.5) as service:
        await service.client.post(TASKS, json={"title": "x"})
        async with other.transaction():
            await other.execute("SELECT FROM streams WHERE user_id = 'ann' FOR UPDATE")
            assert under_way(await service.client.post(RESTORE, json=BODIES[0]))
        assert (await service.client.post(RESTORE, json=BODIES[0])).status_code == 200
