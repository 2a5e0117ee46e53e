"""Several writes in one request (docs/http-api.md, "Batches")."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from db.pool import Pool
from events.store import log
from tests.api.test_etags import count
from tests.arrange import note_statements
from tests.long_logs import make_history
from tests.network import Link, Request
from tests.service import TASKS, Service, serving, sql

BATCH = "/api/ann/batch"
KEY = {"Idempotency-Key": "k-1"}
ID = "019a9e3c-5f3a-7c21-9d52-3d0c5f0e8a11"

pytestmark = pytest.mark.once


async def batch(service: Service, *operations: Any, headers: Any = None, **more: Any) -> httpx2.Response:
    return await service.client.post(BATCH, json={"operations": operations, **more}, headers=headers)


def statuses(answer: httpx2.Response) -> list[int]:
    return [each["status"] for each in answer.json()["results"]]


async def test_each_operation_sees_what_those_before_it_have_done(service: Service, pool: Pool) -> None:
    answer = await batch(
        service,
        {"op": "create", "id": ID, "title": "a", "tags": ["x"]},
        {"op": "update", "id": ID, "title": "b", "if_match": 1.0},
        {"op": "update", "id": ID, "title": "b"},
        {"op": "complete", "id": ID, "completed": True, "if_match": '"2"'},
        {"op": "complete", "id": ID},
        {"op": "delete", "id": ID, "if_match": "*"},
        {"op": "restore", "id": ID},
        {"op": "restore", "id": ID, "version": 1},
        {"op": "create", "title": "c"},
    )
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert statuses(answer) == [201, 200, 200, 200, 200, 204, 200, 200, 201]
    assert [each["seq"] for each in results] == [1, 2, None, 3, 4, 5, 6, 7, 8]
    titles = [each["task"] and each["task"]["title"] for each in results]
    assert titles == ["a", "b", "b", "b", "b", None, "b", "a", "c"]
    assert (answer.headers["daybook-seq"], await count(pool)) == ("8", 8)
    listed = await service.client.get(TASKS)
    assert listed.json() == [results[8]["task"], results[7]["task"]]
    assert listed.headers["etag"] == answer.headers["etag"]


async def test_the_results_are_what_single_requests_answer(service: Service, path: str) -> None:
    single = await service.client.put(path, json={"title": "x", "priority": "high"})
    other = (await service.client.post(TASKS, json={"title": "Buy milk"})).json()
    answer = await batch(service, {"op": "update", "id": other["id"], "title": "x", "priority": "HIGH"})
    [result] = answer.json()["results"]
    same = ("title", "priority", "version", "completed", "description")
    assert [result["task"][name] for name in same] == [single.json()[name] for name in same]
    assert (await service.client.get(f"{TASKS}/{other['id']}")).json() == result["task"]


async def hundred(service: Service, *, stale: int) -> list[dict[str, Any]]:
    ids = [str(uuid4()) for _ in range(100)]
    made = await batch(service, *({"op": "create", "id": id_, "title": "x"} for id_ in ids))
    assert statuses(made) == [201] * 100
    return [
        {"op": "update", "id": id_, "title": "y", "if_match": 2 if number == stale else 1}
        for number, id_ in enumerate(ids)
    ]


async def test_an_atomic_batch_with_one_stale_operation_leaves_no_event(service: Service, pool: Pool) -> None:
    answer = await batch(service, *await hundred(service, stale=56))
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/operation-refused")
    [error] = answer.json()["errors"]
    assert (error["field"], error["type"]) == ("operations.56", "precondition-failed")
    assert await count(pool) == 100


async def test_without_atomic_the_others_are_carried_out(service: Service, pool: Pool) -> None:
    answer = await batch(service, *await hundred(service, stale=56), atomic=False)
    assert (answer.status_code, statuses(answer)) == (200, [200] * 56 + [412] + [200] * 43)
    problem = answer.json()["results"][56]["problem"]
    assert (problem["type"], problem["status"]) == ("/problems/precondition-failed", 412)
    assert (answer.headers["daybook-seq"], await count(pool)) == ("199", 199)


async def test_refusals_are_those_of_single_requests(service: Service, task: dict[str, Any]) -> None:
    answer = await batch(
        service,
        {"op": "create", "id": task["id"], "title": "x"},
        {"op": "delete", "id": ID},
        {"op": "restore", "id": task["id"], "version": 7},
        {"op": "restore", "id": ID},
        atomic=False,
    )
    types = [each["problem"]["type"] for each in answer.json()["results"]]
    assert types == [f"/problems/{each}" for each in ("task-exists", "task-not-found", "invalid", "task-not-found")]
    assert "daybook-seq" not in answer.headers


async def test_a_deleted_tasks_id_stays_taken(service: Service, path: str) -> None:
    await service.client.delete(path)
    answer = await batch(service, {"op": "create", "id": path.rpartition("/")[2], "title": "x"}, atomic=False)
    assert statuses(answer) == [409]


async def test_another_users_tasks_are_not_there(service: Service, task: dict[str, Any]) -> None:
    async with service.as_user("bob") as bob:
        body = {"operations": [{"op": "delete", "id": task["id"]}], "atomic": False}
        answer = await bob.post("/api/bob/batch", json=body)
        assert (await bob.post(BATCH, json=body)).status_code == 403
    assert statuses(answer) == [404]
    assert (await service.client.get(TASKS)).json() == [task]


@pytest.mark.parametrize("atomic", [True, False])
async def test_a_batch_sent_again_is_answered_again_whatever_has_happened_since(
    service: Service, pool: Pool, task: dict[str, Any], atomic: bool
) -> None:
    gone = (await service.client.post(TASKS, json={"title": "gone"})).json()["id"]
    operations: list[dict[str, Any]] = [
        {"op": "complete", "id": task["id"], "completed": False},
        {"op": "create", "title": "new"},
        {"op": "create", "id": ID, "title": "chosen"},
        {"op": "complete", "id": ID},
        {"op": "delete", "id": gone},
        {"op": "update", "id": task["id"], "title": "x"},
        {"op": "restore", "id": task["id"], "version": 1},
    ]
    if not atomic:
        operations[2:2] = [{"op": "update", "id": task["id"], "title": "y", "if_match": 9}, {"op": "delete", "id": ID}]
        operations += [{"op": "delete", "id": gone}, {"op": "create", "id": ID, "title": "again"}]
    first = await batch(service, *operations, atomic=atomic, headers=KEY)
    assert first.status_code == 200, first.text
    await service.client.post(f"{TASKS}/{gone}/restore")
    await service.client.put(f"{TASKS}/{task['id']}", json={"title": "since"})
    await service.client.delete(f"{TASKS}/{ID}")
    events = await count(pool)
    again = await batch(service, *operations, atomic=atomic, headers={**KEY, "If-Match": '"1"'})
    assert without_ids(again) == without_ids(first)
    for name in ("daybook-seq", "etag"):
        assert again.headers[name] == first.headers[name]
    assert again.headers["idempotency-replayed"] == "true"
    assert await count(pool) == events


def without_ids(answer: httpx2.Response) -> Any:
    """Return the results, without the ids of the requests that problems name."""
    results = answer.json()["results"]
    for each in results:
        each.get("problem", {}).pop("request_id", None)
    return results


async def test_a_batch_key_is_bound_to_the_whole(service: Service, pool: Pool) -> None:
    create = {"op": "create", "title": "x"}
    await batch(service, create, create, headers=KEY)
    for answer in (
        await batch(service, create, headers=KEY),
        await batch(service, create, create, atomic=False, headers=KEY),
        await service.client.post(TASKS, json={"title": "x"}, headers=KEY),
    ):
        assert (answer.status_code, answer.json()["type"]) == (422, "/problems/idempotency-key-reused")
    rows = await pool.fetch("SELECT idempotency_key, fingerprint FROM events ORDER BY seq")
    assert [row["idempotency_key"] for row in rows] == ["k-1", None]


async def test_a_key_of_a_single_write_is_not_a_batchs(service: Service) -> None:
    await service.client.post(TASKS, json={"title": "x"}, headers=KEY)
    assert (await batch(service, {"op": "create", "title": "x"}, headers=KEY)).status_code == 422


@pytest.mark.parametrize("new", [True, False])
async def test_of_batches_with_one_key_at_once_one_is_carried_out(service: Service, pool: Pool, new: bool) -> None:
    """A user without an event has no stream to lock yet."""
    if not new:
        await service.client.post(TASKS, json={"title": "x"})
    operations = [{"op": "create", "title": "a"}, {"op": "create", "title": "b"}]
    answers = await asyncio.gather(*(batch(service, *operations, headers=KEY) for _ in range(6)))
    assert [answer.status_code for answer in answers] == [200] * 6
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert await count(pool) == 2 + (not new)


async def test_batches_and_single_writes_at_once_are_one_after_the_other(service: Service, pool: Pool) -> None:
    toggles = [{"op": "complete", "id": ID}] * 5
    await service.client.post(TASKS, json={"id": ID, "title": "x"})
    answers = await asyncio.gather(
        *(batch(service, *toggles) for _ in range(4)),
        *(service.client.patch(f"{TASKS}/{ID}/complete") for _ in range(6)),
    )
    assert {answer.status_code for answer in answers} == {200}
    assert (await service.client.get(f"{TASKS}/{ID}")).json()["version"] == 27 == await count(pool)


async def test_a_condition_on_the_list(service: Service, task: dict[str, Any]) -> None:
    tag = (await service.client.get(TASKS)).headers["etag"]
    operation = {"op": "delete", "id": task["id"]}
    stale = await batch(service, operation, headers={"If-Match": '"7"'})
    assert (stale.status_code, stale.headers["etag"]) == (412, tag)
    assert (await batch(service, operation, headers={"If-Match": tag})).status_code == 200


async def test_a_task_whose_row_is_missing_or_wrong_is_taken_from_the_log(
    service: Service, pool: Pool, task: dict[str, Any]
) -> None:
    await sql(pool, "DELETE FROM tasks")
    answer = await batch(service, {"op": "update", "id": task["id"], "description": "x"}, {"op": "complete", "id": ID})
    assert answer.status_code == 409
    answer = await batch(service, {"op": "update", "id": task["id"], "description": "x"})
    assert answer.json()["results"][0]["task"]["title"] == task["title"]
    assert (await service.client.get(f"{TASKS}/{task['id']}")).json() == answer.json()["results"][0]["task"]


async def test_a_task_whose_row_is_older_than_the_log_is_taken_from_the_log(
    service: Service, pool: Pool, task: dict[str, Any], path: str
) -> None:
    await sql(pool, "CREATE TABLE old AS SELECT * FROM tasks")
    await service.client.put(path, json={"title": "since", "tags": ["x"]})
    await sql(pool, "DELETE FROM tasks")
    await sql(pool, "INSERT INTO tasks SELECT * FROM old")
    await sql(pool, "DROP TABLE old")
    other = {"op": "create", "title": "other"}
    change = {"op": "update", "id": task["id"], "description": "x"}
    stale = await batch(service, other, {**change, "if_match": 1})
    assert (stale.status_code, stale.json()["errors"][0]["type"]) == (409, "precondition-failed")
    answer = await batch(service, other, change)
    assert answer.status_code == 200, answer.text
    changed = answer.json()["results"][1]["task"]
    assert [changed[name] for name in ("title", "tags", "description", "version")] == ["since", ["x"], "x", 3]


async def test_a_history_is_read_once_for_all_its_restorations_and_not_under_the_lock(
    service: Service, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that is sent again reads the history about twice at most."""
    events = 2 * log.READ_BATCH
    async with pool.acquire() as connection:
        id_ = await make_history(connection, "ann", events - 1)
    statements = note_statements(monkeypatch)
    operations = [{"op": "restore", "id": id_, "version": number + 1} for number in range(48)]
    operations += [{"op": "restore", "id": id_, "version": events + 1}, {"op": "delete", "id": id_}]
    operations += [{"op": "restore", "id": id_}, {"op": "restore", "id": id_, "version": events + 50}]
    first = await batch(service, *operations, {"op": "restore", "id": id_, "version": 9999}, atomic=False, headers=KEY)
    reads = [each for each in statements.of(log.HISTORY.short) if each.rows]
    assert sum(each.rows or 0 for each in reads) == events
    assert not any(each.in_transaction for each in reads)
    completed = [each["task"] and each["task"]["completed"] for each in first.json()["results"][:-2]]
    assert completed == [number % 2 == 1 for number in range(48)] + [False, None, False]
    assert statuses(first) == [200] * 49 + [204, 200, 422, 422]
    statements.sent.clear()
    again = await batch(service, *operations, {"op": "restore", "id": id_, "version": 9999}, atomic=False, headers=KEY)
    read = sum(each.rows or 0 for each in statements.of(log.HISTORY.short))
    assert (again.headers["idempotency-replayed"], read <= 2 * events + 200) == ("true", True)
    assert without_ids(again) == without_ids(first)


