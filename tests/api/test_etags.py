"""Entity tags: conditional reads and writes (docs/http-api.md, "Safe writes")."""

import asyncio
import re
from typing import Any

import httpx2
import pytest

from db.pool import Pool
from tests.service import TASKS, WRONG_TITLE, Service, sql

pytestmark = pytest.mark.once


async def count(pool: Pool) -> int:
    number: int = await pool.fetchval("SELECT count(*) FROM events")
    return number


def number(answer: httpx2.Response) -> int:
    """Return the number in an entity tag, which has part of a hash beside it, unless it is of no event."""
    tag = re.fullmatch(r'"(?:(0)|([1-9][0-9]*)-[0-9a-f]{16})"', answer.headers["etag"])
    assert tag, answer.headers["etag"]
    return int(tag[1] or tag[2])


async def test_every_answer_has_the_tag_that_the_guide_says(service: Service) -> None:
    """The tags are held against the table in docs/guides/safe-writes.md, and against the log."""
    client, key = service.client, {"Idempotency-Key": "k"}
    lists = [await client.get(TASKS)]
    created = await client.post(TASKS, json={"title": "x"})
    path = created.headers["location"]
    lists.append(await client.get(TASKS))
    changed = await client.put(path, json={"title": "y"}, headers=key)
    task: list[tuple[int, httpx2.Response]] = [
        (1, created),
        (2, changed),
        (2, await client.get(path)),
        (2, await client.head(path)),
        (2, await client.get(path, headers={"If-None-Match": "*"})),
        (2, await client.patch(path, json={"title": "y"})),
        (2, await client.put(path, json={"title": "y"}, headers=key)),
        (3, await client.patch(f"{path}/complete")),
        (3, await client.patch(f"{path}/complete", json={"completed": True})),
        (3, await client.patch(path, json={"title": "z"}, headers={"If-Match": '"1"'})),
        (3, await client.get(path, headers={"If-Match": '"1"'})),
        (4, await client.post(f"{path}/restore", json={"version": 1})),
        (2, await client.put(path, json={"title": "y"}, headers=key)),
        (1, await client.get(path, params={"version": 1})),
        (2, await client.get(path, params={"as_of": changed.json()["updated_at"]})),
        (2, await client.head(path, params={"version": 2})),
    ]
    without = [
        await client.delete(path),
        await client.get(path),
        *[await client.get(f"/api/ann/{each}") for each in ("audit", "audit/head", "audit?format=csv")],
        await client.get(f"{path}/history"),
        await client.get(f"{TASKS}?limit=0"),
        await client.get("/health"),
    ]
    task += [
        (5, await client.post(f"{path}/restore", headers={"If-Match": '"4"'})),
        (1, await client.get(path, params={"version": 1})),
        (6, await client.post(f"{path}/restore")),
    ]
    lists += [
        await client.get(TASKS),
        await client.head(TASKS),
        await client.get(TASKS, headers={"If-None-Match": "*"}),
        await client.get(TASKS, params={"as_of": created.json()["created_at"]}),
        await client.get(TASKS, params={"completed": "true", "limit": 1}),
        await client.post(TASKS, json={"title": "x"}, headers={"If-Match": '"1"'}),
    ]
    hashes = [event["hash"] for event in (await client.get(f"{path}/history")).json()]
    tags = ['"0"', *(f'"{number}-{hash_[:16]}"' for number, hash_ in enumerate(hashes, 1))]
    assert [answer.headers["etag"] for _, answer in task] == [tags[version] for version, _ in task]
    assert [answer.headers["etag"] for answer in lists] == [tags[0], tags[1], *[tags[6]] * 6]  # there is but one task
    assert not [answer.url for answer in without if "etag" in answer.headers]
    replays = [answer for _, answer in task if "idempotency-replayed" in answer.headers]
    assert [answer.json() for answer in replays] == [changed.json()] * 2


async def test_tags_of_what_was_written_at_once_are_each_their_own_events(service: Service) -> None:
    answers = await asyncio.gather(*(service.client.post(TASKS, json={"title": str(n)}) for n in range(50)))
    hashes = {event["task_id"]: event["hash"] for event in (await service.client.get("/api/ann/audit")).json()}
    assert [answer.headers["etag"] for answer in answers] == [
        f'"1-{hashes[answer.json()["id"]][:16]}"' for answer in answers
    ]
    read = await asyncio.gather(*(service.client.get(answer.headers["location"]) for answer in answers))
    assert [answer.headers["etag"] for answer in read] == [answer.headers["etag"] for answer in answers]
    changes = await asyncio.gather(
        *(
            service.client.put(a.headers["location"], json={"title": "y"}, headers={"If-Match": a.headers["etag"]})
            for a in answers
        )
    )
    assert {answer.status_code for answer in changes} == {200}


