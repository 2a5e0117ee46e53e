"""Filters, search, orders and pages of the list (docs/http-api.md, "Lists")."""

import asyncio
import base64
import json
import re
from datetime import UTC, datetime
from itertools import chain
from typing import Any
from uuid import UUID

import httpx2
import pytest

from api.parameters import MOST_WORDS, distinct_words
from db.pool import Pool
from events.store.append import PendingAppend, append_one
from events.task import Event, Metadata, Task, TaskCreated, TaskEvent, evolve
from tests.service import TASKS, Service

NEXT = re.compile(r'<([^>]+)>; rel="next"')


async def create(service: Service, *titles: str, **fields: Any) -> list[dict[str, Any]]:
    return [(await service.client.post(TASKS, json={"title": t, **fields})).json() for t in titles]


async def titles(service: Service, query: str = "") -> list[str]:
    answer = await service.client.get(f"{TASKS}?{query}")
    assert answer.status_code == 200, answer.text
    return [task["title"] for task in answer.json()]


def next_page(answer: httpx2.Response) -> str | None:
    found = NEXT.fullmatch(answer.headers.get("link", ""))
    return found[1] if found else None


async def walk(service: Service, query: str) -> list[list[str]]:
    """Return the titles of each page from the first to the last."""
    pages = []
    path: str | None = f"{TASKS}?{query}"
    while path:
        answer = await service.client.get(path)
        assert answer.status_code == 200, answer.text
        pages.append([task["title"] for task in answer.json()])
        path = next_page(answer)
    return pages


