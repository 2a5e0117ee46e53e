"""Content is erased for good, and the log still verifies (docs/http-api.md, "Erasure")."""

import asyncio
import io
from typing import Any

import asyncpg
import httpx2
import orjson
import pytest

from commands import erasure
from commands.decider import VersionMismatch
from commands.erasure import UserErasure
from commands.precondition import EntityTag, Precondition
from db.pool import Pool
from events.export.verification import verify_export
from events.hash_chain import Head
from events.integrity.rebuild import rebuild
from events.integrity.verify import verify
from events.integrity.work_units import StreamSize
from events.store import content, past
from events.task import Metadata
from tests import independent
from tests.arrange import store_of, until_locked_out
from tests.conftest import on_plain_postgres
from tests.service import TASKS, Service

USER = "/api/ann"
AUDIT = f"{USER}/audit"
NIL = "00000000-0000-0000-0000-000000000000"
CANARY = "Xylophone-7341"
INTERRUPTED = "SELECT pg_terminate_backend(pg_backend_pid()), $1::text, $2::bigint[], $3::bytea[]"
"""Statement in the place of `content.ERASE` that ends the connection, as if the process were killed there."""

INTERRUPTED_BEFORE = "SELECT pg_terminate_backend(pg_backend_pid()), $1::text, $2::bigint"
"""Likewise in the place of `content.NOT_ERASED_SINCE`, before the last tasks are recorded as erased."""

pytestmark = pytest.mark.once


async def delete_user(service: Service, **body: Any) -> httpx2.Response:
    return await service.client.request("DELETE", USER, json={"confirm": "ann", **body})


async def audit(service: Service, **parameters: Any) -> list[dict[str, Any]]:
    found = await service.client.get(AUDIT, params={"order": "asc", "limit": 1000, **parameters})
    listed: list[dict[str, Any]] = found.json()
    return listed


async def export(service: Service) -> bytes:
    return (await service.client.get(AUDIT, params={"format": "ndjson", "order": "asc"})).content


async def verified(service: Service) -> None:
    """Check that the log verifies by itself, by an export and by independent code, and that tasks follow from it."""
    head = (await service.client.get(f"{AUDIT}/head")).json()
    text = await export(service)
    report = verify_export(io.BytesIO(text), Head(head["seq"], bytes.fromhex(head["hash"]), head["at"]))
    assert (report.mismatch, report.events) == (None, head["seq"])
    lines = [orjson.loads(line) for line in text.splitlines()]
    chain = independent.chain(map(independent.row_of_line, lines))
    assert [each["hash"] for each in lines] == [each.hex() for each in chain]
    async with service.pool.acquire() as connection:
        checked = await verify(connection, [StreamSize("ann", head["seq"])])
        assert (checked.mismatches, checked.events) == ([], head["seq"])
        rebuilt = await rebuild(connection, [StreamSize("ann", head["seq"])])
        assert (rebuilt.mismatches, rebuilt.written, rebuilt.removed) == ([], 0, 0)


@pytest.fixture
async def deleted(service: Service, task: dict[str, Any], path: str) -> dict[str, Any]:
    await service.client.put(path, json={"title": CANARY, "description": f"{CANARY} too"})
    await service.client.delete(path, headers={"User-Agent": CANARY, "Idempotency-Key": CANARY})
    return task


async def test_a_deleted_tasks_content_is_erased(service: Service, deleted: dict[str, Any], path: str) -> None:
    before = await audit(service)
    answer = await service.client.post(f"{path}/erase", json={"reason": "request 4711"})
    assert (answer.status_code, answer.content, answer.headers["daybook-seq"]) == (204, b"", "4")
    after = await audit(service)
    for was, now in zip(before, after, strict=False):
        gone = {"request_id": None, "client": {"address": None, "agent": None}, "changes": {}, "erased": True}
        assert now == {**was, **gone}
        assert list(now)[-1] == "erased"
    last = after[-1]
    assert (last["type"], last["task_id"], last["version"], last["actor"]) == ("TaskErased", deleted["id"], 4, "ann")
    assert (last["changes"], last["reason"], "erased" in last) == ({}, "request 4711", False)
    assert last["client"] == {"address": None, "agent": None}
    assert CANARY.encode() not in await export(service)
    history = (await service.client.get(f"{path}/history")).json()
    assert history == after
    await verified(service)


