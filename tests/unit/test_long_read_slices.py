"""A long read goes on soon if others wait for its turn, however busy the event loop is."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from db.long_reads import AT_ONCE
from db.pool import Pool
from events.serialization import DATA_VERSION
from events.store import log, past
from events.store.event_store import EventStore
from events.task import NO_TASK
from tests.arrange import FakeRow, busy_loop, end_a_slice_at_each_step, rows_of_history

_EVENTS = 30
_DATA = b'{"v": %d, "changes": {"title": {"from": null, "to": "one"}}}' % DATA_VERSION
_TYPE = "TaskCreated"
_NOW = datetime.now(UTC)


class Log:
    """A pool of connections to a log of creations, or of toggles of one task, `_EVENTS` in number."""

    timeout, sharded = 10.0, False

    def of(self, _user: str) -> "Log":
        return self

    def read_by(self, _requester: str) -> "Log":
        return self

    async def server_of(self, _user: str) -> None:
        return None

    async def fetch(self, statement: str, _user: str, *arguments: Any) -> list[Any]:
        if statement == log.HISTORY.short:
            return rows_of_history(_EVENTS)
        if statement == past.FACTS_UPTO.short:
            return [FakeRow(task_id=id_, version=1, type=_TYPE, at=_NOW, data=_DATA) for id_ in arguments[0]]
        begun = next(each for each in arguments if isinstance(each, UUID)) != NO_TASK
        creation = {"version": 1, "type": _TYPE, "at": _NOW, "wanted": True, "data": _DATA}
        return [] if begun else [FakeRow(task_id=uuid4(), **creation) for _ in range(_EVENTS)]


async def _then_and_now(store: EventStore) -> None:
    async for _ in store.then_and_now("ann", _NOW, upto=_EVENTS):
        pass


async def _one_task(store: EventStore) -> None:
    async for _ in store.history("ann", uuid4()):
        pass


async def _list(store: EventStore) -> None:
    async for _ in past.tasks_at(cast("Pool", Log()), "ann", _NOW, upto=_EVENTS, slices=store.slices("ann")):
        pass


async def _page_of_feed(store: EventStore) -> None:
    versions = {uuid4(): 1 for _ in range(_EVENTS)}
    await past.tasks_at_versions(cast("Pool", Log()), "ann", versions, slices=store.slices("ann"))


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> EventStore:
    end_a_slice_at_each_step(monkeypatch)
    monkeypatch.setattr(log, "READ_BATCH", 2 * _EVENTS)
    return EventStore(cast("Pool", Log()))


async def turns_of_the_loop(
    store: EventStore, read: Callable[[EventStore], Any], *, holders: tuple[str, ...], waiting: tuple[str, ...]
) -> int:
    """Count the turns that a busy loop makes during ann's read, while these users hold and wait for long reads."""
    async with AsyncExitStack() as held:
        for user in holders:
            await held.enter_async_context(store.long_reads.turn(user))
        waiters = [asyncio.create_task(_hold(store, user)) for user in waiting]
        await asyncio.sleep(0)
        async with busy_loop() as loop:
            await read(store)
    await asyncio.gather(*waiters)
    return loop.turns


READS = [_then_and_now, _one_task, _list, _page_of_feed]
HOLDERS = ("ann", "bob")
assert len(HOLDERS) == AT_ONCE


@pytest.mark.parametrize("read", READS)
async def test_a_read_whose_turn_others_wait_for_gives_them_as_much_time_as_it_takes(
    store: EventStore, read: Callable[[EventStore], Any]
) -> None:
    turns = await turns_of_the_loop(store, read, holders=HOLDERS, waiting=("eve",))
    assert _EVENTS <= turns <= 2 * _EVENTS


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize(
    ("holders", "waiting"),
    [
        pytest.param(HOLDERS, (), id="nobody waits"),
        pytest.param(HOLDERS, ("ann",), id="only another read of the user waits"),
        pytest.param(("bob", "cid"), ("eve",), id="the turn that is waited for is others'"),
    ],
)
async def test_any_other_read_waits_until_the_loop_is_idle(
    store: EventStore, read: Callable[[EventStore], Any], holders: tuple[str, ...], waiting: tuple[str, ...]
) -> None:
    assert await turns_of_the_loop(store, read, holders=holders, waiting=waiting) > 4 * _EVENTS


async def test_an_auditors_read_goes_by_the_turn_of_the_auditor(store: EventStore) -> None:
    """It holds the auditor's turn, not the one of the user whose log it reads."""
    theirs = store.read_by("bob")
    assert await turns_of_the_loop(theirs, _list, holders=("bob",), waiting=()) > 4 * _EVENTS
    await asyncio.sleep(0)
    async with AsyncExitStack() as held:
        await held.enter_async_context(store.long_reads.turn("cid"))
        await held.enter_async_context(theirs.long_reads.turn("ann"))
        waiter = asyncio.create_task(_hold(store, "eve"))
        await asyncio.sleep(0)
        assert (theirs.long_reads.others_wait("ann"), store.long_reads.others_wait("ann")) == (True, False)
    await waiter
    assert not store.long_reads.others_wait("bob")


async def _hold(store: EventStore, user: str) -> None:
    async with store.long_reads.turn(user):
        pass