@pytest.fixture
async def three(service: Service) -> Service:
    for title, completed in (("one", False), ("two", True), ("three", False)):
        await create(service, title, completed=completed)
    return service


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["three", "two", "one"]),
        ("status=all", ["three", "two", "one"]),
        ("status=ALL", ["three", "two", "one"]),
        ("status=pending", ["three", "one"]),
        ("status=Pending", ["three", "one"]),
        ("status=incomplete", ["three", "one"]),
        ("status=completed", ["two"]),
        ("status=complete", ["two"]),
        ("completed=true", ["two"]),
        ("completed=True", ["two"]),
        ("completed=false", ["three", "one"]),
        ("status=all&completed=true", ["two"]),
        ("status=pending&completed=false", ["three", "one"]),
        ("sort=created_at", ["three", "two", "one"]),
        ("sort=created_at&order=asc", ["one", "two", "three"]),
        ("sort=created_at&order=ASC", ["one", "two", "three"]),
        ("sort=-created_at", ["three", "two", "one"]),
        ("sort=updated_at&order=asc", ["one", "two", "three"]),
        ("sort=-updated_at", ["three", "two", "one"]),
        ("sort=title", ["one", "three", "two"]),
        ("sort=title&order=asc", ["one", "three", "two"]),
        ("sort=-title", ["two", "three", "one"]),
        ("sort=TITLE&order=desc", ["two", "three", "one"]),
        ("limit=2", ["three", "two"]),
        ("limit=1&offset=1", ["two"]),
        ("offset=3", []),
        ("offset=2147483647", []),
        ("unknown=1", ["three", "two", "one"]),
        ("status=todo", ["three", "one"]),
        ("status=Done", ["two"]),
        ("sort=created", ["three", "two", "one"]),
        ("sort=createdAt", ["three", "two", "one"]),
        ("sort=created_asc", ["one", "two", "three"]),
        ("sort=created_at_asc", ["one", "two", "three"]),
        ("sort=date:asc", ["one", "two", "three"]),
        ("sort=DATE:DESC", ["three", "two", "one"]),
        ("sort=-date", ["three", "two", "one"]),
        ("sort=updated:asc", ["one", "two", "three"]),
        ("sort=alpha", ["one", "three", "two"]),
        ("sort=name_desc", ["two", "three", "one"]),
        ("sort=title:asc", ["one", "three", "two"]),
        ("sort=created_desc&order=asc", ["one", "two", "three"]),
        ("sort_by=title", ["one", "three", "two"]),
        ("sort_by=created_at&sort_order=asc", ["one", "two", "three"]),
        ("sort_by=title&order=desc", ["two", "three", "one"]),
        ("sort=title&sort_by=name&order=asc&sort_order=ASC", ["one", "three", "two"]),
        ("skip=1", ["two", "one"]),
        ("skip=1&limit=1", ["two"]),
        ("offset=1&skip=1", ["two", "one"]),
        ("page=1", ["three", "two", "one"]),
        ("page=1&page_size=2", ["three", "two"]),
        ("page=2&page_size=2", ["one"]),
        ("page=2&per_page=1", ["two"]),
        ("page=3&limit=1", ["one"]),
        ("per_page=2", ["three", "two"]),
        ("page=4&per_page=1", []),
        (
            "status=&completed=&search=&sort=&sort_by=&order=&limit=&offset=&skip=&page=&per_page=&cursor=&as_of=",
            ["three", "two", "one"],
        ),
        ("sort=title&order=&limit=2&cursor=", ["one", "three"]),
        ("status&limit&completed&sort=title", ["one", "three", "two"]),
        ("q=two=", []),
        ("q=two&search=two", ["two"]),
        ("q=", ["three", "two", "one"]),
    ],
)
async def test_each_filter_and_order(three: Service, query: str, expected: list[str]) -> None:
    assert await titles(three, query) == expected


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("status=finished", ["all", "pending", "completed"]),
        ("completed=yes", ["true", "false"]),
        ("sort=id", ["created_at", "updated_at", "title"]),
        ("order=up", ["asc", "desc"]),
        ("limit=0", ["1"]),
        ("limit=1001", ["1000"]),
        ("limit=x", ["whole number"]),
        ("limit=99999999999999999999", ["1000"]),
        ("offset=-1", ["0"]),
        ("offset=2147483648", ["2147483647"]),
        ("offset=99999999999999999999", ["2147483647"]),
        ("q=a%00b", ["NUL"]),
        ("search=%00", ["NUL"]),
        ("q=" + "x" * 256, ["255"]),
        ("cursor=nonsense", ["Link"]),
        ("cursor=%F0%9F%A5%9B", ["Link"]),
        ("cursor=bnVsbA", ["Link"]),  # null
        ("cursor=W10", ["Link"]),  # []
        ("cursor=WzEsMiwzXQ", ["Link"]),  # [1,2,3]
        ("status=pending&completed=true", ["status", "completed"]),
        ("status=pending=", ["all", "pending", "completed"]),
        ("limit=5=", ["whole number"]),
        ("cursor=AAAA==", ["Link"]),
        ("q=one&search=two", ["q", "search"]),
        ("sort=created__asc", ["created_at", "updated_at", "title"]),
        ("sort=title_up", ["created_at", "updated_at", "title"]),
        ("sort=--title", ["created_at", "updated_at", "title"]),
        ("sort_by=id", ["created_at", "updated_at", "title"]),
        ("sort_order=up", ["asc", "desc"]),
        ("sort=title&sort_by=created", ["sort", "sort_by"]),
        ("order=asc&sort_order=desc", ["order", "sort_order"]),
        ("offset=1&skip=2", ["offset", "skip"]),
        ("page=0", ["1"]),
        ("page_size=0", ["1"]),
        ("per_page=1001", ["1000"]),
        ("page=2&offset=1", ["page", "offset"]),
        ("page=2&skip=1", ["page", "skip"]),
        ("page_size=2&per_page=3", ["page_size", "per_page"]),
        ("page_size=2&limit=3", ["page_size", "limit"]),
        ("page=2147483647", ["page"]),
    ],
)
async def test_a_bad_value_is_400_and_says_what_is_allowed(service: Service, query: str, names: list[str]) -> None:
    answer = await service.client.get(f"{TASKS}?{query}")
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert isinstance(problem["detail"], str)
    for name in names:
        assert name in problem["detail"] + problem.get("hint", "")


@pytest.mark.parametrize(
    "query",
    ["status=x", "completed=x", "q=%00", "search=%00", "sort=x", "order=x", "limit=0", "offset=-1", f"q={'x' * 256}"],
)
async def test_a_parameter_at_fault_is_named_as_it_was_sent(service: Service, query: str) -> None:
    answer = await service.client.get(f"{TASKS}?{query}")
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == [query.partition("=")[0]]


async def test_words_are_found_in_title_or_description_in_any_case(service: Service) -> None:
    await create(service, "Buy MILK", description="two Litres, 100% whole")
    await create(service, "Call mum", description=None)
    await create(service, "Ärger_vermeiden")
    for query, expected in {
        "q=milk": ["Buy MILK"],
        "search=milk": ["Buy MILK"],
        "q=LITRES+buy": ["Buy MILK"],
        "q=buy+mum": [],
        "q=ärger": ["Ärger_vermeiden"],
        "q=%25": ["Buy MILK"],
        "q=_": ["Ärger_vermeiden"],
        "q=100%25+WHOLE": ["Buy MILK"],
        "q=%5C": [],
        "q=m": ["Ärger_vermeiden", "Call mum", "Buy MILK"],
    }.items():
        assert await titles(service, query) == expected, query


