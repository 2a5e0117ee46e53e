"""The endpoints for tasks, a test for each row and rule (docs/http-api.md, "Tasks")."""

import json
import re
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest

from tests.service import TASKS, Service

NOWHERE = f"{TASKS}/019a9e3c-5f3a-7c21-9d52-3d0c5f0e8a11"
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


async def created(service: Service, **fields: Any) -> dict[str, Any]:
    answer = await service.client.post(TASKS, json={"title": "Buy milk", **fields})
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_a_task_is_created_and_found_at_its_location(service: Service) -> None:
    answer = await service.client.post(
        TASKS, json={"title": "  Buy milk \n", "description": "2 litres", "completed": True}
    )
    task = answer.json()
    assert answer.status_code == 201
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["location"] == f"{TASKS}/{task['id']}"
    assert list(task) == [
        "id",
        "user_id",
        "title",
        "description",
        "completed",
        "priority",
        "due_date",
        "tags",
        "created_at",
        "updated_at",
        "completed_at",
        "version",
    ]
    assert UUID(task["id"]).version == 7
    assert (task["user_id"], task["title"], task["description"], task["completed"], task["version"]) == (
        "ann",
        "Buy milk",
        "2 litres",
        True,
        1,
    )
    assert MOMENT.fullmatch(task["created_at"])
    assert task["updated_at"] == task["created_at"]
    found = await service.client.get(answer.headers["location"])
    assert (found.status_code, found.json()) == (200, task)


async def test_the_defaults_are_no_description_and_not_completed(service: Service) -> None:
    task = await created(service)
    assert (task["description"], task["completed"]) == (None, False)


async def test_a_write_and_a_read_answer_with_the_same_task(service: Service) -> None:
    task = await created(service, title='Ünïcode 🥛 "quoted" \\ </script> \u2028', description="\n\t")
    assert (await service.client.get(f"{TASKS}/{task['id']}")).json() == task
    assert (await service.client.get(TASKS)).json() == [task]


async def test_a_list_without_tasks_is_an_empty_array(service: Service) -> None:
    answer = await service.client.get(TASKS)
    assert (answer.status_code, answer.json()) == (200, [])
    assert answer.headers["content-type"] == "application/json"
    assert "link" not in answer.headers


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_a_change_keeps_what_is_left_out(service: Service, method: str) -> None:
    task = await created(service, description="2 litres")
    answer = await service.client.request(method, f"{TASKS}/{task['id']}", json={"title": "Buy oat milk"})
    changed = answer.json()
    assert answer.status_code == 200
    assert changed == {**task, "title": "Buy oat milk", "version": 2, "updated_at": changed["updated_at"]}
    assert changed["updated_at"] > task["updated_at"]
    assert (await service.client.get(f"{TASKS}/{task['id']}")).json() == changed


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_null_clears_the_description(service: Service, method: str) -> None:
    task = await created(service, description="2 litres")
    answer = await service.client.request(method, f"{TASKS}/{task['id']}", json={"description": None})
    assert (answer.status_code, answer.json()["description"]) == (200, None)


@pytest.mark.parametrize("body", [{}, {"title": "Buy milk"}, {"completed": False}, {"completed": False, "unknown": 1}])
async def test_a_change_that_changes_nothing_answers_the_task_as_it_is(service: Service, body: Any) -> None:
    task = await created(service)
    answer = await service.client.put(f"{TASKS}/{task['id']}", json=body)
    assert (answer.status_code, answer.json()) == (200, task)


async def test_complete_without_a_body_toggles(service: Service) -> None:
    task = await created(service)
    for version, completed in ((2, True), (3, False)):
        answer = await service.client.patch(f"{TASKS}/{task['id']}/complete")
        assert answer.status_code == 200
        assert (answer.json()["completed"], answer.json()["version"]) == (completed, version)


KNOWN = "title, description, completed, priority, due_date, tags"


