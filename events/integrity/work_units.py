"""Work units of verify and rebuild: users in key order, in groups with about equally many events."""

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import NamedTuple

from db.pool import Connection

BATCH = 2000
"""Number of events read at once, with tasks written in one transaction: some milliseconds and a few MB, or 120 MB if
all are of the largest size."""
_UNIT = 10 * BATCH
_PAGE = 500


class StreamSize(NamedTuple):
    """A user, and the number of events that their stream counted when it was read. Work is divided by this number."""

    user_id: str
    events: int


class WorkUnit(NamedTuple):
    """The users that one process goes through. To come to them again, go on after user id `after`."""

    after: str
    streams: list[StreamSize]


PAGE = "SELECT user_id, seq FROM streams WHERE user_id > $1 ORDER BY user_id LIMIT $2"


async def everyone(connection: Connection, *, after: str = "") -> AsyncIterator[WorkUnit]:
    """Yield all users after `after` in the database's key order, and those orphaned: tasks or events, but no stream."""
    while True:
        page = [StreamSize(*row) for row in await connection.fetch(PAGE, after, _PAGE)]
        upto = page[-1].user_id if len(page) == _PAGE else None
        for piece in split(page, _UNIT):
            yield WorkUnit(after, piece)
        async for orphans in _orphaned(connection, after, upto):
            yield WorkUnit(after, orphans)
        if upto is None:
            return
        after = upto


_ORPHANED = """
SELECT user_id FROM (
    SELECT user_id FROM tasks WHERE user_id > $1 {upto} UNION SELECT user_id FROM events WHERE user_id > $1 {upto}
) AS known
WHERE NOT EXISTS (SELECT FROM streams WHERE streams.user_id = known.user_id)
ORDER BY user_id LIMIT $2
"""
ORPHANED = _ORPHANED.format(upto="AND user_id <= $3")
ORPHANED_AT_THE_END = _ORPHANED.format(upto="")


async def _orphaned(connection: Connection, after: str, upto: str | None) -> AsyncIterator[list[StreamSize]]:
    """Yield the orphaned users after `after`, up to `upto` if given. A sound database has none.

    There are two statements, since a plan that fits both cases would read all the remaining users each time.
    """
    while True:
        if upto is None:
            rows = await connection.fetch(ORPHANED_AT_THE_END, after, _PAGE)
        else:
            rows = await connection.fetch(ORPHANED, after, _PAGE, upto)
        if rows:
            yield [StreamSize(row["user_id"], 0) for row in rows]
        if len(rows) < _PAGE:
            return
        after = rows[-1]["user_id"]


SAMPLE = "SELECT user_id, seq FROM streams ORDER BY random() LIMIT $1"


async def some(connection: Connection, number: int) -> AsyncIterator[WorkUnit]:
    """Yield `number` random users, or all if there are fewer, and the orphaned users on a page after one of them.

    Reads all streams. From the other tables, it reads the rows of some hundred users.
    """
    drawn = [StreamSize(*row) for row in await connection.fetch(SAMPLE, number)]
    for piece in split(drawn, _UNIT):
        yield WorkUnit("", piece)
    after = drawn[0].user_id if len(drawn) == number else ""
    page = await connection.fetch(PAGE, after, _PAGE)
    async for orphans in _orphaned(connection, after, page[-1]["user_id"] if len(page) == _PAGE else None):
        yield WorkUnit("", orphans)


ONE = "SELECT seq FROM streams WHERE user_id = $1"


async def one(connection: Connection, user_id: str) -> AsyncIterator[WorkUnit]:
    """Yield this user alone, even if they have no stream."""
    yield WorkUnit("", [StreamSize(user_id, await connection.fetchval(ONE, user_id) or 0)])


TOTAL = "SELECT coalesce(sum(seq), 0) FROM streams WHERE user_id > $1"


async def total(connection: Connection, *, after: str = "") -> int:
    """Count the events of all users after `after`, by their streams."""
    return int(await connection.fetchval(TOTAL, after))


def split(streams: Iterable[StreamSize], events: int) -> Iterator[list[StreamSize]]:
    """Divide users into groups: of several with at most `events` events together, or of a single user."""
    piece: list[StreamSize] = []
    left = events
    for stream in streams:
        weight = max(stream.events, _LEAST)
        if piece and weight > left:
            yield piece
            piece, left = [], events
        piece.append(stream)
        left -= weight
    if piece:
        yield piece


_LEAST = 10
"""Smallest number of events that a user counts for, since a user with few events is some work too."""
