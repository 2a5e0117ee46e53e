"""An event is taken back by a new one (docs/http-api.md, "Undo")."""

from typing import Any
from uuid import uuid4

import pytest

from db.pool import Pool
from tests.api.test_etags import count
from tests.service import TASKS, Service

UNDO = "/api/ann/undo"
KEY = {"Idempotency-Key": "k-1"}

pytestmark = pytest.mark.once


async def test_the_last_event_is_taken_back(service: Service, task: dict[str, Any], path: str) -> None:
    await service.client.put(path, json={"title": "Buy oat milk", "tags": ["x"]})
    answer = await service.client.post(UNDO)
    assert (answer.status_code, answer.headers["daybook-seq"]) == (200, "3")
    assert answer.json() == {**task, "version": 3, "updated_at": answer.json()["updated_at"]}
    shown = await service.client.get(path)
    assert (shown.json(), shown.headers["etag"]) == (answer.json(), answer.headers["etag"])
    again = await service.client.post(UNDO, json={})  # of the undo
    assert (again.json()["title"], again.json()["tags"]) == ("Buy oat milk", ["x"])
    types = [each["type"] for each in (await service.client.get("/api/ann/audit")).json()]
    assert types == ["TaskUpdated", "TaskUpdated", "TaskUpdated", "TaskCreated"]


async def test_any_event_of_any_task_is_taken_back(service: Service, path: str) -> None:
    toggled = await service.client.patch(f"{path}/complete")
    gone = (await service.client.post(TASKS, json={"title": "Another"})).headers["daybook-seq"]
    await service.client.put(path, json={"title": "Since"})
    undone = await service.client.post(UNDO, json={"seq": int(toggled.headers["daybook-seq"])})
    assert (undone.json()["title"], undone.json()["completed"]) == ("Since", False)
    created = await service.client.post(UNDO, json={"seq": int(gone)})
    assert (created.status_code, created.content, created.headers["daybook-seq"]) == (204, b"", "6")
    assert [each["title"] for each in (await service.client.get(TASKS)).json()] == ["Since"]
    back = await service.client.post(UNDO)
    assert (back.status_code, back.json()["title"]) == (200, "Another")


async def test_a_deleted_task_comes_back(service: Service, task: dict[str, Any], path: str) -> None:
    await service.client.delete(path)
    back = (await service.client.post(UNDO)).json()
    assert back == {**task, "version": 3, "updated_at": back["updated_at"]}


async def test_what_was_changed_since_is_409_and_named(service: Service, pool: Pool, path: str) -> None:
    await service.client.put(path, json={"title": "Second", "description": "Second"})
    await service.client.put(path, json={"title": "Third"})
    answer = await service.client.post(UNDO, json={"seq": 2})
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/changed-since")
    assert answer.json()["errors"] == [
        {"field": "title", "message": "Title has been changed since.", "type": "changed_since"}
    ]
    assert await count(pool) == 3


async def test_the_event_of_a_task_that_was_deleted_since_is_409(service: Service, pool: Pool, path: str) -> None:
    """The problem names no field, since none was changed."""
    await service.client.delete(path)
    answer = await service.client.post(UNDO, json={"seq": 1})
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (409, "/problems/changed-since")
    assert ("errors" in problem, problem["hint"]) == (False, "The task was deleted since.")
    assert await count(pool) == 2


@pytest.mark.parametrize("body", [None, {}, {"seq": 2}])
async def test_an_event_that_is_not_there_is_404(service: Service, body: Any) -> None:
    async with service.as_user("bob") as bob:
        for title in "xy":
            await bob.post("/api/bob/tasks", json={"title": title})
    answer = await service.client.post(UNDO, json=body)
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/event-not-found")


@pytest.mark.parametrize("seq", [0, -1, 2**63, "1", None, 1.5, True])
async def test_what_is_no_seq_is_422(service: Service, path: str, seq: Any) -> None:  # noqa: ARG001 - there is an event
    answer = await service.client.post(UNDO, json={"seq": seq})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "seq")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/undo?seq=1", None),
        ("/restore?dry_run=true", {"as_of": "2000-01-01T00:00:00Z"}),
        ("/batch?atomic=false", {"operations": [{"op": "create", "title": "x"}]}),
    ],
)
async def test_a_query_is_refused_where_all_belongs_in_the_body(
    service: Service, pool: Pool, task: dict[str, Any], path: str, body: Any
) -> None:
    answer = await service.client.post(f"/api/ann{path}", json=body)
    assert (answer.status_code, "send it in the body" in answer.json()["hint"]) == (400, True)
    assert (await service.client.get(TASKS)).json() == [task]
    assert await count(pool) == 1


async def test_another_users_path_is_403(service: Service) -> None:
    assert (await service.client.post("/api/bob/undo")).status_code == 403


@pytest.mark.parametrize("body", [None, {"seq": 2}])
async def test_an_undo_sent_again_with_its_key_is_answered_again(
    service: Service, pool: Pool, path: str, body: Any
) -> None:
    """An undo without a `seq` would mean another event by now."""
    await service.client.put(path, json={"title": "Buy oat milk"})
    first = await service.client.post(UNDO, json=body, headers=KEY)
    await service.client.post(TASKS, json={"title": str(uuid4())})
    again = await service.client.post(UNDO, json=body, headers=KEY)
    assert (again.status_code, again.content) == (200, first.content)
    for name in ("etag", "daybook-seq"):
        assert again.headers[name] == first.headers[name]
    assert (again.headers["idempotency-replayed"], await count(pool)) == ("true", 4)


async def test_if_match_is_about_the_events_task(service: Service, task: dict[str, Any], path: str) -> None:
    changed = await service.client.put(path, json={"title": "x"})
    stale = await service.client.post(UNDO, headers={"If-Match": '"1"'})
    assert (stale.status_code, stale.headers["etag"]) == (412, changed.headers["etag"])
    undone = await service.client.post(UNDO, headers={"If-Match": changed.headers["etag"]})
    assert (undone.status_code, undone.json()["title"]) == (200, task["title"])
