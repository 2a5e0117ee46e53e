"""Work units of verify and rebuild: users in key order, in groups with about equally many events."""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import NamedTuple

import asyncpg

from db.pool import Connection

BATCH = 2000
"""Number of events read at once, with tasks written in one transaction: some milliseconds and a few MB, or 120 MB if
all are of the largest size."""
_UNIT = 10 * BATCH
_PAGE = 500
_TAKEN = 8 * _UNIT
"""Number of events of the users divided by shard at once: with 32 shards (Citus's default), some batches for each."""


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


# Carried out by the coordinator alone.
SHARDS = """
SELECT user_id, get_shard_id_for_distribution_column('streams', user_id) AS shard
FROM unnest($1::text[]) AS t (user_id)
"""


async def shards(connection: Connection, users: Sequence[str]) -> dict[str, int]:
    """Return the shard of each user. Raise `asyncpg.UndefinedFunctionError` if the database isn't Citus."""
    return {row["user_id"]: row["shard"] for row in await connection.fetch(SHARDS, users)}


async def by_shard(connection: Connection, units: AsyncIterator[WorkUnit]) -> AsyncIterator[WorkUnit]:
    """Divide the units' users anew, so that the users of a unit are on one shard (Citus).

    Then each of its statements runs on one server, in one transaction. Some units are taken at once, since few users of
    a single one are on the same shard. Without Citus, users are divided as they were.
    """
    taken, weight = list[WorkUnit](), 0
    async for unit in units:
        taken.append(unit)
        weight += sum(map(_weight, unit.streams))
        if weight >= _TAKEN:
            for each in await _divided(connection, taken):
                yield each
            taken, weight = [], 0
    for each in await _divided(connection, taken):
        yield each


async def _divided(connection: Connection, units: Sequence[WorkUnit]) -> list[WorkUnit]:
    streams = [stream for unit in units for stream in unit.streams]
    try:
        shard_of = await shards(connection, [stream.user_id for stream in streams])
    except asyncpg.UndefinedFunctionError:
        return list(units)
    on_shard = defaultdict[int, list[StreamSize]](list)
    for stream in streams:
        on_shard[shard_of[stream.user_id]].append(stream)
    return [WorkUnit(units[0].after, piece) for those in on_shard.values() for piece in split(those, _UNIT)]


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
        weight = _weight(stream)
        if piece and weight > left:
            yield piece
            piece, left = [], events
        piece.append(stream)
        left -= weight
    if piece:
        yield piece


def _weight(stream: StreamSize) -> int:
    return max(stream.events, _LEAST)


_LEAST = 10
"""Smallest number of events that a user counts for, since a user with few events is some work too."""
