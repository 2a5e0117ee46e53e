"""Contract, section 4: entity tags, and what they make safe or cheap."""

import asyncio
from typing import Any

import pytest

from db.pool import Pool
from tests.service import Service, sql

TASKS = "/api/ann/tasks"

pytestmark = pytest.mark.once


async def count(pool: Pool) -> int:
    number: int = await pool.fetchval("SELECT count(*) FROM events")
    return number


async def test_every_answer_with_one_task_has_its_version_as_etag(service: Service) -> None:
    client = service.client
    created = await client.post(TASKS, json={"title": "x"})
    path = created.headers["location"]
    answers = [
        created,
        await client.get(path),
        await client.put(path, json={"title": "y"}),
        await client.patch(path, json={"title": "y"}),
        await client.patch(f"{path}/complete"),
        await client.post(f"{path}/restore", json={"version": 1}),
    ]
    assert [answer.headers["etag"] for answer in answers] == ['"1"', '"1"', '"2"', '"2"', '"3"', '"4"']
    assert [answer.json()["version"] for answer in answers] == [1, 1, 2, 2, 3, 4]
    assert "etag" not in (await client.delete(path)).headers


CHANGES: list[tuple[str, str, Any]] = [
    ("PUT", "", {"title": "y"}),
    ("PATCH", "", {"title": "y"}),
    ("PATCH", "/complete", None),
    ("DELETE", "", None),
]
RESTORE: tuple[str, str, Any] = ("POST", "/restore", {"version": 1})
NO_CHANGES: list[tuple[str, str, Any]] = [
    ("PATCH", "", {}),
    ("PATCH", "/complete", {"completed": False}),
    ("POST", "/restore", None),
    ("POST", "/restore", {"version": 9}),
]


@pytest.mark.parametrize(("method", "end", "body"), [*CHANGES, RESTORE])
@pytest.mark.parametrize("seen", ['"2"', '"7", W/"2-gzip"', "*"])
async def test_a_change_to_what_was_seen_is_made(
    service: Service, path: str, method: str, end: str, body: Any, seen: str
) -> None:
    await service.client.patch(path, json={"title": "x"})
    answer = await service.client.request(method, path + end, json=body, headers={"If-Match": seen})
    assert answer.is_success


@pytest.mark.parametrize(("method", "end", "body"), [*CHANGES, RESTORE, *NO_CHANGES])
@pytest.mark.parametrize("seen", ['"1", W/"7-gzip"', '"someone-elses"'])
async def test_a_change_to_what_has_changed_since_is_412_with_the_present_etag(
    service: Service, pool: Pool, path: str, method: str, end: str, body: Any, seen: str
) -> None:
    now = (await service.client.patch(path, json={"title": "x"})).json()
    answer = await service.client.request(method, path + end, json=body, headers={"If-Match": seen})
    assert (answer.status_code, answer.headers["etag"]) == (412, '"2"')
    assert answer.json()["type"] == "/problems/precondition-failed"
    assert (await service.client.get(path)).json() == now
    assert await count(pool) == 2


@pytest.mark.parametrize("seen", ["*", '"1"'])
async def test_a_change_to_what_is_not_there_is_404_whatever_was_seen(service: Service, path: str, seen: str) -> None:
    await service.client.delete(path)
    for method, end, body in CHANGES:
        answer = await service.client.request(method, path + end, json=body, headers={"If-Match": seen})
        assert answer.status_code == 404


async def test_a_deleted_task_is_at_the_version_of_its_deletion(service: Service, path: str) -> None:
    await service.client.delete(path)
    missed = await service.client.post(f"{path}/restore", headers={"If-Match": '"1"'})
    assert (missed.status_code, missed.headers["etag"]) == (412, '"2"')
    restored = await service.client.post(f"{path}/restore", headers={"If-Match": '"2"'})
    assert (restored.status_code, restored.headers["etag"]) == (200, '"3"')