async def test_a_task_that_is_there_must_be_deleted_first(service: Service, task: dict[str, Any], path: str) -> None:
    answer = await service.client.post(f"{path}/erase")
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/not-deleted")
    assert (await service.client.get(path)).json() == task


async def test_what_isnt_there_cant_be_erased(service: Service) -> None:
    answer = await service.client.post(f"{TASKS}/{NIL}/erase")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/task-not-found")


@pytest.mark.usefixtures("deleted")
async def test_a_second_erasure_changes_nothing(service: Service, path: str) -> None:
    for body in ({"reason": "first"}, {"reason": "second"}):
        assert (await service.client.post(f"{path}/erase", json=body)).status_code == 204
    events = await audit(service)
    assert [each["type"] for each in events] == ["TaskCreated", "TaskUpdated", "TaskDeleted", "TaskErased"]
    text = await export(service)
    again = await service.client.post(f"{path}/erase")
    assert (again.status_code, "daybook-seq" in again.headers) == (204, False)
    assert await export(service) == text


@pytest.mark.usefixtures("deleted")
async def test_a_key_makes_an_erasure_repeatable(service: Service, path: str) -> None:
    key = {"Idempotency-Key": "k-1"}
    first = await service.client.post(f"{path}/erase", headers=key)
    again = await service.client.post(f"{path}/erase", headers=key)
    assert (first.headers["daybook-seq"], again.headers["daybook-seq"]) == ("4", "4")
    assert again.headers["idempotency-replayed"] == "true"
    other = await service.client.post(TASKS, json={"title": "x"}, headers=key)
    assert (other.status_code, other.json()["type"]) == (422, "/problems/idempotency-key-reused")


@pytest.mark.parametrize("query", ["version=1", "version=2", "as_of=now"])
@pytest.mark.usefixtures("deleted")
async def test_what_it_was_cant_be_told(service: Service, path: str, query: str) -> None:
    query = query.replace("now", (await audit(service))[1]["at"])
    assert (await service.client.get(f"{path}?{query}")).status_code == 200
    await service.client.post(f"{path}/erase")
    answer = await service.client.get(f"{path}?{query}")
    assert (answer.status_code, answer.json()["type"]) == (410, "/problems/erased")


@pytest.mark.usefixtures("deleted")
async def test_that_it_was_gone_can_be_told(service: Service, path: str) -> None:
    await service.client.post(f"{path}/erase")
    for query in ("version=3", "version=4", "version=5", "as_of=2100-01-01T00:00:00Z", "as_of=2000-01-01T00:00:00Z"):
        assert (await service.client.get(f"{path}?{query}")).status_code == 404, query
    assert (await service.client.get(path)).status_code == 404


async def test_it_cant_come_back(service: Service, deleted: dict[str, Any], path: str) -> None:
    await service.client.post(f"{path}/erase")
    for asked, body in (
        (f"{path}/restore", None),
        (f"{path}/restore", {"version": 1}),
        (f"{USER}/undo", None),
        (f"{USER}/undo", {"seq": 2}),
    ):
        answer = await service.client.post(asked, json=body)
        assert (answer.status_code, answer.json()["type"]) == (410, "/problems/erased"), (asked, body)
    again = await service.client.post(TASKS, json={"title": "x", "id": deleted["id"]})
    assert (again.status_code, again.json()["type"]) == (409, "/problems/task-exists")
    for method, where in (("PUT", path), ("PATCH", f"{path}/complete"), ("DELETE", path)):
        changes = {"title": "x"} if method == "PUT" else None
        assert (await service.client.request(method, where, json=changes)).status_code == 404
    batch = {"atomic": False, "operations": [{"op": "restore", "id": deleted["id"]}]}
    [result] = (await service.client.post(f"{USER}/batch", json=batch)).json()["results"]
    assert (result["status"], result["problem"]["type"]) == (410, "/problems/erased")
    assert len(await audit(service)) == 4


