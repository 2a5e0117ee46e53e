"""Search finds a word wherever its search text occurs, with the characters that LIKE treats as special."""

import random

import orjson
from uuid_utils.compat import uuid7

from commands.commands import CreateTask
from commands.handler import handle
from db.long_reads import Scans
from db.pool import Pool
from events.search_text import search_text
from events.task import Metadata
from queries.tasks import ListQuery, fetch_tasks
from tests.arrange import store_of

TEXTS = [
    *("Buy MILK", "100% whole_milk", r"C:\new\%TEMP%", "ÄRGER vermeiden", "Straße STRASSE ẞ", "ΟΔΟΣ οδος ΟΔΟΣΑ"),
    *("\u0130stanbul ISTANBUL \u0131stanbul", "\u212a K \u212b Å", "ǅungla ǆ Ǆ", "ﬁn FIN ŉ", "e\u0301 É", "🎉 Party"),
]


async def test_words_are_found_in_title_and_description(pool: Pool) -> None:
    tasks = list(zip(TEXTS, [None, *TEXTS[:-1]], strict=True))
    for title, description in tasks:
        command = CreateTask(user_id="ann", task_id=uuid7(), fields={"title": title, "description": description})
        await handle(store_of(pool), command, actor="ann", metadata=Metadata())
    chance = random.Random(7)  # noqa: S311 - draws lots
    found = 0
    for _ in range(300):
        words = [_part(chance) for _ in range(chance.choice((1, 1, 2, 3)))]
        page = await fetch_tasks(pool, Scans(pool), "ann", ListQuery(words=words, limit=100))
        texts = {title: search_text(f"{title}\n{description or ''}") for title, description in reversed(tasks)}
        expected = [title for title, text in texts.items() if all(search_text(word) in text for word in words)]
        assert [task["title"] for task in orjson.loads(page.body)] == expected, words
        found += len(expected)
    assert found > 300


def _part(chance: random.Random) -> str:
    text = chance.choice(TEXTS)
    start = chance.randrange(len(text))
    part = text[start : start + chance.randint(1, 4)]
    return chance.choice((part, part.upper(), part.lower(), part.swapcase()))