async def test_the_number_of_words_in_a_search_is_bounded(service: Service) -> None:
    """Each word costs a look at every text, so repeated words and those within another are left out."""
    await create(service, "abcdefghijklmnopqrstuvwxyz")
    many = [f"{chr(97 + n)}{chr(98 + n)}" for n in range(MOST_WORDS + 1)]
    assert len(await titles(service, f"q={'+'.join(many[:-1])}")) == 1
    assert len(await titles(service, f"q={'+'.join([*many[:-1], *many[:-1]])}")) == 1
    assert len(await titles(service, f"q={'+'.join([*many, 'abcdefghijklmnop'])}")) == 1
    for name in ("q", "search"):
        answer = await service.client.get(f"{TASKS}?{name}={'+'.join(many)}")
        assert answer.status_code == 400
        assert answer.json()["hint"].startswith(f"{name} must have at most {MOST_WORDS} words: ")


def test_words_are_in_the_same_order_in_every_process() -> None:
    """A cursor is bound to these words, and another process may read it."""
    assert distinct_words("b oat a milk b oatmilk A") == ("oatmilk", "b", "A")


async def test_titles_sort_without_regard_to_case(service: Service) -> None:
    await create(service, "b", "A", "a", "B")
    assert [t.lower() for t in await titles(service, "sort=title")] == ["a", "a", "b", "b"]


async def test_a_change_moves_a_task_to_the_front_by_updated_at(service: Service) -> None:
    first, _ = await create(service, "first", "second")
    await service.client.patch(f"{TASKS}/{first['id']}/complete")
    assert await titles(service, "sort=updated_at") == ["first", "second"]


async def test_a_last_page_has_no_next(service: Service) -> None:
    await create(service, "a", "b")
    assert next_page(await service.client.get(f"{TASKS}?limit=2")) is None
    assert next_page(await service.client.get(f"{TASKS}?limit=1")) is not None


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("sort", ["created_at", "updated_at", "title"])
async def test_pages_together_are_the_list(service: Service, sort: str, order: str) -> None:
    names = [f"{letter}{n}" for n in range(3) for letter in "bAa"]
    await create(service, *names)
    whole = await titles(service, f"sort={sort}&order={order}")
    for limit in (1, 2, 4, 9, 10):
        pages = await walk(service, f"sort={sort}&order={order}&limit={limit}")
        assert list(chain.from_iterable(pages)) == whole
        assert [len(page) for page in pages[:-1]] == [limit] * (len(pages) - 1)


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("sort", ["created_at", "updated_at", "title"])
async def test_pages_lose_nothing_where_all_have_the_same_key(
    service: Service, pool: Pool, sort: str, order: str
) -> None:
    at = datetime(2026, 11, 20, 12, tzinfo=UTC)
    async with pool.acquire() as connection:
        for n in range(7):
            await _append(connection, TaskCreated("same", None, False), None, UUID(int=n + 1), at)
    seen = []
    path: str | None = f"{TASKS}?sort={sort}&order={order}&limit=3"
    while path:
        answer = await service.client.get(path)
        seen += [task["id"] for task in answer.json()]
        path = next_page(answer)
    assert seen == sorted((str(UUID(int=n + 1)) for n in range(7)), reverse=order == "desc")


async def _append(connection: Any, payload: TaskEvent, task: Task | None, task_id: UUID, at: datetime) -> None:
    event = Event(
        id=UUID(int=0),
        user_id="ann",
        task_id=task_id,
        version=1 if task is None else task.version + 1,
        at=at,
        actor="ann",
        payload=payload,
        metadata=Metadata(),
        salt=bytes(16),
    )
    await append_one(connection, PendingAppend(event, evolve(task, event)))


async def test_pages_walk_on_while_tasks_come_and_go(service: Service) -> None:
    names = [f"t{n:02}" for n in range(20)]
    tasks = await create(service, *names)
    answer = await service.client.get(f"{TASKS}?limit=10")
    await create(service, "new")
    await service.client.delete(f"{TASKS}/{tasks[15]['id']}")
    path = next_page(answer)
    assert path is not None
    rest = await service.client.get(path)
    assert [task["title"] for task in rest.json()] == names[9::-1]


async def test_a_link_keeps_the_question_and_leads_on_from_an_offset(service: Service) -> None:
    await create(service, "a", "b", "c", "d", completed=True)
    answer = await service.client.get(f"{TASKS}?status=completed&sort=title&offset=1&limit=2&search=")
    assert [task["title"] for task in answer.json()] == ["b", "c"]
    path = next_page(answer)
    assert path is not None
    assert path.startswith(f"{TASKS}?status=completed&sort=title&limit=2&cursor=")
    assert [task["title"] for task in (await service.client.get(path)).json()] == ["d"]