async def test_a_row_that_no_event_left_so_is_told_apart_by_its_own_content(
    service: Service, pool: Pool, path: str
) -> None:
    """Reads go on, and the tag of a wrong row is neither the one that the log gives nor the row's former one."""
    true = await service.client.get(path)
    seen = {true.headers["etag"]}
    for wrong in (
        f"{WRONG_TITLE}, updated_at = '3001-02-03T04:05:06Z'",
        "document = replace(document, 'Wrong', 'y')",
        "version = 7",
    ):
        await sql(pool, f"UPDATE tasks SET {wrong}")
        answer = await service.client.get(path, headers={"If-None-Match": ", ".join(seen)})
        assert (answer.status_code, answer.headers["etag"] in seen) == (200, False)
        seen.add(answer.headers["etag"])
        again = await service.client.get(path, headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304
        stale = await service.client.put(path, json={"title": "z"}, headers={"If-Match": answer.headers["etag"]})
        assert (stale.status_code, stale.headers["etag"]) == (412, true.headers["etag"])


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
    assert (answer.status_code, number(answer)) == (412, 2)
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
    assert (missed.status_code, number(missed)) == (412, 2)
    restored = await service.client.post(f"{path}/restore", headers={"If-Match": '"2"'})
    assert (restored.status_code, number(restored)) == (200, 3)


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
    assert (answer.status_code, answer.content, number(answer)) == (304, b"", 1)
    assert answer.headers["cache-control"] == "private, no-cache"
    assert "content-type" not in answer.headers


@pytest.mark.parametrize("known", ['"2"', '"x"', "garbage", "", '"1'])
async def test_a_task_that_is_not_known_is_sent(service: Service, path: str, known: str) -> None:
    answer = await service.client.get(path, headers={"If-None-Match": known})
    assert (answer.status_code, number(answer)) == (200, 1)
    assert answer.headers["cache-control"] == "private, no-cache"


async def test_a_task_that_is_not_there_is_never_304(service: Service, path: str) -> None:
    await service.client.delete(path)
    assert (await service.client.get(path, headers={"If-None-Match": "*"})).status_code == 404


async def test_the_lists_etag_is_the_number_of_the_users_last_event(service: Service, task: dict[str, Any]) -> None:
    client, path = service.client, f"{TASKS}/{task['id']}"
    assert number(await client.get(TASKS)) == 1
    async with service.as_user("bob") as bob:
        assert number(await bob.get("/api/bob/tasks")) == 0
        await bob.post("/api/bob/tasks", json={"title": "x"})
    known = {"If-None-Match": '"1"'}
    answer = await client.get(f"{TASKS}?completed=false&q=milk", headers=known)
    assert (answer.status_code, answer.content, number(answer)) == (304, b"", 1)
    await client.patch(path, json={})  # changes nothing
    assert (await client.get(TASKS, headers=known)).status_code == 304
    await client.delete(path)
    answer = await client.get(TASKS, headers=known)
    assert (answer.status_code, answer.json(), number(answer)) == (200, [], 2)
    assert (await client.get(f"{TASKS}?limit=0", headers={"If-None-Match": '"2"'})).status_code == 400
    assert (await client.get(f"{TASKS}?cursor=x", headers={"If-None-Match": '"2"'})).status_code == 400


async def test_an_unchanged_list_is_confirmed_without_reading_it(service: Service, pool: Pool, path: str) -> None:
    await service.client.patch(path, json={"title": "x"})
    await sql(pool, "ALTER TABLE tasks RENAME TO away")
    assert (await service.client.get(TASKS, headers={"If-None-Match": '"2"'})).status_code == 304
    assert (await service.client.get(TASKS, headers={"If-None-Match": '"1"'})).status_code == 500


@pytest.mark.parametrize("query", ["", "?as_of=2100-01-01T00:00:00Z"])
async def test_a_list_is_never_called_unchanged_when_it_has_changed(service: Service, query: str) -> None:
    """Many writers change the list, and a reader keeps what it has as long as it is told that it may."""
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
            assert len(kept) == number(answer)
        return kept

    writers = asyncio.gather(*(write() for _ in range(4)))
    while not writers.done():
        await read()
    await writers
    assert len(await read()) == 80
