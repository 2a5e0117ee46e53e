"""Turns for the requests of one user: a user with many requests at once waits, and other users don't."""

import asyncio

from fastapi import Request
from starlette.types import Scope

from api.problems import Overloaded
from api.server.disconnects import while_connected
from db import deadline
from db.user_semaphore import QueueFull, UserSemaphore
from telemetry import metrics

READS, WRITES = 2, 4
"""Largest numbers of reads and writes of one user that run at the same time. All users share one event loop and a few
cores of the database, so that each request delays everybody else's. Writes cost less: a user's go into one statement
(docs/adr/0016)."""
MOST_WAITING = 200
"""Largest number of waiting reads of one user, and of writes. One that waits holds nothing but itself."""

_TURN = "daybook.turn"
"""Key of a request's turn in its scope."""


class UserTurns:
    """A semaphore for each user's reads, and one for each user's writes.

    Sending the response isn't part of a turn: a client that reads slowly holds none.
    """

    def __init__(self, *, timeout: float) -> None:
        self.timeout = timeout
        self.reads = UserSemaphore(READS, max_waiting=MOST_WAITING)
        self.writes = UserSemaphore(WRITES, max_waiting=MOST_WAITING)


async def take_turn(request: Request, user_id: str) -> None:
    """Wait for the request's turn, which `api.routing` ends before the response is sent.

    Raises `Overloaded` if no turn is free in time, and at once if `MOST_WAITING` of its kind wait already. If the
    client of a waiting read hangs up, the read leaves the queue and raises `ClientDisconnect`.
    """
    turns: UserTurns = request.state.turns
    reads = request.method in ("GET", "HEAD")
    semaphore, kind = (turns.reads, "reads") if reads else (turns.writes, "writes")

    async def wait() -> None:
        async with asyncio.timeout_at(deadline.at_most(turns.timeout)):
            await semaphore.acquire(user_id)
        request.scope[_TURN] = semaphore, user_id

    try:
        if not semaphore.locked(user_id):
            await semaphore.acquire(user_id)
            request.scope[_TURN] = semaphore, user_id
        elif reads:
            await while_connected(request, wait())
        else:  # it stays in the queue if its client hangs up, as it would go on without a queue
            await wait()
    except QueueFull:
        raise _full(f"{MOST_WAITING} of your {kind} wait already", semaphore.number) from None
    except TimeoutError:
        raise _full(f"This waited {turns.timeout:g} s for others of your {kind}", semaphore.number) from None


def give_turn_back(scope: Scope) -> None:
    """End the request's turn, if it has one. A second call does nothing.

    A long read ends its turn before it waits for one among long reads (`db.long_reads`), so that quick reads go on.
    """
    semaphore, user_id = scope.pop(_TURN, (None, ""))
    if semaphore:
        semaphore.release(user_id)


def _full(why: str, at_once: int) -> Overloaded:
    return user_overloaded(
        f"{why}: {at_once} of a user are carried out at a time. Send fewer at once. Nothing was changed."
    )


def user_overloaded(hint: str) -> Overloaded:
    """Count a refusal of a user with too much under way, and make the problem, with a hint for the client."""
    metrics.REFUSALS.labels("user_overloaded").inc()
    return Overloaded(hint=hint, headers={"Retry-After": "1"})
