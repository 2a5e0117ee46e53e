"""Turns for long reads: their time grows with the length of a user's stream."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from db.errors import TooManyRequests
from db.pool import Pool
from telemetry import metrics

AT_ONCE = 2
"""Largest number of long reads at once in a process. They share one event loop: each of more would take longer, and
hold more memory.
"""
WAITING = 30
"""Largest number of a user's long reads that wait for the one under way. Each holds no more than its request."""


@dataclass(slots=True)
class _User:
    """One user's turn for long reads, and the number of reads that hold it or wait for it."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    asking: int = 0


class LongReads:
    """Turns for long reads. Invariant: at most one of a user, and `at_once` of all users, are under way.

    Each user has at most one read that waits for the process, so users take turns, no matter how many reads one
    requests.
    """

    def __init__(self, pool: Pool, *, at_once: int = AT_ONCE) -> None:
        self._timeout = pool.timeout
        self._process = asyncio.Semaphore(at_once)
        self._users: dict[str, _User] = {}

    @asynccontextmanager
    async def turn(self, user_id: str) -> AsyncIterator[None]:
        """Hold a turn for the length of the block.

        Wait for it as long as a request may wait for a connection, then raise `TooManyRequests`. Raise it at once if
        too many of the user's reads wait already.
        """
        user = self._users.setdefault(user_id, _User())
        if user.asking > WAITING:
            raise _refused(f"{WAITING} long reads of the user wait already")
        user.asking += 1
        try:
            async with AsyncExitStack() as turn:
                try:
                    async with asyncio.timeout(self._timeout):
                        await turn.enter_async_context(user.turn)
                        await turn.enter_async_context(self._process)
                except TimeoutError:
                    raise _refused(f"other long reads took more than {self._timeout:g} s") from None
                yield
        finally:
            user.asking -= 1
            if not user.asking:
                del self._users[user_id]


class Scans(LongReads):
    """Turns for statements that scan all of a user's tasks: each keeps a core of the database busy meanwhile.

    Half of the connections may do so at once, so that the other half is free for quick statements.
    """

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool, at_once=max(1, pool.size // 2))


def _refused(reason: str) -> TooManyRequests:
    metrics.REFUSALS.labels("overloaded").inc()
    return TooManyRequests(reason)