async def test_a_batch_whose_commit_was_not_heard_of_is_carried_out_once(database: str, pool: Pool) -> None:
    link, lost = Link(database), 0

    async def on_request(request: Request) -> None:
        nonlocal lost
        if b"COMMIT\0" in request.data and not lost:  # not READ COMMITTED
            lost += 1
            link.stall()  # no answer arrives any more
            request.server.write(request.data)
            while not await count(pool):
                await asyncio.sleep(0.01)
            request.client.abort()
            request.server.abort()
            link.flow()

    link.on_request = on_request
    async with link.open() as dsn, serving(dsn) as service:
        answer = await batch(service, {"op": "create", "title": "a"}, {"op": "create", "title": "b"})
    assert (answer.status_code, statuses(answer), lost) == (200, [201, 201], 1)
    assert [each["seq"] for each in answer.json()["results"]] == [1, 2]
    assert await count(pool) == 2


async def test_a_batch_that_stays_in_doubt_says_so(database: str, pool: Pool) -> None:
    link, lost = Link(database), 0

    async def on_request(request: Request) -> None:
        nonlocal lost
        if b"Buy milk" in request.data:
            lost += 1
            request.server.abort()

    link.on_request = on_request
    async with link.open() as dsn, serving(dsn) as service:
        answer = await batch(service, {"op": "create", "title": "Buy milk"})
    assert (answer.status_code, "retry-after" in answer.headers) == (503, False)
    assert "may or may not" in answer.json()["detail"]
    assert (await count(pool), lost > 0) == (0, True)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "operations"),
        ({"operations": []}, "operations"),
        ({"operations": [{"op": "delete", "id": ID}] * 101}, "operations"),
        ({"operations": [{"op": "delete"}]}, "operations.0.id"),
        ({"operations": [{"op": "delete", "id": ID}, {"op": "create", "title": ""}]}, "operations.1.title"),
        ({"operations": [{"op": "destroy", "id": ID}]}, "operations.0"),
        ({"operations": [{"id": ID}]}, "operations.0"),
        ({"operations": ["delete"]}, "operations.0"),
        ({"operations": [{"op": "update", "id": ID, "titel": "x"}]}, "operations.0"),
        ({"operations": [{"op": "update", "id": "x", "title": "x"}]}, "operations.0.id"),
        ({"operations": [{"op": "delete", "id": ID, "if_match": "x"}]}, "operations.0.if_match"),
        ({"operations": [{"op": "delete", "id": ID, "if_match": True}]}, "operations.0.if_match"),
        ({"operations": [{"op": "delete", "id": ID, "if_match": 1.5}]}, "operations.0.if_match"),
        ({"operations": [{"op": "complete", "id": ID, "done": True}]}, "operations.0.done"),
        ({"operations": [{"op": "delete", "id": ID, "ifMatch": 1}]}, "operations.0.ifMatch"),
        ({"operations": [{"op": "restore", "id": ID, "verison": 1}]}, "operations.0.verison"),
        ({"operations": [{"op": "delete", "id": ID, "if_match": 10**30}]}, "operations.0.if_match"),
        ({"operations": [{"op": "delete", "id": ID}], "atomic": "no"}, "atomic"),
    ],
)
async def test_a_body_that_breaks_a_rule_is_422_as_a_whole(
    service: Service, pool: Pool, body: dict[str, Any], field: str
) -> None:
    answer = await service.client.post(BATCH, json=body)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field), answer.text
    assert await count(pool) == 0