@pytest.mark.parametrize(
    ("method", "end", "body", "known"),
    [
        ("POST", "", {"name": "x"}, f"{KNOWN}, id"),
        ("PUT", "/{id}", {"unknown": 1}, KNOWN),
        ("PATCH", "/{id}", {"titel": "x", "done": True}, KNOWN),
        ("PATCH", "/{id}/complete", {"done": True}, "completed"),
        ("PATCH", "/{id}/complete", {"Completed": True}, "completed"),
        ("POST", "/{id}/restore", {"versoin": 1}, "version"),
    ],
)
async def test_a_body_that_names_no_known_field_is_422_and_changes_nothing(
    service: Service, method: str, end: str, body: Any, known: str
) -> None:
    task = await created(service)
    path = TASKS + end.format(id=task["id"])
    answer = await service.client.request(method, path, content=json.dumps(body))
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (422, "/problems/invalid")
    assert problem["hint"] == f"The body names no field that is known here. There are: {known}."
    assert (await service.client.get(TASKS)).json() == [task]


@pytest.mark.parametrize("query", ["completed=true", "completed=True", "_=1&completed=true", "completed=true&x="])
async def test_complete_takes_its_value_from_the_query_too(service: Service, query: str) -> None:
    task = await created(service, completed=True)
    answer = await service.client.patch(f"{TASKS}/{task['id']}/complete?{query}")
    assert (answer.status_code, answer.json()) == (200, task)
    answer = await service.client.patch(f"{TASKS}/{task['id']}/complete?completed=false", json={"completed": False})
    assert (answer.status_code, answer.json()["completed"]) == (200, False)


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("done=true", None),
        ("is_completed=true", {}),
        ("completed=yes", None),
        ("completed=1", None),
        ("completed=", None),
        ("completed", None),
        ("done=", {}),
        ("completed=true=", None),
        ("completed=true", {"completed": False}),
        ("completed=false", {"completed": True}),
    ],
)
async def test_a_toggle_whose_query_says_something_else_is_400_and_changes_nothing(
    service: Service, query: str, body: Any
) -> None:
    task = await created(service, completed=True)
    answer = await service.client.patch(f"{TASKS}/{task['id']}/complete?{query}", json=body)
    assert answer.status_code == 400
    assert "completed" in answer.json()["detail"] + answer.json().get("hint", "")
    assert (await service.client.get(TASKS)).json() == [task]


async def test_a_body_that_sets_is_obeyed_whatever_else_the_query_says(service: Service) -> None:
    task = await created(service)
    answer = await service.client.patch(f"{TASKS}/{task['id']}/complete?_=1&done=false", json={"completed": True})
    assert (answer.status_code, answer.json()["completed"]) == (200, True)


async def test_restore_takes_its_version_from_the_query_too(service: Service) -> None:
    task = await created(service)
    path = f"{TASKS}/{task['id']}"
    await service.client.patch(path, json={"title": "y"})
    answer = await service.client.post(f"{path}/restore?version=1")
    assert (answer.status_code, answer.json()["title"]) == (200, "Buy milk")
    for query, body in (
        ("version=1=", None),
        ("version=", None),
        ("versoin=2", None),
        ("version=x", None),
        ("version=1", {"version": 2}),
    ):
        assert (await service.client.post(f"{path}/restore?{query}", json=body)).status_code == 400
    assert (await service.client.get(path)).json() == answer.json()


@pytest.mark.parametrize("options", [{"json": {}}, {"content": b"", "headers": {"Content-Type": "text/plain"}}])
async def test_complete_without_a_value_toggles(service: Service, options: Any) -> None:
    task = await created(service)
    answer = await service.client.patch(f"{TASKS}/{task['id']}/complete", **options)
    assert (answer.status_code, answer.json()["completed"]) == (200, True)


async def test_complete_with_a_body_sets_and_is_safe_to_repeat(service: Service) -> None:
    task = await created(service)
    for _ in range(2):
        answer = await service.client.patch(f"{TASKS}/{task['id']}/complete", json={"completed": True})
        assert answer.status_code == 200
        assert (answer.json()["completed"], answer.json()["version"]) == (True, 2)


