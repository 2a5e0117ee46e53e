"""A write with an Idempotency-Key can be repeated and is answered again (docs/http-api.md, "Safe writes")."""

from typing import Any

import pytest

from db.pool import Pool
from tests.api.test_etags import count
from tests.service import TASKS, Service

KEY = {"Idempotency-Key": "k-1"}

pytestmark = pytest.mark.once


async def test_a_creation_sent_again_is_answered_again(service: Service, pool: Pool) -> None:
    first = await service.client.post(TASKS, json={"title": "x"}, headers=KEY)
    again = await service.client.post(TASKS, json={"title": "x"}, headers=KEY)
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert (again.status_code, again.content) == (201, first.content)
    for name in ("location", "etag"):
        assert again.headers[name] == first.headers[name]
    assert await count(pool) == 1


REPEATABLE: list[tuple[str, str, Any]] = [
    ("PUT", "", {"title": "y"}),
    ("PATCH", "", {"description": "z"}),
    ("PATCH", "/complete", None),
    ("PATCH", "/complete", {"completed": True}),
    ("DELETE", "", None),
    ("POST", "/restore", {"version": 1}),
]


@pytest.mark.parametrize(("method", "end", "body"), REPEATABLE)
async def test_a_change_sent_again_is_answered_as_it_was_then_whatever_has_happened_since(
    service: Service, pool: Pool, path: str, method: str, end: str, body: Any
) -> None:
    await service.client.put(path, json={"title": "before"})
    first = await service.client.request(method, path + end, json=body, headers=KEY)
    if method == "DELETE":
        await service.client.post(f"{path}/restore")
    await service.client.put(path, json={"title": "since", "completed": False})
    await service.client.delete(path)
    before = await count(pool)
    for seen in ({}, {"If-Match": '"2"'}):
        again = await service.client.request(method, path + end, json=body, headers={**KEY, **seen})
        assert (again.status_code, again.content) == (first.status_code, first.content)
        assert again.headers.get("etag") == first.headers.get("etag")
        assert again.headers["idempotency-replayed"] == "true"
    assert await count(pool) == before


@pytest.mark.parametrize(
    ("method", "end", "body"),
    [
        ("POST", "", {"title": "y"}),
        ("POST", "", {"title": "x", "completed": False}),
        ("DELETE", "/{id}", None),
        ("PATCH", "/{id}/complete", None),
        ("PUT", "/{id}", {"title": "x"}),
        ("POST", "/{id}/restore", None),
    ],
)
async def test_a_key_bound_to_another_request_is_422(
    service: Service, pool: Pool, method: str, end: str, body: Any
) -> None:
    task = (await service.client.post(TASKS, json={"title": "x"}, headers=KEY)).json()
    answer = await service.client.request(method, TASKS + end.format(id=task["id"]), json=body, headers=KEY)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/idempotency-key-reused")
    assert await count(pool) == 1
    assert (await service.client.get(TASKS)).json() == [task]


async def test_a_key_is_its_users_own(service: Service, pool: Pool) -> None:
    await service.client.post(TASKS, json={"title": "x"}, headers=KEY)
    async with service.as_user("bob") as bob:
        answer = await bob.post("/api/bob/tasks", json={"title": "y"}, headers=KEY)
    assert (answer.status_code, answer.json()["title"]) == (201, "y")
    assert await count(pool) == 2


async def test_a_key_is_its_users_own_in_changes_too(service: Service, pool: Pool, path: str) -> None:
    async with service.as_user("bob") as bob:
        theirs = (await bob.post("/api/bob/tasks", json={"title": "Bob's"})).headers["location"]
        assert (await bob.patch(f"{theirs}/complete", headers=KEY)).status_code == 200
        mine = await service.client.patch(f"{path}/complete", headers=KEY)
        assert (mine.json()["user_id"], "idempotency-replayed" in mine.headers) == ("ann", False)
    assert await count(pool) == 4


async def test_a_key_is_bound_to_its_method_and_its_path(service: Service, pool: Pool, path: str) -> None:
    other = (await service.client.post(TASKS, json={"title": "Another"})).headers["location"]
    body = {"title": "y"}
    await service.client.put(path, json=body, headers=KEY)
    for method, elsewhere in (("PATCH", path), ("PUT", other), ("POST", TASKS)):
        answer = await service.client.request(method, elsewhere, json=body, headers=KEY)
        assert (answer.status_code, answer.json()["type"]) == (422, "/problems/idempotency-key-reused")
    assert await count(pool) == 3


async def test_a_key_is_bound_to_the_path_however_its_slash(service: Service, pool: Pool) -> None:
    await service.client.post(TASKS, json={"title": "x"}, headers=KEY)
    again = await service.client.post(f"{TASKS}/", json={"title": "x"}, headers=KEY)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["location"].startswith(f"{TASKS}/0")
    assert await count(pool) == 1


