"""Whether the database can be served from: asked anew, as soon as that is in doubt, until it can."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import structlog

from config import metrics
from db.connection import connect
from db.errors import DatabaseUnavailable, ReadOnly, is_ambiguous, refused

_log = structlog.get_logger(__name__)

_ASKING = 2.0
"""Seconds in which a database that is in doubt must answer."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
"""Seconds between two such questions."""
_SAID_ANEW = 60.0
"""Seconds after which it is said again that there is no room."""

_IF_WRITABLE, _WRITABLE = "SELECT WHERE current_setting('transaction_read_only') = 'off'", "SELECT 1"
"""What is asked, and how a database answers that takes writes. A standby doesn't, whatever its settings are."""


class Watch:
    """Whether the database can be reached, and written to.

    Once that is in doubt, it is asked on a connection of our own until it can: so that one question is under way while
    it is down, and not one for each request. Where no new connection can be had, one of the pool's is asked: a server
    that has no room for more of us is there. A database that takes no writes is as good as down, since what can be
    read from it may be old: it may be a standby that the address led to for a moment.
    """

    def __init__(self, connections: asyncpg.Pool, arguments: dict[str, Any], *, timeout: float) -> None:
        self.down: type[DatabaseUnavailable] | None = None
        """What requests are refused with, as long as they are."""
        self.when_down: Callable[[], None] = lambda: None
        self.ask_idle: Callable[[str], Awaitable[str | None]] = _nothing_idle
        self._outdated = self._ended = False
        self._told_of_no_room = float("-inf")
        self._timeout = min(timeout, _ASKING)
        self._connections = connections
        self._arguments = arguments
        self._looking: asyncio.Task[None] | None = None

    def report(self, error: BaseException) -> None:
        """Ask, unless that is under way, if this error of a statement leaves it in doubt."""
        read_only = isinstance(error, asyncpg.ReadOnlySQLTransactionError)
        if not read_only and not is_ambiguous(error):
            return
        # A connection says no more, or leads to a server that takes no writes: others may, too.
        self._outdated = self._outdated or read_only or isinstance(error, TimeoutError)
        if not self._ended and (self._looking is None or self._looking.done()):
            self._looking = asyncio.create_task(self._look())

    def tell_of_no_room(self, error: BaseException) -> None:
        """Say that the server has no room for another connection of ours; once in a minute."""
        if time.monotonic() >= self._told_of_no_room + _SAID_ANEW:
            self._told_of_no_room = time.monotonic()
            connections = self._connections.get_size()
            _log.warning("no more connections: those that there are must do", connections=connections, error=str(error))

    def end(self) -> None:
        """Ask no more."""
        self._ended = True
        if self._looking:
            self._looking.cancel()

    async def _look(self) -> None:
        pause, since = _FIRST_PAUSE, time.monotonic()
        while error := await self._ask_anew():
            if not isinstance(error, ReadOnly) and await self._pool_works(error):
                break
            self._tell(error)
            await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311 - no secret
            pause = min(pause * 2, _LONGEST_PAUSE)
        if error is None and (self.down or self._outdated):
            await self._connections.expire_connections()  # they lead to what was there before
        self._outdated = False
        if self.down:
            self.down = None
            metrics.DATABASE_UP.set(1)
            metrics.DATABASE_READ_ONLY.set(0)
            _log.warning("database up", seconds=round(time.monotonic() - since, 1))

    def _tell(self, error: Exception) -> None:
        """Refuse requests from here on, and say why, once for each reason."""
        why = ReadOnly if isinstance(error, ReadOnly) else DatabaseUnavailable
        if self.down is why:
            return
        self.down = why
        self.when_down()
        metrics.DATABASE_UP.set(0)
        metrics.DATABASE_READ_ONLY.set(why is ReadOnly)
        if why is ReadOnly:
            _log.error("database read-only: requests are answered 503 until it takes writes", error=str(error))
        else:
            _log.error("database down: requests are answered 503 until it is up", error=repr(error))

    async def _ask_anew(self) -> Exception | None:
        """Why it can't be served from by a new connection, if so."""
        try:
            async with asyncio.timeout(self._timeout):
                connection = await connect(**self._arguments)
                try:
                    # Behind a pooler, a connection says little.
                    if await connection.execute(_IF_WRITABLE) != _WRITABLE:
                        return ReadOnly("it is a standby, or default_transaction_read_only is on")
                finally:
                    connection.terminate()
        except Exception as error:  # noqa: BLE001 - what it is decides
            if isinstance(error.__cause__, asyncpg.TargetServerAttributeNotMatched):
                return ReadOnly(str(error))
            return error
        return None

    async def _pool_works(self, error: Exception) -> bool:
        """Whether the connections that there are can be served from, where no new one can be had."""
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self.ask_idle(_IF_WRITABLE)
        except Exception as reason:  # noqa: BLE001 - as well
            _log.debug("no connection of the pool answers", error=repr(reason))
            return False
        if answer is None:  # all are in use: each will show by itself, as long as a server is there that refuses more
            return refused(error) and self._connections.get_size() > 0
        return answer == _WRITABLE


async def _nothing_idle(_statement: str) -> str | None:
    return None
