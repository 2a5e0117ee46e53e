"""Room for large request bodies in memory."""

import asyncio
from contextlib import ExitStack

from fastapi import Request
from starlette.types import Scope

from api.user_turns import user_overloaded
from db import deadline
from db.turns import overloaded
from db.user_semaphore import QueueFull, UserSemaphore

_AT_ONCE, _OF_USER = 48, 16
"""Largest numbers of a process's large bodies, and of one user's: each has up to a megabyte."""
_WAITING, WAITING_OF_USER = 200, 30
"""Largest numbers of a process's large bodies that wait, and of one user's. Each takes up to 300 KiB, which have been
read ahead."""

_ROOM = "daybook.large_body"
"""Key of a large body's room in its request's scope."""


class LargeBodies:
    """Room for the large bodies of a process.

    Invariant: a body has its room from before it is read to the end of its request, as it may wait for its user's turn
    all that time. At most `waiting` find no room and wait, with the body unread: refused clients would send the whole
    megabyte all the same, and send it again, which costs everybody else more than the wait.
    """

    def __init__(
        self, *, timeout: float, at_once: int = _AT_ONCE, of_user: int = _OF_USER, waiting: int = _WAITING
    ) -> None:
        self._timeout, self._most_waiting = timeout, waiting
        self._process = asyncio.Semaphore(at_once)
        self._waiting = 0
        self.users = UserSemaphore(of_user, max_waiting=WAITING_OF_USER)

    async def enter(self, room: ExitStack, user_id: str) -> None:
        """Wait for room, which `room` gives back.

        Raise `Overloaded` if too many of the user's bodies wait, and `TooBusy` if too many of all users' do, or
        if there is no room in time.
        """
        if self._waiting >= self._most_waiting:
            raise overloaded(f"{self._waiting} large bodies wait already")
        self._waiting += 1
        try:
            async with asyncio.timeout_at(deadline.at_most(self._timeout)):
                await self.users.acquire(user_id)
                room.callback(self.users.release, user_id)
                await self._process.acquire()
                room.callback(self._process.release)
        except QueueFull:
            raise user_overloaded(f"{WAITING_OF_USER} of your long bodies wait already. Nothing was changed.") from None
        except TimeoutError:
            raise overloaded(f"large bodies took more than {self._timeout:g} s") from None
        finally:
            self._waiting -= 1


async def admit(request: Request, user_id: str) -> None:
    """Wait for room for the request's body, until `release`. Raises as `LargeBodies.enter` does."""
    bodies: LargeBodies = request.state.large_bodies
    room = request.scope[_ROOM] = ExitStack()
    await bodies.enter(room, user_id)


def release(scope: Scope) -> None:
    """Give back the room of the request's body, if it has one. A second call does nothing."""
    if room := scope.pop(_ROOM, None):
        room.close()
