"""Turns for the requests of one user: whoever asks for much at once waits, and nobody else waits for them."""

import asyncio
from dataclasses import dataclass, field
from typing import NamedTuple

from api.problems import Overloaded

READS, WRITES = 2, 4
"""Requests of one user that are carried out at the same time. All users share one event loop, and a few cores of the
database: what one user has under way, everybody else waits for. Writes of a user go into one statement (docs/adr/0016),
so that more of them cost less."""
MOST_WAITING = 200
"""Reads of one user, and writes, that wait until one of those ends. Each holds no more than itself."""


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

    async def begin(self, user_id: str, *, reads: bool) -> Turn:
        """Take a turn, to be given back by `end`.

        Raises `Overloaded` if there is none in time, and at once if too many of the user's requests wait already.
        """
        turn, number = Turn(user_id, reads), READS if reads else WRITES
        taken = self._taken.get(turn)
        if taken is None:
            taken = self._taken[turn] = _Taken(asyncio.Semaphore(number))
        if taken.asking >= number + MOST_WAITING:
            raise _refused(turn)
        taken.asking += 1
        begun = False
        try:
            if taken.free.locked():
                async with asyncio.timeout(self._timeout):
                    begun = await taken.free.acquire()
            else:
                begun = await taken.free.acquire()  # at once
        except TimeoutError:
            raise _refused(turn) from None
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


def _refused(turn: Turn) -> Overloaded:
    number, what = (READS, "reads") if turn.reads else (WRITES, "writes")
    hint = f"Too many requests of yours at once: {number} {what} are served at a time. Nothing was changed."
    return Overloaded(hint=hint, headers={"Retry-After": "1"})
