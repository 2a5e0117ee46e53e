"""Turns for the requests of one user: a user who asks for much at once waits, and nobody else waits for them."""

import asyncio
from dataclasses import dataclass, field
from typing import NamedTuple

from fastapi import Request
from starlette.types import Scope

from api.disconnects import while_connected
from api.problems import Overloaded
from config import metrics

READS, WRITES = 2, 4
"""Requests of one user that are carried out at the same time. All users share one event loop, and a few cores of the
database: what one user has under way, everybody else waits for. Writes of a user go into one statement (docs/adr/0016),
so that more of them cost less."""
MOST_WAITING = 200
"""Reads of one user, and writes, that wait until one of those ends. Each holds no more than itself."""

_TURN = "daybook.turn"
"""In a request's scope: its turn."""


async def take_turn(request: Request, user_id: str) -> None:
    """Wait until the request may be carried out; `api.routes` ends its turn before the answer is sent.

    A read whose client hangs up leaves the queue. Raises `ClientDisconnect` then, and `Overloaded` as `begin` does.
    """
    turns: UserTurns = request.state.turns
    reads = request.method in ("GET", "HEAD")

    async def taken() -> None:
        request.scope[_TURN] = await turns.begin(user_id, reads=reads)

    # A write goes on, as it would without a queue.
    await (while_connected(request, taken()) if reads and turns.all_taken(user_id, reads=reads) else taken())


def give_turn_back(scope: Scope) -> None:
    """End the request's turn, unless it has none, or none any more.

    A long read does so before it waits for a turn of its own kind (`db.long_reads`), so that quick reads go on.
    """
    if (turn := scope.pop(_TURN, None)) is not None:
        scope["state"]["turns"].end(turn)


class Turn(NamedTuple):
    """A request's share of what its user has under way."""

    user_id: str
    reads: bool


@dataclass(slots=True)
class _Taken:
    free: asyncio.Semaphore
    asking: int = field(default=0)
    """Requests that are under way, or wait."""


class UserTurns:
    """At most `READS` reads and `WRITES` writes of each user are under way; others wait, in the order they came.

    Sending the answer isn't part of a turn: a client that reads slowly holds none.
    """

    def __init__(self, *, timeout: float) -> None:
        self._timeout = timeout
        self._taken: dict[Turn, _Taken] = {}

    def all_taken(self, user_id: str, *, reads: bool) -> bool:
        """Say whether the user's next read, or write, has to wait."""
        taken = self._taken.get(Turn(user_id, reads))
        return taken is not None and taken.free.locked()

    async def begin(self, user_id: str, *, reads: bool) -> Turn:
        """Take a turn, to be given back by `end`.

        Raises `Overloaded` if there is none in time, and at once if too many of the user's requests wait already.
        """
        turn, number = Turn(user_id, reads), READS if reads else WRITES
        taken = self._taken.get(turn)
        if taken is None:
            taken = self._taken[turn] = _Taken(asyncio.Semaphore(number))
        if taken.asking >= number + MOST_WAITING:
            raise _refused(turn, f"{MOST_WAITING} of your {_kind(turn)} wait already")
        taken.asking += 1
        begun = False
        try:
            if taken.free.locked():
                async with asyncio.timeout(self._timeout):
                    begun = await taken.free.acquire()
            else:
                begun = await taken.free.acquire()  # at once
        except TimeoutError:
            raise _refused(turn, f"This waited {self._timeout:g} s for others of your {_kind(turn)}") from None
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


def _refused(turn: Turn, why: str) -> Overloaded:
    metrics.REFUSALS.labels("user_overloaded").inc()
    at_once = READS if turn.reads else WRITES
    hint = f"{why}: {at_once} of a user are carried out at a time. Send fewer at once. Nothing was changed."
    return Overloaded(hint=hint, headers={"Retry-After": "1"})
