"""Lists of the past have the same orders, pages and search as the present list."""

import asyncio
import base64
from datetime import UTC, datetime
from itertools import product
from typing import Any

import asyncpg
import httpx2
import orjson
import pytest

from tests.arrange import until_locked_out
from tests.conftest import on_plain_postgres
from tests.long_logs import make_tasks
from tests.service import TASKS, Service

pytestmark = pytest.mark.once

LATER = {"as_of": "2100-01-01T00:00:00Z"}
MANY = 2_500
"""Tasks: more than are sorted by title at once."""


async def pages(service: Service, parameters: dict[str, Any], *, most: int) -> list[Any]:
    """Return the list's first pages, `most` of them at the most."""
    found = []
    answer = await service.client.get(TASKS, params=parameters)
    while True:
        assert answer.status_code == 200, answer.text
        found.append(answer.json())
        following = answer.links.get("next", {}).get("url")
        if following is None or len(found) == most:
            return found
        answer = await service.client.get(following)


async def test_orders_and_pages_are_those_of_the_present_list(service: Service) -> None:
    async with service.pool.acquire() as connection:
        await make_tasks(connection, "ann", MANY)
    for sort, order in product(("created_at", "updated_at", "title"), ("asc", "desc")):
        for more in ({"limit": 100}, {"limit": 7, "offset": MANY - 10}, {"limit": 400, "completed": "true"}):
            parameters = {"sort": sort, "order": order, **more}
            expected = await pages(service, parameters, most=3)
            assert await pages(service, {**parameters, **LATER}, most=3) == expected
            assert expected[0]


TEXTS = (
    *(
        "Buy Milk",
        "100% of_it \\ %_",
        "İstanbul ISTANBUL ıslak",
        "ΟΔΟΣ ΣΑΣ σας ς",
        "Straße STRASSE ẞ",
        "ŉ ʼn ǰ",
        "ǅ Ǆ ǆ",
    ),
    *("ﬀ ﬁ", "K Å Ω", "Ա ա Ⴀ ⴀ ა Ა", "Ꭰ ꭰ ᏸ", "𐐀 𐐨 𝐀", "é É e\u0301", "日本語 ＡＢＣ ａｂｃ", "\U0001f600 x"),
)


async def test_search_is_that_of_the_present_list(service: Service) -> None:
    for number, text in enumerate(TEXTS):
        body = {"title": text, "description": None if number % 2 else f"about\n{text.swapcase()}"}
        assert (await service.client.post(TASKS, json=body)).status_code == 201
    words = {word for text in TEXTS for part in text.split() for word in (part, part.lower(), part.upper(), part[:1])}
    for word in (*sorted(words), "i about", "milk buy", "y m", "x\nabout"):
        expected = (await service.client.get(TASKS, params={"q": word})).json()
        assert (await service.client.get(TASKS, params={"q": word, **LATER})).json() == expected, word


@on_plain_postgres  # a worker's locks are seen there only
async def test_a_write_that_was_under_way_moves_no_task_from_page_to_page(
    service: Service, other: asyncpg.Connection
) -> None:
    """Its time is before the list's moment, and it is committed after the first page was read."""
    made = [(await service.client.post(TASKS, json={"title": f"Task {number}"})).json() for number in range(3)]
    async with asyncio.TaskGroup() as group:
        async with other.transaction():
            await other.execute("SELECT FROM streams WHERE user_id = 'ann' FOR UPDATE")
            path = f"{TASKS}/{made[0]['id']}"
            write = group.create_task(service.client.patch(path, json={"title": "Changed"}))
            await until_locked_out(other)
            moment = datetime.now(UTC).isoformat()
            first = await service.client.get(TASKS, params={"sort": "updated_at", "limit": 1, "as_of": moment})
        changed = (await write).json()
    assert changed["updated_at"] < moment
    second = await service.client.get(first.links["next"]["url"])
    third = await service.client.get(second.links["next"]["url"])
    assert [*first.json(), *second.json(), *third.json()] == made[::-1]
    assert third.links == {}


@pytest.mark.parametrize("upto", [[], [-1], [2**63], [1.0], [True], ["1"], [None], [1, 1]])
async def test_a_cursor_with_another_end_of_the_log_is_400(service: Service, upto: list[Any]) -> None:
    for number in range(2):
        await service.client.post(TASKS, json={"title": f"Task {number}"})
    first = await service.client.get(TASKS, params={**LATER, "limit": 1})
    cursor = httpx2.URL(first.links["next"]["url"]).params["cursor"]
    question, key, id_, _ = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    forged = base64.urlsafe_b64encode(orjson.dumps([question, key, id_, *upto])).decode()
    answer = await service.client.get(TASKS, params={**LATER, "limit": 1, "cursor": forged})
    assert (answer.status_code, "can't be read" in answer.json()["hint"]) == (400, True)
