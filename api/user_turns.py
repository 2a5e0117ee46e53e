"""Turns for the requests of one user: whoever asks for much at once waits, and nobody else waits for them."""

import asyncio
from dataclasses import dataclass, field

from api.errors import Overloaded

AT_ONCE = 4
"""Requests of one user that are carried out at the same time. All users share one event loop, and a few cores of the
database: what one user has under way, everybody else waits for."""
MOST_WAITING = 200
"""Requests of one user that wait until one of those ends. Each holds no more than itself."""


@dataclass(slots=True)
class _User:
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    asking: int = 0
    """Requests that are under way, or wait."""


class UserTurns:
    """At most `AT_ONCE` requests of each user are under way; the user's others wait, in the order they came.

    Sending the answer isn't part of a turn: a client that reads slowly holds none.
    """

    def __init__(self, *, timeout: float) -> None:
        self._timeout = timeout
        self._users: dict[str, _User] = {}

    async def begin(self, user_id: str) -> None:
        """Take a turn, to be given back by `end`.

        Raises `Overloaded` if there is none in time, and at once if too many of the user's requests wait already.
        """
        user = self._users.get(user_id)
        if user is None:
            user = self._users[user_id] = _User()
        if user.asking >= AT_ONCE + MOST_WAITING:
            raise _refused()
        user.asking += 1
        if not user.turns.locked():
            await user.turns.acquire()  # at once
            return
        taken = False
        try:
            async with asyncio.timeout(self._timeout):
                taken = await user.turns.acquire()
        except TimeoutError:
            raise _refused() from None
        finally:
            if not taken:
                self._leave(user_id, user)

    def end(self, user_id: str) -> None:
        """Give a turn back."""
        user = self._users[user_id]
        user.turns.release()
        self._leave(user_id, user)

    def _leave(self, user_id: str, user: _User) -> None:
        user.asking -= 1
        if not user.asking:
            del self._users[user_id]


def _refused() -> Overloaded:
    hint = f"Too many requests of yours at once: {AT_ONCE} are served at a time. Nothing was changed."
    return Overloaded(hint=hint, headers={"Retry-After": "1"})
