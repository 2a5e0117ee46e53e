"""A client's copy, kept up to date from token to token (docs/http-api.md, "Sync")."""

import base64
from typing import Any

import pytest

from db.pool import Pool
from tests.service import TASKS, Service, sql

CHANGES = f"{TASKS}/changes"

pytestmark = pytest.mark.once


async def changes(service: Service, since: str | None = None, **parameters: Any) -> dict[str, Any]:
    asked = {**parameters, **({} if since is None else {"since": since})}
    answer = await service.client.get(CHANGES, params=asked)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def create(service: Service, *titles: str) -> list[dict[str, Any]]:
    return [(await service.client.post(TASKS, json={"title": title})).json() for title in titles]


async def test_without_a_token_all_tasks_come(service: Service) -> None:
    made = await create(service, "a", "b", "c")
    await service.client.delete(f"{TASKS}/{made[1]['id']}")
    page = await changes(service)
    assert [*page] == ["tasks", "deleted", "next", "more"]
    assert (page["tasks"], page["deleted"], page["more"]) == ([made[0], made[2]], [], False)


async def test_nothing_has_changed_since_the_last_token(service: Service) -> None:
    await create(service, "a")
    token = (await changes(service))["next"]
    assert await changes(service, token) == {"tasks": [], "deleted": [], "next": token, "more": False}


async def test_a_user_without_events_has_a_token_too(service: Service) -> None:
    page = await changes(service)
    assert (page["tasks"], page["more"]) == ([], False)
    made = await create(service, "a")
    assert (await changes(service, page["next"]))["tasks"] == made


async def test_what_has_changed_since_comes_once_as_it_is_now(service: Service) -> None:
    same, changed, gone = await create(service, "same", "changed", "gone")
    token = (await changes(service))["next"]
    for title in ("x", "y", "z"):
        await service.client.put(f"{TASKS}/{changed['id']}", json={"title": title})
    await service.client.delete(f"{TASKS}/{gone['id']}")
    [new] = await create(service, "new")
    page = await changes(service, token)
    assert [each["title"] for each in page["tasks"]] == ["z", "new"]
    assert page["tasks"][1] == new
    assert page["deleted"] == [{"id": gone["id"], "version": 2, "seq": 7}]
    assert same not in page["tasks"]


async def test_a_task_that_came_back_is_not_deleted_and_one_that_went_twice_is_deleted_once(service: Service) -> None:
    back, gone = await create(service, "back", "gone")
    token = (await changes(service))["next"]
    for id_, ends in ((back["id"], False), (gone["id"], True)):
        await service.client.delete(f"{TASKS}/{id_}")
        await service.client.post(f"{TASKS}/{id_}/restore")
        if ends:
            await service.client.delete(f"{TASKS}/{id_}")
    page = await changes(service, token)
    assert [each["id"] for each in page["tasks"]] == [back["id"]]
    assert page["deleted"] == [{"id": gone["id"], "version": 4, "seq": 7}]


async def test_pages_are_bounded_and_each_task_comes_on_the_page_of_its_last_event(service: Service) -> None:
    token = (await changes(service))["next"]
    made = await create(service, "a", "b", "c")
    await service.client.put(f"{TASKS}/{made[0]['id']}", json={"title": "a2"})
    pages: list[dict[str, Any]] = []
    while not pages or pages[-1]["more"]:
        pages.append(await changes(service, pages[-1]["next"] if pages else token, limit=1))
    assert [[each["title"] for each in page["tasks"]] for page in pages] == [[], ["b"], ["c"], ["a2"]]
    assert pages[-1]["next"] == (await changes(service, token))["next"]


async def test_the_first_copy_comes_in_pages_and_misses_nothing_that_happens_meanwhile(service: Service) -> None:
    made = await create(service, *"abcde")
    first = await changes(service, limit=2)
    assert ([each["title"] for each in first["tasks"]], first["more"]) == (["a", "b"], True)
    await service.client.put(f"{TASKS}/{made[0]['id']}", json={"title": "a2"})
    await service.client.put(f"{TASKS}/{made[3]['id']}", json={"title": "d2"})
    await service.client.delete(f"{TASKS}/{made[1]['id']}")
    await service.client.delete(f"{TASKS}/{made[2]['id']}")
    copy = {each["id"]: each for each in first["tasks"]}
    page = first
    while page["more"]:
        page = await changes(service, page["next"], limit=2)
        copy |= {each["id"]: each for each in page["tasks"]}
        for each in page["deleted"]:
            copy.pop(each["id"], None)
    assert sorted(each["title"] for each in copy.values()) == ["a2", "d2", "e"]


