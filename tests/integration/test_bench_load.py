"""The benchmarks load logs that live writes could have made."""

from collections import Counter
from typing import get_args
from uuid import UUID

from bench.load import Author, load, recorded_events
from db.pool import Pool
from events.store import log
from events.task import ErasedContent, Task, TaskErased, TaskEvent, UserErased, evolve
from tests import independent
from tests.service import COLUMNS

EVENTS = 500


async def test_the_made_log_verifies_and_ends_at_its_head(pool: Pool) -> None:
    async with pool.acquire() as connection:
        last = await load(connection, Author("ann"), EVENTS)
        await load(connection, Author("bob"), 1)

    rows = await pool.fetch("SELECT *, data::text AS data FROM events WHERE user_id = 'ann' ORDER BY seq")
    assert [row["seq"] for row in rows] == list(range(1, EVENTS + 1))
    assert [row["hash"] for row in rows] == independent.chain(rows)

    folded: dict[UUID, Task] = {}
    async for entry in log.read(pool, "ann", upto=EVENTS):
        task = evolve(folded.pop(entry.event.task_id, None), entry.event)
        if task is not None:
            folded[task.id] = task
    projected = await pool.fetch(f"SELECT {COLUMNS} FROM tasks WHERE user_id = 'ann'")
    assert {row["id"]: Task(**row) for row in projected} == folded

    stream = [tuple(row) for row in await pool.fetch("SELECT seq, hash FROM streams WHERE user_id = 'ann'")]
    assert stream == [(EVENTS, rows[-1]["hash"])] == [(last.seq, last.hash)]


def test_the_made_log_has_every_event_type_but_erasures_and_is_reproducible() -> None:
    first, again = (list(recorded_events(Author("ann", seed=7).events(EVENTS))) for _ in range(2))
    assert first == again
    assert first != list(recorded_events(Author("ann", seed=8).events(EVENTS)))
    kinds = Counter(type(entry.event.payload) for entry in first)
    assert kinds.keys() == {*get_args(TaskEvent)} - {TaskErased, UserErased, ErasedContent}
    assert {entry.event.version for entry in first} >= set(range(1, 8))
    moments = [entry.event.at for entry in first]
    assert moments == sorted(moments)
