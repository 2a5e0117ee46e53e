"""Many long events of one user are encoded in slices, between which other requests run."""

from collections.abc import Sequence
from typing import cast

import pytest

from bench.load import Author
from db.pool import Connection
from events.store.append import PendingAppend, append
from events.task import TaskCreated, evolve
from tests.arrange import BusyLoop, busy_loop, end_a_slice_at_each_step


class Recorder:
    """A connection that keeps how many turns other requests had when a statement came."""

    def __init__(self, loop: BusyLoop) -> None:
        self._loop = loop
        self.at_statement: int | None = None

    async def fetch(
        self, _statement: str, _users: str | Sequence[str], *parameters: object
    ) -> list[tuple[object, ...]]:
        self.at_statement = self._loop.turns
        events = cast("Sequence[bytes]", parameters[0])
        return [(number, number, b"", None, None) for number in range(1, len(events) + 1)]


def creations(user: str, number: int) -> list[PendingAppend]:
    events = (event for event in Author(user).events(10 * number) if isinstance(event.payload, TaskCreated))
    return [PendingAppend(event, evolve(None, event)) for event, _ in zip(events, range(number), strict=False)]


@pytest.mark.parametrize(("users", "sliced"), [(["ann"], True), (["ann", "bob"], False)])
async def test_other_requests_run_between_the_events_of_one_user(
    users: Sequence[str], sliced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    end_a_slice_at_each_step(monkeypatch)
    appends = [each for user in users for each in creations(user, 20 // len(users))]
    async with busy_loop() as loop:
        connection = Recorder(loop)
        assert len(await append(cast("Connection", connection), appends)) == 20
    assert connection.at_statement is not None
    assert (connection.at_statement >= 20) == sliced
