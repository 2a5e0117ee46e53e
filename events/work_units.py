"""Whom to verify or rebuild: users in key order, in portions of about as many events."""

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import NamedTuple

from db.pool import Connection

BATCH = 2000
"""Events that are read at once, and whose tasks are posted in one transaction: some milliseconds, and a few MB; 120 MB
where all are as large as they can be."""
_PORTION = 10 * BATCH
_PAGE = 500


class Head(NamedTuple):
    """A user, and how many events their stream counted when it was looked up: by this, work is shared out."""

    user_id: str
    seq: int


class WorkUnit(NamedTuple):
    """Users for one process to go through. A walk that goes on behind `after` comes to them again."""

    after: str
    heads: list[Head]


PAGE = "SELECT user_id, seq FROM streams WHERE user_id > $1 ORDER BY user_id LIMIT $2"


async def everyone(connection: Connection, *, after: str = "") -> AsyncIterator[WorkUnit]:
    """All users behind `after` in key order (the database's), with those who have no stream, but tasks or events."""
    while True:
        page = [Head(*row) for row in await connection.fetch(PAGE, after, _PAGE)]
        upto = page[-1].user_id if len(page) == _PAGE else None
        for heads in split(page, _PORTION):
            yield WorkUnit(after, heads)
        async for strays in _strays(connection, after, upto):
            yield WorkUnit(after, strays)
        if upto is None:
            return
        after = upto


_STRAYS = """
SELECT user_id FROM (
    SELECT user_id FROM tasks WHERE user_id > $1 {upto} UNION SELECT user_id FROM events WHERE user_id > $1 {upto}
) AS known
WHERE NOT EXISTS (SELECT FROM streams WHERE streams.user_id = known.user_id)
ORDER BY user_id LIMIT $2
"""
STRAYS = _STRAYS.format(upto="AND user_id <= $3")
STRAYS_AT_THE_END = _STRAYS.format(upto="")


async def _strays(connection: Connection, after: str, upto: str | None) -> AsyncIterator[list[Head]]:
    """A sound database has none. Two statements, since a plan that fits both would read all the rest each time."""
    while True:
        if upto is None:
            rows = await connection.fetch(STRAYS_AT_THE_END, after, _PAGE)
        else:
            rows = await connection.fetch(STRAYS, after, _PAGE, upto)
        if rows:
            yield [Head(row["user_id"], 0) for row in rows]
        if len(rows) < _PAGE:
            return
        after = rows[-1]["user_id"]


SAMPLE = "SELECT user_id, seq FROM streams ORDER BY random() LIMIT $1"


async def some(connection: Connection, number: int) -> AsyncIterator[WorkUnit]:
    """So many users by lot, or all where there are fewer, and who has no stream behind one of them in key order.

    Reads all streams; of the rest, as much as some hundred users have.
    """
    heads = [Head(*row) for row in await connection.fetch(SAMPLE, number)]
    for piece in split(heads, _PORTION):
        yield WorkUnit("", piece)
    after = heads[0].user_id if len(heads) == number else ""
    page = await connection.fetch(PAGE, after, _PAGE)
    async for strays in _strays(connection, after, page[-1]["user_id"] if len(page) == _PAGE else None):
        yield WorkUnit("", strays)


ONE = "SELECT seq FROM streams WHERE user_id = $1"


async def one(connection: Connection, user_id: str) -> AsyncIterator[WorkUnit]:
    """This user alone, whether there is anything of them or not."""
    yield WorkUnit("", [Head(user_id, await connection.fetchval(ONE, user_id) or 0)])


TOTAL = "SELECT coalesce(sum(seq), 0) FROM streams WHERE user_id > $1"


async def total(connection: Connection, *, after: str = "") -> int:
    """The events of all users behind `after`, as their streams count them."""
    return int(await connection.fetchval(TOTAL, after))


def split(heads: Iterable[Head], events: int) -> Iterator[list[Head]]:
    """Pieces of one user, or of several who have no more than so many events together."""
    piece: list[Head] = []
    left = events
    for head in heads:
        weight = max(head.seq, _LEAST)
        if piece and weight > left:
            yield piece
            piece, left = [], events
        piece.append(head)
        left -= weight
    if piece:
        yield piece


_LEAST = 10
"""What a user weighs at least, in events: who has few is some work, too."""