async def test_a_deleted_task_is_gone(service: Service) -> None:
    task = await created(service)
    answer = await service.client.delete(f"{TASKS}/{task['id']}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await service.client.get(f"{TASKS}/{task['id']}")).status_code == 404
    assert (await service.client.delete(f"{TASKS}/{task['id']}")).status_code == 404
    assert (await service.client.get(TASKS)).json() == []


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("PUT", "", {"title": "x"}),
        ("PATCH", "", {"title": "x"}),
        ("PATCH", "/complete", None),
        ("DELETE", "", None),
    ],
)
async def test_a_task_that_is_not_there_is_404(service: Service, method: str, path: str, body: Any) -> None:
    answer = await service.client.request(method, NOWHERE + path, json=body)
    assert answer.status_code == 404
    assert answer.json()["type"].endswith("/task-not-found")


@pytest.mark.parametrize("task_id", ["1x", "abc", "-1", "1.5", "\u0661", "019a9e3c", f"{NOWHERE[-36:-1]}g", "%00"])
@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("PUT", ""), ("PATCH", ""), ("PATCH", "/complete"), ("DELETE", "")]
)
async def test_an_id_that_is_no_uuid_is_400(service: Service, method: str, path: str, task_id: str) -> None:
    body: Any = {} if method in ("PUT", "PATCH") else None
    answer = await service.client.request(method, f"{TASKS}/{task_id}{path}", json=body)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "task_id"
    assert isinstance(answer.json()["detail"], str)


@pytest.mark.parametrize("task_id", ["1", "0", "99999", "9" * 300])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("GET", "?version=1"),
        ("PUT", ""),
        ("PATCH", ""),
        ("PATCH", "/complete"),
        ("DELETE", ""),
        ("POST", "/restore"),
        ("GET", "/history"),
    ],
)
async def test_an_id_of_another_backend_is_404_like_any_task_that_is_not_there(
    service: Service, method: str, path: str, task_id: str
) -> None:
    body: Any = {"title": "x"} if method in ("PUT", "PATCH") and not path else None
    answer = await service.client.request(method, f"{TASKS}/{task_id}{path}", json=body)
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/task-not-found")
    assert answer.json()["detail"] == "Task not found."


@pytest.mark.parametrize("word", ["export", "search", "overdue", "bulk", "Completed"])
async def test_a_route_of_another_backend_is_404(service: Service, word: str) -> None:
    for method in ("GET", "PUT", "DELETE"):
        answer = await service.client.request(method, f"{TASKS}/{word}", json={"title": "x"})
        assert (answer.status_code, "not found" in answer.json()["detail"].lower()) == (404, True)
        assert "UUID" not in answer.text
        assert answer.json()["hint"] == f"There is no route {word} here: /docs lists the routes."


async def test_a_trailing_slash_is_served_like_none(service: Service) -> None:
    answer = await service.client.post(f"{TASKS}/", json={"title": "x"})
    assert answer.status_code == 201
    task = answer.json()
    for method, path, status in (
        ("GET", f"{TASKS}/", 200),
        ("GET", f"{TASKS}/{task['id']}/", 200),
        ("PATCH", f"{TASKS}/{task['id']}/complete/", 200),
        ("DELETE", f"{TASKS}/{task['id']}/", 204),
    ):
        assert (await service.client.request(method, path)).status_code == status


async def test_times_sort_as_text_in_the_order_of_changes(service: Service) -> None:
    task = await created(service)
    moments = [task["updated_at"]]
    for _ in range(10):
        moments.append((await service.client.patch(f"{TASKS}/{task['id']}/complete")).json()["updated_at"])
    assert moments == sorted(set(moments))
    assert all(datetime.fromisoformat(moment).utcoffset() is not None for moment in moments)


async def test_users_may_have_names_that_need_quoting(service: Service) -> None:
    user = "Zoë & co@example.org?#%"
    async with service.as_user(user) as client:
        answer = await client.post("/api/Zo%C3%AB%20%26%20co%40example.org%3F%23%25/tasks", json={"title": "x"})
        assert (answer.status_code, answer.json()["user_id"]) == (201, user)
        assert (await client.get(answer.headers["location"])).json() == answer.json()