@pytest.mark.parametrize("other", ["status=pending", "completed=true", "q=x", "sort=title", "order=asc"])
async def test_a_cursor_is_bound_to_its_question(service: Service, other: str) -> None:
    await create(service, "a", "b")
    path = next_page(await service.client.get(f"{TASKS}?limit=1"))
    assert path is not None
    cursor = path.partition("cursor=")[2]
    answer = await service.client.get(f"{TASKS}?{other}&cursor={cursor}")
    assert answer.status_code == 400
    assert "begin again" in answer.json()["hint"]
    assert (await service.client.get(f"{TASKS}?limit=5&cursor={cursor}")).status_code == 200


def forged(bound_to: list[Any], key: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps([bound_to, key, "f" * 32]).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize("key", [1, 1.5, True, [], {}, None, "a\0", "\ud800"])
async def test_a_cursor_of_titles_with_another_key_is_400(service: Service, key: Any) -> None:
    answer = await service.client.get(f"{TASKS}?sort=title&cursor={forged([None, [], 'title', 'asc'], key)}")
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "key",
    [
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "2026-01-01",
        "2026-W01",
        "2026-01-01T00:00:00.000000",
        "infinity",
        "",
        5,
        None,
    ],
)
async def test_a_cursor_of_times_with_another_key_is_400(service: Service, key: Any) -> None:
    answer = await service.client.get(f"{TASKS}?cursor={forged([None, [], 'created_at', 'desc'], key)}")
    assert answer.status_code == 400


async def test_links_and_locations_keep_to_the_path_that_was_asked_for(service: Service) -> None:
    service.app.root_path = "/pre"
    first = await service.client.post(f"/pre{TASKS}", json={"title": "a"})
    await service.client.post(f"/pre{TASKS}", json={"title": "b"})
    assert first.headers["location"] == f"/pre{TASKS}/{first.json()['id']}"
    path = next_page(await service.client.get(f"/pre{TASKS}?limit=1"))
    assert path is not None
    assert path.startswith(f"/pre{TASKS}?")
    assert (await service.client.get(path)).json() == [first.json()]


async def test_cursor_and_offset_exclude_each_other(service: Service) -> None:
    await create(service, "a", "b")
    path = next_page(await service.client.get(f"{TASKS}?limit=1"))
    assert (await service.client.get(f"{path}&offset=1")).status_code == 400


async def test_a_link_leads_on_from_a_page_by_number(service: Service) -> None:
    await create(service, "a", "b", "c", "d", "e")
    answer = await service.client.get(f"{TASKS}?page=2&sort=title&per_page=2")
    assert [task["title"] for task in answer.json()] == ["c", "d"]
    path = next_page(answer)
    assert path is not None
    assert path.startswith(f"{TASKS}?sort=title&limit=2&cursor=")
    assert [task["title"] for task in (await service.client.get(path)).json()] == ["e"]
    assert await walk(service, "page=1&limit=3&sort=title") == [["a", "b", "c"], ["d", "e"]]


async def test_a_page_by_number_has_fifty_tasks_unless_said_otherwise(service: Service) -> None:
    await create(service, *(str(number) for number in range(51)))
    assert [len(page) for page in await walk(service, "page=1")] == [50, 1]


async def test_a_list_holds_a_thousand_and_its_next_page_the_rest(service: Service) -> None:
    for some in range(0, 1003, 100):
        await asyncio.gather(*(create(service, str(n)) for n in range(some, min(some + 100, 1003))))
    pages = await walk(service, "")
    assert [len(page) for page in pages] == [1000, 3]
    assert len(set(chain.from_iterable(pages))) == 1003


async def test_a_user_does_not_see_another_users_tasks(service: Service) -> None:
    await create(service, "mine")
    async with service.as_user("bob") as bob:
        assert (await bob.get("/api/bob/tasks")).json() == []


async def test_a_list_of_the_past_is_ordered_and_filtered_like_the_present_one(service: Service) -> None:
    made = [
        await service.client.post(TASKS, json={"title": title, "description": "milk"})
        for title in ("b", "A", "a", "\u00e4", "B 1")
    ]
    await service.client.patch(f"{made[0].headers['location']}/complete")
    for sort in ("created_at", "-created_at", "updated_at", "-updated_at", "title", "-title"):
        for rest in ("", "&completed=false", "&q=b%20milk", "&limit=2&offset=1"):
            present = await service.client.get(f"{TASKS}?sort={sort}{rest}")
            past = await service.client.get(f"{TASKS}?sort={sort}{rest}&as_of=2100-01-01T00:00:00Z")
            assert past.json() == present.json()
