"""Each filter and order of a list, combined with each other, against a plain reckoning in Python."""

import asyncio
import random
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import pytest

from tests.service import TASKS, Service

Task = dict[str, Any]
RANKS = {None: None, "low": 1, "medium": 2, "high": 3}
TODAY = datetime.now(UTC).date()
DUE = [
    None,
    *((TODAY + timedelta(days=days)).isoformat() for days in (-400, -2, -1, 0, 1, 2, 30)),
    *(f"{TODAY + timedelta(days=days)}T12:00:00.000000Z" for days in (-30, -2, 2)),
    "0001-01-01",
    "9999-12-31T23:59:59.999999Z",
]


async def _made(service: Service, number: int, seed: int) -> list[Task]:
    draw = random.Random(seed)  # noqa: S311 - no secret
    for _ in range(number):
        body = {
            "title": draw.choice(["Buy milk", "buy MILK", "Écrire", "zebra", "10", "9"]),
            "completed": draw.random() < 0.4,
            "priority": draw.choice([*RANKS]),
            "due_date": draw.choice(DUE),
            "tags": draw.sample(["home", "shop", "Home", "50%", "a_b"], draw.randrange(4)),
        }
        made = (await service.client.post(TASKS, json=body)).json()
        if draw.random() < 0.3:
            await service.client.patch(f"{TASKS}/{made['id']}/complete")
    found: list[Task] = (await service.client.get(TASKS)).json()
    assert len(found) == number
    return found


def is_overdue(task: Task, zone: str) -> bool:
    due = task["due_date"]
    if due is None or task["completed"]:
        return False
    now = datetime.now(UTC)
    if len(due) == 10:
        return date.fromisoformat(due) < now.astimezone(ZoneInfo(zone)).date()
    return datetime.fromisoformat(due) < now


FILTERS: list[tuple[list[tuple[str, str]], Callable[[Task], bool]]] = [
    ([], lambda _: True),
    ([("status", "pending")], lambda task: not task["completed"]),
    ([("priority", "HIGH")], lambda task: task["priority"] == "high"),
    ([("tag", "home")], lambda task: "home" in task["tags"]),
    ([("tag", "50%"), ("tag", "a_b")], lambda task: {"50%", "a_b"} <= {*task["tags"]}),
    ([("due_before", TODAY.isoformat())], lambda task: task["due_date"] is not None and task["due_date"] < str(TODAY)),
    ([("due_after", TODAY.isoformat())], lambda task: task["due_date"] is not None and task["due_date"] >= str(TODAY)),
    ([("overdue", "true")], lambda task: is_overdue(task, "UTC")),
    ([("overdue", "false"), ("tz", "Pacific/Kiritimati")], lambda task: not is_overdue(task, "Pacific/Kiritimati")),
    ([("overdue", "true"), ("tz", "Pacific/Niue")], lambda task: is_overdue(task, "Pacific/Niue")),
    ([("q", "milk")], lambda task: "milk" in task["title"].lower()),
    ([("q", "shop")], lambda task: "shop" in task["tags"]),
]
SORTS = ["created_at", "updated_at", "title", "due_date", "priority", "completed_at"]


def in_order(tasks: list[Task], sort: str, backwards: bool) -> list[str]:
    def key(task: Task) -> Any:
        value = task[sort]
        if sort == "title":
            value = {"Écrire": "ecrire"}.get(value, value.lower())
        return RANKS[value] if sort == "priority" else value

    there = sorted((task for task in tasks if key(task) is not None), key=lambda task: (key(task), task["id"]))
    nulls = sorted((task for task in tasks if key(task) is None), key=lambda task: task["id"])
    if backwards:
        return [task["id"] for task in (*reversed(there), *reversed(nulls))]
    return [task["id"] for task in (*there, *nulls)]


def combinations() -> Iterator[tuple[list[tuple[str, str]], Callable[[Task], bool]]]:
    for at, (one, is_one) in enumerate(FILTERS):
        for two, is_two in FILTERS[at:]:
            names = [name for name, _ in one]
            if not two or not any(name in names and name != "tag" for name, _ in two):
                yield (
                    [*one, *two],
                    lambda task, is_one=is_one, is_two=is_two: is_one(task) and is_two(task),  # type: ignore[misc]
                )


async def pages(service: Service, parameters: list[tuple[str, str]]) -> list[str]:
    """Return the ids of all pages, by their links."""
    answer = await service.client.get(f"{TASKS}?{urlencode(parameters)}")
    assert answer.status_code == 200, answer.text
    found = [task["id"] for task in answer.json()]
    while "next" in answer.links:
        answer = await service.client.get(answer.links["next"]["url"])
        assert answer.status_code == 200, answer.text
        found += [task["id"] for task in answer.json()]
    return found