@pytest.mark.usefixtures("deleted")
async def test_lists_of_the_past_leave_it_out(service: Service, path: str) -> None:
    kept = (await service.client.post(TASKS, json={"title": "Kept"})).json()
    moment = (await audit(service))[1]["at"]  # before its deletion
    await service.client.post(f"{path}/erase")
    for sort in ("created_at", "title"):
        at = await service.client.get(TASKS, params={"as_of": "2100-01-01T00:00:00Z", "sort": sort})
        assert at.json() == [kept]
        assert (await service.client.get(TASKS, params={"as_of": moment, "sort": sort})).json() == []
    restored = await service.client.post(f"{USER}/restore", json={"as_of": moment})
    assert [(each["type"], each["title"]) for each in restored.json()["changes"]] == [("TaskDeleted", "Kept")]
    assert (await service.client.get(TASKS)).json() == []
    await verified(service)


@on_plain_postgres  # a worker's locks are seen there only
@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_a_list_of_the_past_during_an_erasure_leaves_out_what_goes(
    service: Service, other: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """The list folds the log twice: for the page's ids, and for its tasks."""
    for n in range(3):
        await service.client.post(TASKS, json={"title": f"{CANARY} {n}"})
    held = "SELECT facts.* FROM ({}) AS facts, (SELECT pg_advisory_xact_lock_shared(1)) AS held"
    short = held.format(past.FACTS_AT.short)  # has read, and ends when the lock is free
    monkeypatch.setattr(past, "FACTS_AT", past.FACTS_AT._replace(short=short))
    async with asyncio.TaskGroup() as group:
        async with other.transaction():
            await other.execute("SELECT pg_advisory_xact_lock(1)")
            path = f"{TASKS}?as_of=2100-01-01T00:00:00Z&limit={limit}"
            listed = group.create_task(service.client.get(path))
            await until_locked_out(other)
            erased = await delete_user(service)
        answer = await listed
    assert (answer.status_code, answer.json(), answer.links, erased.status_code) == (200, [], {}, 204)


async def test_a_batch_that_needs_what_was_erased_isnt_told_again(service: Service) -> None:
    key = {"Idempotency-Key": "k-1"}
    first = (await service.client.post(TASKS, json={"title": "One"})).json()
    second = (await service.client.post(TASKS, json={"title": "Two"})).json()
    changes = [{"op": "update", "id": each["id"], "title": "x"} for each in (first, second)]
    sent = await service.client.post(f"{USER}/batch", json={"operations": changes}, headers=key)
    assert sent.status_code == 200
    await service.client.delete(f"{TASKS}/{second['id']}")
    await service.client.post(f"{TASKS}/{second['id']}/erase")
    again = await service.client.post(f"{USER}/batch", json={"operations": changes}, headers=key)
    assert (again.status_code, again.json()["type"]) == (410, "/problems/erased")


@pytest.mark.usefixtures("deleted")
async def test_what_was_erased_before_a_batch_doesnt_change_its_repetition(service: Service, path: str) -> None:
    await service.client.post(f"{path}/erase")
    id_, key = path.rpartition("/")[2], {"Idempotency-Key": "k-1"}
    changes = [
        {"op": "update", "id": id_, "title": "x"},
        {"op": "restore", "id": id_},
        {"op": "create", "id": id_, "title": "x"},
        {"op": "create", "title": "Another"},
    ]
    body = {"atomic": False, "operations": changes}
    first = await service.client.post(f"{USER}/batch", json=body, headers=key)
    assert [each["status"] for each in first.json()["results"]] == [404, 410, 409, 201]
    again = await service.client.post(f"{USER}/batch", json=body, headers=key)
    assert (again.status_code, again.headers["idempotency-replayed"]) == (200, "true")
    assert [each["status"] for each in again.json()["results"]] == [404, 410, 409, 201]
    assert again.json()["results"][-1] == first.json()["results"][-1]


@pytest.mark.usefixtures("task")
async def test_a_restoration_of_all_that_needs_it_isnt_told_again(service: Service) -> None:
    key, body = {"Idempotency-Key": "k-1"}, {"as_of": "2000-01-01T00:00:00Z"}
    path = (await service.client.post(TASKS, json={"title": "Another"})).headers["location"]
    assert len((await service.client.post(f"{USER}/restore", json=body, headers=key)).json()["changes"]) == 2
    assert (await service.client.post(f"{USER}/restore", json=body, headers=key)).status_code == 200
    await service.client.post(f"{path}/erase")
    again = await service.client.post(f"{USER}/restore", json=body, headers=key)
    assert (again.status_code, again.json()["type"]) == (410, "/problems/erased")


@pytest.mark.usefixtures("deleted")
async def test_what_was_erased_before_a_restoration_of_all_doesnt_change_its_repetition(
    service: Service, path: str
) -> None:
    key, moment = {"Idempotency-Key": "k-1"}, (await audit(service))[1]["at"]  # before its deletion
    await service.client.post(f"{path}/erase")
    await service.client.post(TASKS, json={"title": "Kept"})
    first = await service.client.post(f"{USER}/restore", json={"as_of": moment}, headers=key)
    again = await service.client.post(f"{USER}/restore", json={"as_of": moment}, headers=key)
    assert (again.status_code, again.json()) == (200, first.json())
    assert again.headers["idempotency-replayed"] == "true"


@pytest.mark.parametrize("of", ["task", "user"])
@pytest.mark.usefixtures("deleted")
async def test_a_restoration_of_all_brings_back_nothing_of_an_interrupted_erasure(
    service: Service, path: str, monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    """The erasure is recorded, and the content is still there."""
    moment = (await audit(service))[1]["at"]

    async def erase() -> httpx2.Response:
        return await (delete_user(service) if of == "user" else service.client.post(f"{path}/erase"))

    with monkeypatch.context() as patched:
        patched.setattr(content, "ERASE", INTERRUPTED)
        assert (await erase()).status_code == 503
    told = await service.client.post(f"{USER}/restore", json={"as_of": moment, "dry_run": True})
    done = await service.client.post(f"{USER}/restore", json={"as_of": moment})
    assert (told.json()["changes"], done.json()["changes"]) == ([], [])
    assert (await service.client.get(TASKS)).json() == []
    assert (await erase()).status_code == 204
    assert CANARY.encode() not in await export(service)
    await verified(service)


async def test_a_copy_learns_that_it_is_gone(service: Service, deleted: dict[str, Any], path: str) -> None:
    token = (await service.client.get(f"{TASKS}/changes")).json()["next"]
    await service.client.post(f"{path}/erase")
    page = (await service.client.get(f"{TASKS}/changes", params={"since": token})).json()
    assert (page["tasks"], page["deleted"]) == ([], [{"id": deleted["id"], "version": 4, "seq": 4}])


async def test_all_of_a_users_content_is_erased(service: Service, deleted: dict[str, Any]) -> None:
    token = (await service.client.get(f"{TASKS}/changes")).json()["next"]
    live = [(await service.client.post(TASKS, json={"title": f"{CANARY} {n}"})).json()["id"] for n in range(3)]
    await service.as_user("ben").post("/api/ben/tasks", json={"title": "Another's"})
    answer = await delete_user(service, reason="they left")
    assert (answer.status_code, answer.content) == (204, b"")
    events = await audit(service)
    assert answer.headers["daybook-seq"] == str(len(events))
    last = events[-1]
    assert (last["type"], last["task_id"], last["version"], last["reason"]) == ("UserErased", NIL, 1, "they left")
    assert {each["type"] for each in events if "erased" not in each} == {"TaskErased", "UserErased"}
    assert {each["task_id"] for each in events if each["type"] == "TaskErased"} == {deleted["id"], *live}
    assert (await service.client.get(TASKS)).json() == []
    assert CANARY.encode() not in await export(service)
    page = (await service.client.get(f"{TASKS}/changes", params={"since": token})).json()
    assert (page["tasks"], {each["id"] for each in page["deleted"]}) == ([], {deleted["id"], *live})
    assert len((await service.as_user("ben").get("/api/ben/tasks")).json()) == 1
    await verified(service)
    text = await export(service)
    again = await delete_user(service)
    assert (again.status_code, "daybook-seq" in again.headers) == (204, False)
    assert await export(service) == text


@pytest.mark.usefixtures("deleted")
async def test_a_user_goes_on_after_an_erasure(service: Service) -> None:
    await delete_user(service)
    made = (await service.client.post(TASKS, json={"title": "A new life"})).json()
    assert (await service.client.get(TASKS)).json() == [made]
    assert (await service.client.get(f"{TASKS}/{made['id']}?version=1")).json() == made
    await verified(service)
    await delete_user(service)
    assert [each["version"] for each in await audit(service, type="UserErased")] == [1, 2]
    await verified(service)


async def test_nothing_is_recorded_of_a_user_without_events(service: Service) -> None:
    answer = await delete_user(service)
    assert (answer.status_code, "daybook-seq" in answer.headers) == (204, False)
    assert await audit(service) == []


@pytest.mark.parametrize(
    ("body", "field"),
    [({"confirm": "ben"}, "confirm"), ({"reason": "x"}, "confirm"), ({"confirm": "ann", "sure": True}, "sure")],
)
async def test_it_must_be_confirmed(service: Service, task: dict[str, Any], body: Any, field: str) -> None:
    answer = await service.client.request("DELETE", USER, json=body)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)
    assert (await service.client.get(TASKS)).json() == [task]


async def test_without_a_body_nothing_is_erased(service: Service, task: dict[str, Any]) -> None:
    assert (await service.client.delete(USER)).status_code == 400
    assert (await service.client.get(TASKS)).json() == [task]


@pytest.mark.usefixtures("task")
async def test_the_id_of_its_record_is_no_tasks(service: Service) -> None:
    assert (await delete_user(service)).status_code == 204
    for method, rest in (("GET", "/history"), ("POST", "/restore"), ("POST", "/erase")):
        answer = await service.client.request(method, f"{TASKS}/{NIL}{rest}")
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/task-not-found")
    body = {"atomic": False, "operations": [{"op": "restore", "id": NIL}]}
    [result] = (await service.client.post(f"{USER}/batch", json=body)).json()["results"]
    assert result["status"] == 404
    assert (await service.client.post(f"{USER}/undo")).status_code == 410
    assert [each["type"] for each in await audit(service, task_id=NIL)] == ["UserErased"]


@pytest.mark.usefixtures("task")
async def test_only_the_list_that_is_known_is_erased(service: Service) -> None:
    known = (await service.client.get(TASKS)).headers["etag"]
    await service.client.post(TASKS, json={"title": "Since"})
    answer = await service.client.request("DELETE", USER, json={"confirm": "ann"}, headers={"If-Match": known})
    assert answer.status_code == 412
    assert len((await service.client.get(TASKS)).json()) == 2


@on_plain_postgres  # a worker's locks are seen there only
@pytest.mark.usefixtures("task")
async def test_what_was_written_before_it_had_the_lock_is_not_erased_unseen(
    service: Service, other: asyncpg.Connection
) -> None:
    known = (await service.client.get(TASKS)).headers["etag"]
    condition = {"If-Match": known}
    async with asyncio.TaskGroup() as group, other.transaction():
        await other.execute("SELECT FROM streams WHERE user_id = 'ann' FOR UPDATE")
        made = group.create_task(service.client.post(TASKS, json={"title": "Not seen"}))
        await until_locked_out(other)
        erased = group.create_task(service.client.request("DELETE", USER, json={"confirm": "ann"}, headers=condition))
        await until_locked_out(other, 2)
    assert (made.result().status_code, erased.result().status_code) == (201, 412)
    assert made.result().json() in (await service.client.get(TASKS)).json()


@on_plain_postgres  # as above
@pytest.mark.usefixtures("task")
async def test_what_is_written_between_two_tasks_is_not_erased_unseen(
    service: Service, other: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer who waits behind it has the lock as soon as it ends its first transaction."""
    await service.client.post(TASKS, json={"title": "Another"})
    condition = {"If-Match": (await service.client.get(TASKS)).headers["etag"]}
    monkeypatch.setattr(erasure, "_AT_ONCE", 1)
    async with asyncio.TaskGroup() as group, other.transaction():
        await other.execute("SELECT FROM streams WHERE user_id = 'ann' FOR UPDATE")
        erased = group.create_task(service.client.request("DELETE", USER, json={"confirm": "ann"}, headers=condition))
        await until_locked_out(other)
        made = group.create_task(service.client.post(TASKS, json={"title": "Not seen"}))
        await until_locked_out(other, 2)
    assert (erased.result().status_code, made.result().status_code) == (204, 201)
    assert (await service.client.get(TASKS)).json() == [made.result().json()]
    await verified(service)


@pytest.mark.usefixtures("task")
async def test_a_retry_checks_the_list_again(service: Service, pool: Pool) -> None:
    """The first try was lost before its commit, and a task was added before the second."""
    await service.client.post(TASKS, json={"title": "Since"})
    condition = Precondition(match=frozenset({EntityTag(1)}))
    erasing = UserErasure(store_of(pool), "ann", reason=None, precondition=condition, actor="ann", metadata=Metadata())
    erasing._begun = True
    with pytest.raises(VersionMismatch):
        await erasing.handle()
    assert len((await service.client.get(TASKS)).json()) == 2


@pytest.mark.parametrize("conditional", [True, False])
async def test_one_that_was_cut_short_is_done_by_the_same_request(
    service: Service, monkeypatch: pytest.MonkeyPatch, conditional: bool
) -> None:
    for number in range(3):
        await service.client.post(TASKS, json={"title": f"{CANARY} {number}"})
    known = (await service.client.get(TASKS)).headers["etag"]
    condition = {"If-Match": known} if conditional else {}
    monkeypatch.setattr(erasure, "_AT_ONCE", 2)
    with monkeypatch.context() as second_statement:
        second_statement.setattr(content, "NOT_ERASED_SINCE", INTERRUPTED_BEFORE)
        cut = await service.client.request("DELETE", USER, json={"confirm": "ann"}, headers=condition)
    assert cut.status_code == 503
    left = await service.client.get(TASKS)
    assert (len(left.json()), left.headers["etag"] == known) == ((3, True) if conditional else (1, False))
    again = await service.client.request("DELETE", USER, json={"confirm": "ann"}, headers=condition)
    assert again.status_code == 204
    assert CANARY.encode() not in await export(service)
    await verified(service)


async def delete_tasks(service: Service, number: int) -> list[str]:
    """Create and delete tasks; return their paths."""
    paths = []
    for each in range(number):
        made = await service.client.post(TASKS, json={"title": f"{CANARY} {each}"})
        paths.append(f"{TASKS}/{made.json()['id']}")
        await service.client.delete(paths[-1])
    return paths


async def test_a_list_that_only_erasures_have_changed_is_known(service: Service) -> None:
    """Also one whose last event was an erasure when it was read."""
    first, second, _ = await delete_tasks(service, 3)
    await service.client.post(f"{first}/erase")
    known = (await service.client.get(TASKS)).headers["etag"]
    assert (await service.client.post(f"{second}/erase")).status_code == 204
    for etag in (f'{known[:-2]}x"', '"5"', '"9"', '"9999999999999999999"', f'"7-{"0" * 16}"'):
        headers = {"If-Match": etag}
        answer = await service.client.request("DELETE", USER, json={"confirm": "ann"}, headers=headers)
        assert answer.status_code == 412, etag
    answer = await service.client.request("DELETE", USER, json={"confirm": "ann"}, headers={"If-Match": known})
    assert answer.status_code == 204
    await verified(service)


async def test_a_list_that_is_not_to_be_erased_is_named_after_an_erasure_too(service: Service) -> None:
    (path,) = await delete_tasks(service, 1)
    await service.client.post(f"{path}/erase")
    known = (await service.client.get(TASKS)).headers["etag"]
    answer = await service.client.request("DELETE", USER, json={"confirm": "ann"}, headers={"If-None-Match": known})
    assert answer.status_code == 412


@pytest.mark.usefixtures("task")
async def test_a_users_key_makes_it_repeatable(service: Service) -> None:
    key = {"Idempotency-Key": "k-1"}
    body = {"confirm": "ann"}
    assert (await service.client.request("DELETE", USER, json=body, headers=key)).status_code == 204
    made = (await service.client.post(TASKS, json={"title": "Since"})).json()
    assert (await service.client.request("DELETE", USER, json=body, headers=key)).status_code == 204
    assert (await service.client.get(TASKS)).json() == [made]
    other = await service.client.request("DELETE", USER, json={**body, "reason": "x"}, headers=key)
    assert (other.status_code, other.json()["type"]) == (422, "/problems/idempotency-key-reused")


@pytest.mark.usefixtures("deleted", "path")
async def test_what_was_interrupted_is_finished(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first erasure is recorded, and its connection ends before content is erased, as in a kill."""
    await service.client.post(TASKS, json={"title": CANARY})
    now = (await audit(service))[-1]["at"]
    assert len((await service.client.get(TASKS, params={"as_of": now})).json()) == 1
    real = content.ERASE
    monkeypatch.setattr(content, "ERASE", INTERRUPTED)
    assert (await delete_user(service)).status_code == 503
    assert (await service.client.get(TASKS, params={"as_of": now})).json() == []
    assert CANARY.encode() in await export(service)
    assert (await service.client.get(TASKS)).json() == []
    monkeypatch.setattr(content, "ERASE", real)
    assert (await delete_user(service)).status_code == 204
    assert CANARY.encode() not in await export(service)
    assert len(await audit(service, type="UserErased")) == 1
    await verified(service)


async def test_more_than_a_batch_is_erased(service: Service, path: str) -> None:
    for n in range(120):
        await service.client.put(path, json={"title": f"{CANARY} {n}"})
    batch = {"operations": [{"op": "create", "title": f"{CANARY} {n}"} for n in range(100)]}
    for _ in range(3):
        assert (await service.client.post(f"{USER}/batch", json=batch)).status_code == 200
    assert (await delete_user(service)).status_code == 204
    events = await audit(service)
    assert len([each for each in events if "erased" in each]) == 421
    assert len([each for each in events if each["type"] == "TaskErased"]) == 301
    assert CANARY.encode() not in await export(service)
    await verified(service)


async def test_writes_meanwhile_are_before_it_or_after_it(service: Service) -> None:
    for n in range(150):
        await service.client.post(TASKS, json={"title": f"{CANARY} {n}"})
    listed = (await service.client.get(TASKS)).json()
    stop = asyncio.Event()

    async def write(number: int) -> None:
        while not stop.is_set():
            path = f"{TASKS}/{listed[number]['id']}"
            number = (number + 7) % len(listed)
            await service.client.put(path, json={"title": f"{CANARY} later"})
            await service.client.delete(path)
            await service.client.post(f"{path}/restore")
            await service.client.post(TASKS, json={"title": f"{CANARY} new"})

    writers = [asyncio.create_task(write(n)) for n in range(4)]
    await asyncio.sleep(0)
    assert (await delete_user(service)).status_code == 204
    stop.set()
    await asyncio.gather(*writers)
    events = await audit(service)
    while (last := events[-1]["seq"]) and len(more := await audit(service, after=last)):
        events += more
    end = next(each["seq"] for each in events if each["type"] == "UserErased")
    for each in events:
        if each["seq"] < end:
            assert ("erased" in each) == (each["type"] != "TaskErased"), each
    ended = {each["task_id"]: each["seq"] for each in events if each["type"] == "TaskErased"}
    assert not [each for each in events if each["seq"] > ended.get(each["task_id"], each["seq"])]
    await verified(service)
