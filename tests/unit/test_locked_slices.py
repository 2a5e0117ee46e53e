"""Work under a stream's lock goes on soon, however busy the event loop is."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any, cast
from uuid import uuid4

import pytest

from db.pool import Connection
from events.hash_chain import Head
from events.serialization import DATA_VERSION
from events.store import log
from events.store.event_store import LockedStream
from events.task import NO_TASK
from tests.arrange import FakeRow, busy_loop, end_a_slice_at_each_step, rows_of_history

_EVENTS = 30
_DATA = b'{"v": %d, "changes": {"title": {"from": null, "to": "one"}}}' % DATA_VERSION
_CREATION = {"version": 1, "type": "TaskCreated", "at": datetime.now(UTC), "wanted": True, "data": _DATA}


class Log:
    """A connection to a log of creations, or of toggles of one task, `_EVENTS` in number."""

    async def fetch(self, statement: str, _user: str, *arguments: Any) -> list[Any]:
        if statement == log.HISTORY.short:
            return rows_of_history(_EVENTS)
        return [FakeRow(task_id=uuid4(), **_CREATION) for _ in range(_EVENTS)] if arguments[1] == NO_TASK else []


def _all_tasks(stream: LockedStream) -> AsyncIterator[object]:
    return stream.then_and_now("ann", datetime.now(UTC), upto=_EVENTS)


def _one_task(stream: LockedStream) -> AsyncIterator[object]:
    return stream.history("ann", uuid4())


@pytest.mark.parametrize("read", [_one_task, _all_tasks])
async def test_a_read_under_the_lock_lets_others_run_but_does_not_wait_for_them_to_end(
    read: Callable[[LockedStream], AsyncIterator[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    end_a_slice_at_each_step(monkeypatch)
    monkeypatch.setattr(log, "READ_BATCH", _EVENTS + 1)
    found = 0
    async with busy_loop() as loop:
        async for _ in read(LockedStream(cast("Connection", Log()), Head(_EVENTS, bytes(32)))):
            found += 1
    assert found == _EVENTS
    assert _EVENTS <= loop.turns <= 2 * _EVENTS
