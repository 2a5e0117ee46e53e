"""Search finds the same tasks as ILIKE, and folds each text once, not once for each word."""

import random

import orjson
from uuid_utils.compat import uuid7

from commands.commands import CreateTask
from commands.handler import handle
from db.pool import Pool
from events.task import Metadata
from queries.tasks import ListQuery, fetch_tasks

TEXTS = [
    *("Buy MILK", "100% whole_milk", r"C:\new\%TEMP%", "ÄRGER vermeiden", "Straße STRASSE ẞ", "ΟΔΟΣ οδος ΟΔΟΣΑ"),
    *("\u0130stanbul ISTANBUL \u0131stanbul", "\u212a K \u212b Å", "ǅungla ǆ Ǆ", "ﬁn FIN ŉ", "e\u0301 É", "🎉 Party"),
]
ILIKE = """
SELECT title FROM tasks WHERE user_id = 'ann' AND (title || E'\\n' || coalesce(description, '')) ILIKE ALL ($1)
ORDER BY created_at DESC, id DESC
"""


async def test_words_are_found_as_ilike_finds_them(pool: Pool) -> None:
    for title, description in zip(TEXTS, [None, *TEXTS[:-1]], strict=True):
        command = CreateTask(user_id="ann", task_id=uuid7(), title=title, description=description)
        await handle(pool, command, actor="ann", metadata=Metadata())
    chance = random.Random(7)  # noqa: S311 - draws lots
    found = 0
    for _ in range(300):
        words = [_part(chance) for _ in range(chance.choice((1, 1, 2, 3)))]
        page = await fetch_tasks(pool, "ann", ListQuery(words=words, limit=100))
        patterns = [f"%{word.translate({ord(each): chr(92) + each for each in '%_' + chr(92)})}%" for word in words]
        expected = [row["title"] for row in await pool.fetch(ILIKE, patterns)]
        assert [task["title"] for task in orjson.loads(page.body)] == expected, words
        found += len(expected)
    assert found > 300


def _part(chance: random.Random) -> str:
    text = chance.choice(TEXTS)
    start = chance.randrange(len(text))
    part = text[start : start + chance.randint(1, 4)]
    return chance.choice((part, part.upper(), part.lower(), part.swapcase()))
