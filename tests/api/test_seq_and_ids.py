"""Every write names its event, and a client may choose the id of a new task (docs/http-api.md, "Safe writes")."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from db.pool import Pool
from tests.api.test_etags import count
from tests.service import TASKS, Service, value

KEY = {"Idempotency-Key": "k-1"}
ID = "019a9e3c-5f3a-7c21-9d52-3d0c5f0e8a11"


async def test_every_write_names_its_event(service: Service) -> None:
    client = service.client
    made = await client.post(TASKS, json={"title": "x"})
    path = made.headers["location"]
    answers = [
        made,
        await client.put(path, json={"title": "y"}),
        await client.patch(path, json={"title": "z"}),
        await client.patch(f"{path}/complete"),
        await client.delete(path),
        await client.post(f"{path}/restore"),
    ]
    assert [answer.headers["daybook-seq"] for answer in answers] == ["1", "2", "3", "4", "5", "6"]
    assert [each["seq"] for each in (await client.get("/api/ann/audit")).json()] == [6, 5, 4, 3, 2, 1]


async def test_a_write_that_changed_nothing_has_no_event_to_name(service: Service, path: str) -> None:
    for answer in (
        await service.client.put(path, json={"title": "Buy milk"}),
        await service.client.delete(f"{TASKS}/{uuid4()}"),
        await service.client.get(path),
    ):
        assert "daybook-seq" not in answer.headers


async def test_a_replay_names_the_first_event(service: Service, path: str) -> None:
    for method, body in (("PUT", {"title": "y"}), ("DELETE", None)):
        key = {"Idempotency-Key": method}
        first = await service.client.request(method, path, json=body, headers=key)
        await service.client.post(TASKS, json={"title": "Another"})
        again = await service.client.request(method, path, json=body, headers=key)
        assert again.headers["idempotency-replayed"] == "true"
        assert again.headers["daybook-seq"] == first.headers["daybook-seq"]


@pytest.mark.parametrize("spelling", [ID, ID.upper(), ID.replace("-", "")])
async def test_a_client_chooses_the_id(service: Service, spelling: str) -> None:
    answer = await service.client.post(TASKS, json={"id": spelling, "title": "x"})
    assert (answer.status_code, answer.json()["id"]) == (201, ID)
    assert answer.headers["location"] == f"{TASKS}/{ID}"
    assert (await service.client.get(f"{TASKS}/{ID}")).json() == answer.json()


@pytest.mark.parametrize("given", [None, 0, 17326.0, 1764379200000])
async def test_a_number_or_null_is_no_id(service: Service, given: Any) -> None:
    answer = await service.client.post(TASKS, json={"id": given, "title": "x"})
    assert (answer.status_code, UUID(answer.json()["id"]).version) == (201, 7)


@pytest.mark.parametrize("given", ["", "tmp-1", "42", True, [ID], {"id": ID}, ID[:-1], str(UUID(int=0))])
async def test_what_is_no_uuid_is_422(service: Service, pool: Pool, given: Any) -> None:
    answer = await service.client.post(TASKS, json={"id": given, "title": "x"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "id")
    assert await count(pool) == 0


async def test_a_taken_id_is_409_and_changes_nothing(service: Service, pool: Pool, task: dict[str, Any]) -> None:
    answer = await service.client.post(TASKS, json={"id": task["id"], "title": "x"})
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/task-exists")
    assert task["id"] in answer.json()["hint"]
    assert (await service.client.get(TASKS)).json() == [task]
    assert await count(pool) == 1


async def test_a_deleted_tasks_id_stays_taken(service: Service, pool: Pool, path: str) -> None:
    await service.client.delete(path)
    conflicts = value("daybook_append_conflicts_total")
    answer = await service.client.post(TASKS, json={"id": path.rpartition("/")[2], "title": "x"})
    assert (answer.status_code, await count(pool)) == (409, 2)
    assert value("daybook_append_conflicts_total") == conflicts  # it was no race


async def test_an_id_is_its_users_own(service: Service, task: dict[str, Any]) -> None:
    async with service.as_user("bob") as bob:
        answer = await bob.post("/api/bob/tasks", json={"id": task["id"], "title": "Bob's"})
        assert (answer.status_code, answer.json()["id"]) == (201, task["id"])
    assert (await service.client.get(TASKS)).json() == [task]


async def test_a_creation_with_an_id_sent_again_with_its_key_is_answered_again(service: Service, pool: Pool) -> None:
    body = {"id": ID, "title": "x"}
    first = await service.client.post(TASKS, json=body, headers=KEY)
    again = await service.client.post(TASKS, json=body, headers=KEY)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    other = await service.client.post(TASKS, json={**body, "title": "y"}, headers=KEY)
    assert (other.status_code, other.json()["type"]) == (422, "/problems/idempotency-key-reused")
    without = await service.client.post(TASKS, json=body)
    assert (without.status_code, await count(pool)) == (409, 1)


async def test_of_two_creations_of_one_id_at_once_one_succeeds(service: Service, pool: Pool) -> None:
    answers = await asyncio.gather(
        *(service.client.post(TASKS, json={"id": ID, "title": str(number)}) for number in range(8))
    )
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
    assert await count(pool) == 1


async def test_a_stale_list_goes_before_a_taken_id(service: Service, task: dict[str, Any]) -> None:
    body = {"id": task["id"], "title": "x"}
    stale = await service.client.post(TASKS, json=body, headers={"If-Match": '"7"'})
    taken = await service.client.post(TASKS, json=body, headers={"If-Match": '"1"'})
    assert (stale.status_code, taken.status_code) == (412, 409)
