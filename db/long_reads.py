"""Turns for long reads: their time grows with the length of a user's stream."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from copy import copy
from typing import Self

from db import deadline
from db.pool import Pool
from db.turns import overloaded
from db.user_semaphore import QueueFull, UserSemaphore

AT_ONCE = 2
"""Largest number of long reads at once in a process. They share one event loop: each of more would take longer, and
hold more memory.
"""
WAITING = 30
"""Largest number of a user's long reads that wait for the one under way. Each holds no more than its request."""


class LongReads:
    """Turns for long reads. Invariant: at most one of a user, and `at_once` of all users, are under way.

    Each user has at most one read that waits for the process, so users take turns, no matter how many reads one
    requests. If users are on several servers, those of one have half of the process's turns.

    The wait for a turn ends by the deadline. A read with a turn has none: it may take as long as its stream is, and
    each of its statements has the pool's timeout. So has what follows in the same request, together.
    """

    _of_many_statements = True

    def __init__(self, pool: Pool, *, at_once: int = AT_ONCE) -> None:
        self._timeout = pool.timeout
        self._requester: str | None = None
        self._pool = pool
        self._process = asyncio.Semaphore(at_once)
        self._holders: set[str] = set()
        self._waiting: set[str] = set()
        """Users whose read waits for another user's to end."""
        self._servers = UserSemaphore((at_once + 1) // 2, max_waiting=sys.maxsize)
        self.users = UserSemaphore(1, max_waiting=WAITING)

    def read_by(self, requester: str) -> Self:
        """Return these turns for reads of other users' rows, which count as the `requester`'s, and not as theirs."""
        theirs = copy(self)
        theirs._requester = requester
        return theirs

    def others_wait(self, user_id: str) -> bool:
        """Say whether a read of the user's log has a turn for which other users' reads wait."""
        return bool(self._waiting) and (self._requester or user_id) in self._holders

    @asynccontextmanager
    async def turn(self, user_id: str) -> AsyncIterator[None]:
        """Hold a turn for the length of the block.

        Wait for it as long as a request may wait for a connection, then raise `TooBusy`. Raise it at once if
        too many of the user's reads wait already.
        """
        async with AsyncExitStack() as turn:
            try:
                async with asyncio.timeout_at(deadline.at_most(self._timeout)):
                    await self.users.acquire(turn_of := self._requester or user_id)
                    turn.callback(self.users.release, turn_of)
                    server = await self._pool.server_of(user_id)
                    self._waiting.add(turn_of)
                    try:
                        if server is not None:
                            await self._servers.acquire(str(server))
                            turn.callback(self._servers.release, str(server))
                        await turn.enter_async_context(self._process)
                    finally:
                        self._waiting.discard(turn_of)
                    self._holders.add(turn_of)
                    turn.callback(self._holders.discard, turn_of)
            except QueueFull:
                raise overloaded(f"{WAITING} long reads of the user wait already", by_user=True) from None
            except TimeoutError:
                raise overloaded(f"other long reads took more than {self._timeout:g} s") from None
            if self._of_many_statements:
                turn.enter_context(deadline.lifted(self._timeout))
            yield


class Scans(LongReads):
    """Turns for statements that scan all of a user's tasks: each keeps a core of the database busy meanwhile.

    Half of the connections may do so at once, so that the other half is free for quick statements. The wait for a turn
    and the statement have one deadline.
    """

    _of_many_statements = False

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool, at_once=max(1, pool.size // 2))