@pytest.mark.parametrize("past", [False, True], ids=["present", "past"])
async def test_every_filter_with_every_other_in_every_order(service: Service, past: bool) -> None:
    tasks = await _made(service, 60, seed=20261120)
    moment = [("as_of", datetime.now(UTC).isoformat())] if past else []
    asked = 0
    for filters, fits in combinations():
        wanted = [task for task in tasks if fits(task)]
        for sort in SORTS:
            backwards = asked % 2 == 0
            size = ("limit", str(7 + asked % 50))
            order = ("order", "desc" if backwards else "asc")
            found = await pages(service, [*filters, ("sort", sort), order, size, *moment])
            assert found == in_order(wanted, sort, backwards), (filters, sort, order)
            asked += 1
            await asyncio.sleep(0)
    assert asked > 300


async def test_default_orders(service: Service) -> None:
    tasks = await _made(service, 12, seed=1)
    for sort, backwards in (("due_date", False), ("priority", True), ("completed_at", True), ("due", False)):
        found = await pages(service, [("sort", sort), ("limit", "5")])
        assert found == in_order(tasks, "due_date" if sort == "due" else sort, backwards)


@pytest.mark.parametrize(
    ("parameters", "hint"),
    [
        ({"priority": "urgent"}, "priority must be 'low', 'medium' or 'high'"),
        ({"tag": "home\nshop"}, "tag must not contain control characters"),
        ({"due_before": "soon"}, "due_before must be a date"),
        ({"overdue": "maybe"}, "overdue must be true or false"),
        ({"overdue": "true", "tz": "Mars/Olympus"}, "tz must be the name of a time zone"),
        ({"overdue": "true", "tz": "../etc/passwd"}, "tz must be the name of a time zone"),
        ({"sort": "urgency"}, "sort must be created_at, updated_at, title, due_date, priority, completed_at"),
    ],
)
async def test_a_bad_value_is_400_and_says_what_is_allowed(
    service: Service, parameters: dict[str, str], hint: str
) -> None:
    answer = await service.client.get(TASKS, params=parameters)
    assert answer.status_code == 400
    assert hint in answer.text


@pytest.mark.parametrize("overdue", [{}, {"overdue": "true"}])
@pytest.mark.parametrize(
    ("as_of", "zone"), [("0001-01-01T00:00:00Z", "America/New_York"), ("9999-12-31T23:59:59Z", "Asia/Tokyo")]
)
async def test_the_first_and_the_last_moment_have_a_day_in_every_zone(
    service: Service, as_of: str, zone: str, overdue: dict[str, str]
) -> None:
    await service.client.post(TASKS, json={"title": "x", "due_date": "2026-12-01"})
    answer = await service.client.get(TASKS, params={"as_of": as_of, "tz": zone, **overdue})
    assert (answer.status_code, len(answer.json())) == (200, int(as_of[0] == "9"))


async def test_a_list_of_the_overdue_changes_its_tag_with_time(service: Service) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=0.5)
    await service.client.post(TASKS, json={"title": "x", "due_date": soon.isoformat()})
    before = await service.client.get(TASKS, params={"overdue": "true"})
    assert before.json() == []
    await asyncio.sleep(0.6)
    condition = {"If-None-Match": before.headers["etag"]}
    after = await service.client.get(TASKS, params={"overdue": "true"}, headers=condition)
    assert (after.status_code, len(after.json())) == (200, 1)


async def test_counts(service: Service) -> None:
    empty = await service.client.get(f"{TASKS}/stats")
    nothing = {"total": 0, "pending": 0, "completed": 0, "overdue": 0, "by_tag": {}}
    assert empty.json() == {**nothing, "by_priority": {"low": 0, "medium": 0, "high": 0, "none": 0}}
    tasks = await _made(service, 30, seed=2)
    answer = await service.client.get(f"{TASKS}/stats", params={"tz": "Pacific/Kiritimati"})
    tags = [tag for task in tasks for tag in task["tags"]]
    assert answer.json() == {
        "total": 30,
        "pending": sum(not task["completed"] for task in tasks),
        "completed": sum(task["completed"] for task in tasks),
        "overdue": sum(is_overdue(task, "Pacific/Kiritimati") for task in tasks),
        "by_priority": {
            name: sum(task["priority"] == (None if name == "none" else name) for task in tasks)
            for name in ("low", "medium", "high", "none")
        },
        "by_tag": {tag: tags.count(tag) for tag in {*tags}},
    }
    condition = {"If-None-Match": answer.headers["etag"]}
    same = await service.client.get(f"{TASKS}/stats", params={"tz": "Pacific/Kiritimati"}, headers=condition)
    assert same.status_code == 304