@pytest.mark.parametrize("bad", ['"1', "", "x", '"1" "2"'])
async def test_an_if_match_that_cannot_be_read_is_400(service: Service, path: str, bad: str) -> None:
    answer = await service.client.delete(path, headers={"If-Match": bad})
    assert (answer.status_code, "If-Match" in answer.json()["hint"]) == (400, True)
    assert (await service.client.get(path)).status_code == 200


async def test_if_match_may_be_sent_in_several_lines(service: Service, path: str) -> None:
    lines = [("If-Match", '"9"'), ("If-Match", '"1"')]
    assert (await service.client.put(path, json={"title": "y"}, headers=lines)).status_code == 200


@pytest.mark.parametrize("known", ['"1"', 'W/"1"', '"1-gzip"', '"9", "1"', "*"])
async def test_a_task_that_is_known_already_is_304(service: Service, path: str, known: str) -> None:
    answer = await service.client.get(path, headers={"If-None-Match": known})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", '"1"')
    assert answer.headers["cache-control"] == "private, no-cache"
    assert "content-type" not in answer.headers


@pytest.mark.parametrize("known", ['"2"', '"x"', "garbage", "", '"1'])
async def test_a_task_that_is_not_known_is_sent(service: Service, path: str, known: str) -> None:
    answer = await service.client.get(path, headers={"If-None-Match": known})
    assert (answer.status_code, answer.headers["etag"]) == (200, '"1"')
    assert answer.headers["cache-control"] == "private, no-cache"


async def test_a_task_that_is_not_there_is_never_304(service: Service, path: str) -> None:
    await service.client.delete(path)
    assert (await service.client.get(path, headers={"If-None-Match": "*"})).status_code == 404


async def test_the_lists_etag_is_the_number_of_the_users_last_event(service: Service, task: dict[str, Any]) -> None:
    client, path = service.client, f"{TASKS}/{task['id']}"
    assert (await client.get(TASKS)).headers["etag"] == '"1"'
    async with service.as_user("bob") as bob:
        assert (await bob.get("/api/bob/tasks")).headers["etag"] == '"0"'
        await bob.post("/api/bob/tasks", json={"title": "x"})
    known = {"If-None-Match": '"1"'}
    answer = await client.get(f"{TASKS}?completed=false&q=milk", headers=known)
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", '"1"')
    await client.patch(path, json={})  # changes nothing
    assert (await client.get(TASKS, headers=known)).status_code == 304
    await client.delete(path)
    answer = await client.get(TASKS, headers=known)
    assert (answer.status_code, answer.json(), answer.headers["etag"]) == (200, [], '"2"')
    assert (await client.get(f"{TASKS}?limit=0", headers={"If-None-Match": '"2"'})).status_code == 400
    assert (await client.get(f"{TASKS}?cursor=x", headers={"If-None-Match": '"2"'})).status_code == 400


async def test_an_unchanged_list_is_confirmed_without_reading_it(service: Service, pool: Pool, path: str) -> None:
    await service.client.patch(path, json={"title": "x"})
    await sql(pool, "ALTER TABLE tasks RENAME TO away")
    assert (await service.client.get(TASKS, headers={"If-None-Match": '"2"'})).status_code == 304
    assert (await service.client.get(TASKS, headers={"If-None-Match": '"1"'})).status_code == 500


@pytest.mark.parametrize("query", ["", "?as_of=2100-01-01T00:00:00Z"])
async def test_a_list_is_never_called_unchanged_when_it_has_changed(service: Service, query: str) -> None:
    """Many writers, and a reader who keeps what it has as long as it is told that it may."""
    known: dict[str, str] = {}
    kept: Any = None

    async def write() -> None:
        for number in range(20):
            await service.client.post(TASKS, json={"title": str(number)})

    async def read() -> Any:
        nonlocal kept
        answer = await service.client.get(TASKS + query, headers=known)
        if answer.status_code == 200:
            kept, known["If-None-Match"] = answer.json(), answer.headers["etag"]
            assert len(kept) == int(answer.headers["etag"].strip('"'))
        return kept

    writers = asyncio.gather(*(write() for _ in range(4)))
    while not writers.done():
        await read()
    await writers
    assert len(await read()) == 80