async def test_the_first_copy_is_of_the_moment_of_its_token(service: Service) -> None:
    """A page with a task that is newer than its token would outlive the database's restoration from a backup."""
    made = await create(service, *"abc")
    first = await changes(service, limit=1)
    await service.client.put(f"{TASKS}/{made[2]['id']}", json={"title": "c2"})
    second = await changes(service, first["next"], limit=10)
    assert ([each["title"] for each in second["tasks"]], second["more"]) == (["b"], True)
    assert [each["title"] for each in (await changes(service, second["next"]))["tasks"]] == ["c2"]


async def all_pages(service: Service, since: str | None = None) -> tuple[list[dict[str, Any]], str]:
    """Read page after page, each of few megabytes. Return their tasks, and the last token."""
    tasks: list[dict[str, Any]] = []
    more, pages = True, 0
    while more:
        page = await changes(service, since)
        assert len(str(page["tasks"]).encode()) < 1_200_000
        tasks += page["tasks"]
        since, more, pages = page["next"], page["more"], pages + 1
    assert pages >= 3
    assert since is not None
    return tasks, since


async def test_pages_of_long_tasks_are_shorter(service: Service) -> None:
    """They have a megabyte each, in the first copy as in the changes since, and nothing is missed between them."""
    token = (await changes(service))["next"]
    operations = [{"op": "create", "title": "long", "description": "😀" * 5000}] * 45
    made = []
    for _ in range(3):
        answer = await service.client.post("/api/ann/batch", json={"operations": operations})
        made += [each["task"] for each in answer.json()["results"]]
    since_then, end = await all_pages(service, token)
    assert since_then == made
    copy, end_of_copy = await all_pages(service)
    assert copy == sorted(made, key=lambda task: str(task["id"]))
    assert end_of_copy == end


async def test_a_task_with_the_first_id_of_all_is_in_the_copy(service: Service) -> None:
    first = "00000000-0000-0000-0000-000000000001"  # the nil UUID stands for no task
    await service.client.post(TASKS, json={"id": first, "title": "x"})
    assert [each["id"] for each in (await changes(service))["tasks"]] == [first]


@pytest.mark.parametrize("limit", [1, 1000])
async def test_a_token_of_a_log_that_is_no_more_is_410(service: Service, limit: int) -> None:
    await create(service, "a", "b")
    token = (await changes(service, limit=limit))["next"]
    async with service.as_user("bob") as bob:
        await bob.post("/api/bob/tasks", json={"title": "Bob's"})
        await bob.post("/api/bob/tasks", json={"title": "Bob's"})
        others = await bob.get("/api/bob/tasks/changes", params={"since": token})
    empty = await service.client.get(CHANGES, params={"since": token})
    assert empty.status_code == 200
    assert (others.status_code, others.json()["type"]) == (410, "/problems/log-replaced")


async def test_a_token_from_past_the_end_of_the_log_is_410(service: Service) -> None:
    await create(service, "a")
    seq = base64.urlsafe_b64encode((7).to_bytes(8) + bytes(8)).rstrip(b"=").decode()
    assert (await service.client.get(CHANGES, params={"since": seq})).status_code == 410


@pytest.mark.parametrize("token", ["x", "AAAA", "é", "A" * 24, "A" * 22 + "!", "_" * 22, "null"])
async def test_what_is_no_token_is_400(service: Service, token: str) -> None:
    answer = await service.client.get(CHANGES, params={"since": token})
    assert (answer.status_code, "since" in answer.json()["hint"]) == (400, True)


@pytest.mark.parametrize("limit", ["0", "1001", "x"])
async def test_a_limit_that_is_out_of_bounds_is_400(service: Service, limit: str) -> None:
    assert (await service.client.get(CHANGES, params={"limit": limit})).status_code == 400


async def test_an_empty_token_is_none(service: Service, task: dict[str, Any]) -> None:
    assert (await service.client.get(f"{CHANGES}?since=")).json()["tasks"] == [task]


async def test_a_document_of_a_former_release_is_filled_up(service: Service, pool: Pool, task: dict[str, Any]) -> None:
    token = (await changes(service))["next"]
    await service.client.put(f"{TASKS}/{task['id']}", json={"title": "x"})
    lacking = "UPDATE tasks SET document = (document::jsonb - 'priority' - 'tags')::text"
    await sql(pool, lacking)
    for since in (None, token):
        [found] = (await changes(service, since))["tasks"]
        assert (found["priority"], found["tags"]) == (None, [])


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "POST"])
async def test_changes_are_only_read(service: Service, method: str) -> None:
    answer = await service.client.request(method, f"{TASKS}/changes", json={"title": "x"})
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
