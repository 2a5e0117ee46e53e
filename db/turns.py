"""Turns by user: a user with many requests at once waits, and doesn't hold up the others."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Container, Iterable, Iterator
from itertools import chain
from typing import Generic, TypeAlias, TypeVar

from db import deadline
from db.errors import TooBusy
from db.servers import Server
from telemetry import metrics

_Item = TypeVar("_Item")

User: TypeAlias = "str | None"
"""A user's id; `None` stands for work that is done for many users together."""


class FairQueue(Generic[_Item]):
    """A queue of items for each user; the users are in the order of their turns."""

    def __init__(self) -> None:
        self._of: dict[User, deque[_Item]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[User]:
        """Iterate over the users, the next one first."""
        return iter(self._of)

    def items(self, users: Iterable[User] | None = None) -> Iterator[_Item]:
        """Iterate over all waiting items, or these users', in no particular order."""
        return chain.from_iterable(self._of.values() if users is None else (self._of.get(user, ()) for user in users))

    def put(self, user: User, item: _Item) -> None:
        """Put the item at the end of the user's queue."""
        self._of.setdefault(user, deque()).append(item)
        self._size += 1

    def __contains__(self, user: User) -> bool:
        return user in self._of

    def put_first(self, user: User, item: _Item) -> None:
        """Put the item before all others: the user is next, and it is the user's first."""
        queue = self._of.pop(user, deque())
        queue.appendleft(item)
        self._of = {user: queue, **self._of}
        self._size += 1

    def take(self, user: User) -> _Item:
        """Take the user's oldest item, and put the user behind all others."""
        queue = self._of.pop(user)
        item = queue.popleft()
        self._size -= 1
        if queue:
            self._of[user] = queue
        return item

    def discard(self, user: User, item: _Item) -> None:
        """Remove the item, if it still waits."""
        queue = self._of.get(user)
        if queue and item in queue:
            queue.remove(item)
            self._size -= 1
            if not queue:
                del self._of[user]

    def drop(self, *, for_user: User, among: Iterable[User] | None = None) -> _Item | None:
        """Take the last item of the user with most, if `for_user` would have fewer even with another one; else None.

        Only items of the users `among` are taken, if given.
        """
        user = max(self._of if among is None else among, key=lambda each: len(self._of[each]), default=None)
        queue = self._of.get(user, deque())
        if len(queue) <= len(self._of.get(for_user, ())) + 1:
            return None
        self._size -= 1
        return queue.pop()


class Turns:
    """A fixed number of connections, for users in turn.

    Invariants: as long as a connection is free, no user waits that may have it. No user has more than half of the
    connections at once: a statement that runs can't be put off, so the others' share is kept free. Of the waiting
    users, the one with the fewest connections is next, and work for many users goes before all. A full queue first
    refuses the user with most requests in it.

    If the users are on several servers (`server_of`), the users of each have half of the connections at most, and half
    of the queue: if a server freezes, the rest is for the others' users. While a server is held back, its users wait:
    a statement sent to it might wait until it runs out of time (docs/adr/0027).
    """

    def __init__(
        self,
        number: int,
        *,
        max_waiting: int,
        timeout: float,
        server_of: Callable[[str], Server | None] | None = None,
    ) -> None:
        self._number = self._free = number
        self._max_waiting, self._timeout, self._server_of = max_waiting, timeout, server_of
        self._held: dict[str, int] = {}
        self._held_back: set[Server] = set()
        self._waiting = FairQueue[asyncio.Future[None]]()

    @property
    def free(self) -> bool:
        """Say whether there is a turn for a user without one."""
        return self._free > 0

    def taken(self, user: User) -> bool:
        """Take a turn if one is free at once, and say whether it was. Give each one back with `give`."""
        if not self._free or (user is not None and not self._may(user, self._closed_servers())):
            return False
        self._take(user)
        return True

    async def wait(self, user: User) -> None:
        """Take a turn as soon as there is one, in time for the deadline.

        Raises `TooBusy`, or the error given to `refuse_all`.
        """
        if len(self._waiting) >= self._max_waiting:
            last = self._waiting.drop(for_user=user)
            if last is None:
                raise overloaded(f"{len(self._waiting)} requests wait for the database already")
            _refuse(last, lambda: overloaded("others wait too, with fewer requests"))
        self._make_room_at_server(user)
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.put(user, turn)
        metrics.POOL_WAITING.inc()
        now, late = loop.time(), deadline.at_most(self._timeout)
        why = f"no connection was free for {round(max(0, late - now), 3):g} s"
        timer = loop.call_at(late, _refuse, turn, lambda: overloaded(why))
        try:
            await turn
        except BaseException:
            self._waiting.discard(user, turn)
            if turn.done() and not turn.cancelled() and turn.exception() is None:  # it came as the caller gave up
                self.give(user)
            raise
        finally:
            timer.cancel()
            metrics.POOL_WAITING.dec()
            del turn  # its error holds this frame

    def give(self, user: User) -> None:
        """Give a turn back, for the next user."""
        self._leave(user)
        self._free += 1
        if self._waiting:
            self._next()

    def lose(self, user: User) -> None:
        """Give back a turn without a connection to be had: there is one fewer, until `regain`."""
        self._leave(user)
        self._number -= 1

    def regain(self) -> None:
        """Restore a turn after `lose`."""
        self._number += 1
        self._free += 1
        self._next()

    def hold_back(self, server: Server) -> None:
        """Give the server's users no turn until `let_go`."""
        self._held_back.add(server)

    def let_go(self, server: Server) -> None:
        """Give the server's users turns again after `hold_back`."""
        self._held_back.discard(server)
        self._next()

    def refuse_all(self, error: Callable[[], Exception], *, server: Server | None = None) -> None:
        """Refuse every waiting request, or those of a server's users, each with a new `error`."""
        for turn in self._waiting.items(None if server is None else self._waiting_for(server)):
            _refuse(turn, error)

    def _waiting_for(self, server: Server) -> list[User]:
        of = self._server_of
        return [user for user in self._waiting if user is not None and of is not None and of(user) == server]

    def _make_room_at_server(self, user: User) -> None:
        """Keep half of the queue free for the users of other servers than this user's."""
        server = self._server_of(user) if self._server_of and user is not None else None
        if server is None:
            return
        users = self._waiting_for(server)
        waiting = sum(1 for _ in self._waiting.items(users))
        if waiting < (self._max_waiting + 1) // 2:
            return
        last = self._waiting.drop(for_user=user, among=users)
        if last is None:
            raise overloaded(f"{waiting} requests wait for the user's server already")
        _refuse(last, lambda: overloaded("others wait for the server too, with fewer requests"))

    def _next(self) -> None:
        while self._free and (able := self._able()):
            user = min(able, key=lambda each: -1 if each is None else self._held.get(each, 0))
            turn = self._waiting.take(user)
            if not turn.done():
                self._take(user)
                turn.set_result(None)

    def _able(self) -> list[User]:
        closed = self._closed_servers()
        return [user for user in self._waiting if user is None or self._may(user, closed)]

    def _may(self, user: str, closed: Container[Server]) -> bool:
        if self._held.get(user, 0) >= max(1, self._number // 2):
            return False
        return self._server_of is None or self._server_of(user) not in closed

    def _closed_servers(self) -> Container[Server]:
        """Return the servers whose users may have no connection now: held back, or with half of the connections.

        Half is rounded up: of a single one, it is all.
        """
        if self._server_of is None:
            return ()
        held = Counter[Server | None]()
        for user, number in self._held.items():
            held[self._server_of(user)] += number
        half = (self._number + 1) // 2
        return self._held_back.union(server for server, number in held.items() if server is not None and number >= half)

    def _take(self, user: User) -> None:
        self._free -= 1
        if user is not None:
            self._held[user] = self._held.get(user, 0) + 1

    def _leave(self, user: User) -> None:
        if user is None:
            return
        held = self._held.pop(user) - 1
        if held:
            self._held[user] = held


def overloaded(message: str, *, by_user: bool = False) -> TooBusy:
    """Count a refusal of a request that would wait too long, or behind too many, and make its error.

    `by_user` says that these are all of the same user.
    """
    metrics.REFUSALS.labels("user_overloaded" if by_user else "overloaded").inc()
    return TooBusy(message)


def _refuse(turn: "asyncio.Future[None]", error: Callable[[], Exception]) -> None:
    if not turn.done():
        turn.set_exception(error())
