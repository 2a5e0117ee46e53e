"""Lists of the past have the same orders, pages and search as the present list."""

from itertools import product
from typing import Any

import pytest

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