@pytest.mark.parametrize(
    ("operations", "says"),
    [
        ([], "Send at least one operation."),
        ([{"op": "delete", "id": ID}] * 101, "Operations must have at most 100 entries."),
    ],
)
async def test_too_few_or_too_many_operations_are_refused_in_a_sentence(
    service: Service, operations: list[dict[str, Any]], says: str
) -> None:
    answer = await service.client.post(BATCH, json={"operations": operations})
    assert (answer.status_code, answer.json()["detail"]) == (422, says)


async def test_the_first_faults_of_a_batch_are_named_with_their_operations(service: Service) -> None:
    answer = await batch(service, *[{"op": "create", "title": "", "tags": [1] * 1000}] * 100)
    problem = answer.json()
    assert (answer.status_code, len(problem["errors"])) == (422, 20)
    assert problem["detail"].startswith("Operation 0: Title must not be empty. Operation 0: Tags must be text.")


async def test_a_body_may_have_a_mebibyte(service: Service) -> None:
    operations = [{"op": "create", "title": "x", "description": "y" * 5000}] * 100
    assert (await batch(service, *operations)).status_code == 200
    answer = await batch(service, *operations, padding="z" * 600_000)
    assert (answer.status_code, "1,048,576" in answer.json()["hint"]) == (413, True)