CONTENT = {"title": "Café 1", "description": None, "completed": False, "n": [1, 2.5]}
SPELLINGS = [
    b'{"title": "Caf\\u00e9 1", "description": null, "completed": false, "n": [1, 2.5]}',
    '{"completed":false,"n":[1.0,25e-1],"description":null,"title":"Café 1"}'.encode(),
    '\ufeff{ "title" : "Café 1",\r\n\t"description":null,"n":[1e0,2.50],"completed":false }\n'.encode(),
]


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_a_key_is_bound_to_the_content_however_its_json_is_spelled(
    service: Service, pool: Pool, spelling: bytes
) -> None:
    first = await service.client.post(TASKS, json=CONTENT, headers=KEY)
    json = {"Content-Type": "application/json"}
    again = await service.client.post(TASKS, content=spelling, headers={**KEY, **json})
    assert (first.status_code, again.status_code, again.content) == (201, 201, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    for other in ({**CONTENT, "n": [2.5, 1]}, {**CONTENT, "n": ["1", 2.5]}, {**CONTENT, "completed": True}):
        assert (await service.client.post(TASKS, json=other, headers=KEY)).status_code == 422
    assert await count(pool) == 1


@pytest.mark.parametrize("depth", [250, 300, 1000, 2000])
async def test_a_key_is_bound_to_a_body_however_deep_it_is(service: Service, pool: Pool, path: str, depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    made = await service.client.post(TASKS, content=b'{"title": "x", "n": %b}' % deep, headers=KEY)
    assert (made.status_code, made.json()["type"]) == (400, "/problems/bad-request")
    for again in (False, True):  # a deletion has no use for its body
        gone = await service.client.request("DELETE", path, content=deep, headers=KEY)
        assert (gone.status_code, "idempotency-replayed" in gone.headers) == (204, again)
    other = await service.client.request("DELETE", path, content=b"[%b]" % deep, headers=KEY)
    assert other.status_code == 422
    assert await count(pool) == 2


async def test_a_key_is_bound_to_the_task_however_its_path_is_spelled(service: Service, pool: Pool, path: str) -> None:
    await service.client.patch(f"{path}/complete", headers=KEY)
    user, _, task_id = path.rpartition("/")
    for spelling in (task_id.upper(), task_id.replace("-", ""), f"%7B{task_id}%7D", f"{task_id}/"):
        again = await service.client.patch(f"{user}/{spelling}/complete", headers=KEY)
        assert (again.status_code, again.headers.get("idempotency-replayed")) == (200, "true"), spelling
    assert await count(pool) == 2


async def test_a_key_is_bound_to_an_empty_object_as_to_no_body(service: Service, pool: Pool, path: str) -> None:
    first = await service.client.patch(f"{path}/complete", headers=KEY)
    again = await service.client.patch(f"{path}/complete", json={}, headers=KEY)
    assert (again.content, again.headers["idempotency-replayed"]) == (first.content, "true")
    assert await count(pool) == 2


async def test_a_key_is_bound_to_what_the_query_asks_for(service: Service, pool: Pool, path: str) -> None:
    first = await service.client.patch(f"{path}/complete?completed=true&_=1", headers=KEY)
    again = await service.client.patch(f"{path}/complete?_=2&completed=TRUE", headers=KEY)
    assert (again.content, again.headers["idempotency-replayed"]) == (first.content, "true")
    for other in ("?completed=false", ""):
        assert (await service.client.patch(f"{path}/complete{other}", headers=KEY)).status_code == 422
    assert await count(pool) == 2


@pytest.mark.parametrize(
    ("sent", "again"),
    [('"k 1"', "k 1"), ("k-1", '"k-1"'), ('"a\\"b\\\\"', 'a"b\\'), ("x" * 255, f'"{"x" * 255}"')],
)
async def test_a_key_is_the_same_quoted_or_bare(service: Service, sent: str, again: str) -> None:
    first = await service.client.post(TASKS, json={"title": "x"}, headers={"Idempotency-Key": sent})
    second = await service.client.post(TASKS, json={"title": "x"}, headers={"Idempotency-Key": again})
    assert (first.status_code, second.headers["idempotency-replayed"]) == (201, "true")


@pytest.mark.parametrize("bad", ["", '""', " ", "x" * 256, '"k', '"a"b"', '"a\\b"', "\x7f", "schlüssel", "a\tb"])
async def test_a_key_that_can_be_none_is_400(service: Service, pool: Pool, bad: str) -> None:
    headers = [(b"Idempotency-Key", bad.encode("latin-1"))]
    answer = await service.client.post(TASKS, json={"title": "x"}, headers=headers)
    assert (answer.status_code, "Idempotency-Key" in answer.json()["hint"]) == (400, True)
    assert await count(pool) == 0


async def test_two_keys_are_400(service: Service) -> None:
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    assert (await service.client.post(TASKS, json={"title": "x"}, headers=headers)).status_code == 400


async def test_a_request_that_was_refused_or_changed_nothing_leaves_its_key_free(service: Service, path: str) -> None:
    """A key is kept in an event: if there is none, the request is simply carried out anew."""
    nothing = await service.client.patch(f"{path}/complete", json={"completed": False}, headers=KEY)
    refused = await service.client.post(TASKS, json={"title": ""}, headers=KEY)
    missed = await service.client.delete(path, headers={**KEY, "If-Match": '"7"'})
    assert [answer.status_code for answer in (nothing, refused, missed)] == [200, 422, 412]
    made = await service.client.delete(path, headers=KEY)
    assert (made.status_code, "idempotency-replayed" in made.headers) == (204, False)


async def test_the_key_and_the_fingerprint_are_on_the_event(service: Service, pool: Pool) -> None:
    await service.client.post(TASKS, json={"title": "x"}, headers=KEY)
    row = await pool.fetchrow("SELECT idempotency_key, fingerprint FROM events")
    assert row is not None
    assert (row["idempotency_key"], len(row["fingerprint"])) == ("k-1", 32)


async def test_a_read_takes_no_notice_of_a_key(service: Service) -> None:
    assert (await service.client.get(TASKS, headers={"Idempotency-Key": ""})).status_code == 200
