"""Turns for the requests of one user: a user with many requests at once waits, and other users don't."""

import asyncio
from dataclasses import dataclass, field
from typing import NamedTuple

from fastapi import Request
from starlette.types import Scope

from api.problems import Overloaded
from api.server.disconnects import while_connected
from telemetry import metrics

READS, WRITES = 2, 4
"""Largest numbers of reads and writes of one user that run at the same time. All users share one event loop and a few
cores of the database, so that each request delays everybody else's. Writes cost less: a user's go into one statement
(docs/adr/0016)."""
MOST_WAITING = 200
"""Largest number of waiting reads of one user, and of writes. One that waits holds nothing but itself."""

_TURN = "daybook.turn"
"""Key of a request's turn in its scope."""


async def take_turn(request: Request, user_id: str) -> None:
    """Wait for the request's turn, which `api.routing` ends before the response is sent.

    Raises `Overloaded` as `begin` does. If the client of a waiting read hangs up, the read leaves the queue and raises
    `ClientDisconnect`.
    """
    turns: UserTurns = request.state.turns
    reads = request.method in ("GET", "HEAD")

    async def taken() -> None:
        request.scope[_TURN] = await turns.begin(user_id, reads=reads)

    # A write stays in the queue if its client hangs up, as it would go on without a queue.
    await (while_connected(request, taken()) if reads and turns.all_taken(user_id, reads=reads) else taken())


def give_turn_back(scope: Scope) -> None:
    """End the request's turn, if it has one. A second call does nothing.

    A long read ends its turn before it waits for one among long reads (`db.long_reads`), so that quick reads go on.
    """
    if (turn := scope.pop(_TURN, None)) is not None:
        scope["state"]["turns"].end(turn)


class Turn(NamedTuple):
    """One of the reads, or writes, that a user may have under way at a time."""

    user_id: str
    reads: bool


@dataclass(slots=True)
class _Taken:
    free: asyncio.Semaphore
    asking: int = field(default=0)
    """Number of requests that are under way or waiting."""


class UserTurns:
    """Queues of each user's requests, one for reads and one for writes.

    Invariants: at most `READS` reads and `WRITES` writes of a user are under way; others wait, in the order of arrival.
    Sending the response isn't part of a turn: a client that reads slowly holds none. `_taken` has an entry only while
    requests are under way or waiting.
    """

    def __init__(self, *, timeout: float) -> None:
        self._timeout = timeout
        self._taken: dict[Turn, _Taken] = {}

    def all_taken(self, user_id: str, *, reads: bool) -> bool:
        """Say whether the user's next read, or write, would have to wait."""
        taken = self._taken.get(Turn(user_id, reads))
        return taken is not None and taken.free.locked()

    async def begin(self, user_id: str, *, reads: bool) -> Turn:
        """Wait for a turn and return it; the caller must give it to `end`.

        Raises `Overloaded` if no turn is free in time, and at once if `MOST_WAITING` of its kind wait already.
        """
        turn, number = Turn(user_id, reads), READS if reads else WRITES
        taken = self._taken.get(turn)
        if taken is None:
            taken = self._taken[turn] = _Taken(asyncio.Semaphore(number))
        if taken.asking >= number + MOST_WAITING:
            raise _full(turn, f"{MOST_WAITING} of your {_kind(turn)} wait already")
        taken.asking += 1
        begun = False
        try:
            if taken.free.locked():
                async with asyncio.timeout(self._timeout):
                    begun = await taken.free.acquire()
            else:
                begun = await taken.free.acquire()  # at once
        except TimeoutError:
            raise _full(turn, f"This waited {self._timeout:g} s for others of your {_kind(turn)}") from None
        finally:
            if not begun:
                self._leave(turn)
        return turn

    def end(self, turn: Turn) -> None:
        """Give a turn back."""
        self._taken[turn].free.release()
        self._leave(turn)

    def _leave(self, turn: Turn) -> None:
        taken = self._taken[turn]
        taken.asking -= 1
        if not taken.asking:
            del self._taken[turn]


def _kind(turn: Turn) -> str:
    return "reads" if turn.reads else "writes"


def _full(turn: Turn, why: str) -> Overloaded:
    at_once = READS if turn.reads else WRITES
    return refusal(f"{why}: {at_once} of a user are carried out at a time. Send fewer at once. Nothing was changed.")


def refusal(hint: str) -> Overloaded:
    """Count a refusal of a user with too much under way, and make the problem, with a hint for the client."""
    metrics.REFUSALS.labels("user_overloaded").inc()
    return Overloaded(hint=hint, headers={"Retry-After": "1"})
