"""Monitor of the database: once its health is in doubt, it is probed until it is well."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any

import asyncpg
import structlog

from db.connection import connect
from db.errors import DatabaseUnavailable, ReadOnly, is_ambiguous, refused
from telemetry import metrics

_log = structlog.get_logger(__name__)

_ASKING = 2.0
"""Seconds in which a database in doubt must answer."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
"""First and longest pause between two probes, in seconds."""
_SAID_ANEW = 60.0
"""Seconds after which the log says again that there is no room."""

_IF_WRITABLE, _WRITABLE = "SELECT WHERE current_setting('transaction_read_only') = 'off'", "SELECT 1"
"""The probe, and the answer of a database that takes writes. A standby doesn't give it, no matter its settings."""


class HealthMonitor:
    """Monitor that says whether the database can be reached, and written to.

    Invariant: at most one probe is under way, not one for each request. Once the database is in doubt, it is probed on
    a connection of our own until it is well. If no new connection can be had, one of the pool's is probed: a server
    without room for more connections is up. A database that takes no writes counts as down, since reads from it may be
    old: it may be a standby that the address led to for a moment.
    """

    def __init__(self, connections: asyncpg.Pool, arguments: dict[str, Any], *, timeout: float) -> None:
        self.down: type[DatabaseUnavailable] | None = None
        """Error that requests are refused with; None if the database is up."""
        self.on_down: Callable[[], None] = lambda: None
        self.probe_idle: Callable[[str], Awaitable[str | None]] = _nothing_idle
        self._outdated = self._ended = False
        self._no_room_logged = float("-inf")
        self._timeout = min(timeout, _ASKING)
        self._connections = connections
        self._arguments = arguments
        self._looking: asyncio.Task[None] | None = None

    def report(self, error: BaseException) -> None:
        """Start a probe, unless one is under way, if this error of a statement leaves the database in doubt."""
        read_only = isinstance(error, asyncpg.ReadOnlySQLTransactionError)
        if not read_only and not is_ambiguous(error):
            return
        # A connection went silent, or leads to a server that takes no writes: others may be alike.
        self._outdated = self._outdated or read_only or isinstance(error, TimeoutError)
        if not self._ended and (self._looking is None or self._looking.done()):
            self._looking = asyncio.create_task(self._look(), context=Context())

    def log_no_room(self, error: BaseException) -> None:
        """Log that the server has no room for another connection of ours, at most once a minute."""
        if time.monotonic() >= self._no_room_logged + _SAID_ANEW:
            self._no_room_logged = time.monotonic()
            connections = self._connections.get_size()
            _log.warning("no more connections: those that there are must do", connections=connections, error=str(error))

    def end(self) -> None:
        """Stop all probes."""
        self._ended = True
        if self._looking:
            self._looking.cancel()

    async def _look(self) -> None:
        pause, since = _FIRST_PAUSE, time.monotonic()
        while error := await self._probe():
            if not isinstance(error, ReadOnly) and await self._pool_works(error):
                break
            self._tell(error)
            await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311 - no secret
            pause = min(pause * 2, _LONGEST_PAUSE)
        if error is None and (self.down or self._outdated):
            await self._connections.expire_connections()  # they lead to the former server
        self._outdated = False
        if self.down:
            self.down = None
            metrics.DATABASE_UP.set(1)
            metrics.DATABASE_READ_ONLY.set(0)
            _log.warning("database up", seconds=round(time.monotonic() - since, 1))

    def _tell(self, error: Exception) -> None:
        """Refuse requests from now on, and log the reason, once for each reason."""
        why = ReadOnly if isinstance(error, ReadOnly) else DatabaseUnavailable
        if self.down is why:
            return
        self.down = why
        self.on_down()
        metrics.DATABASE_UP.set(0)
        metrics.DATABASE_READ_ONLY.set(why is ReadOnly)
        if why is ReadOnly:
            _log.error("database read-only: requests are answered 503 until it takes writes", error=str(error))
        else:
            _log.error("database down: requests are answered 503 until it is up", error=repr(error))

    async def _probe(self) -> Exception | None:
        """Probe on a new connection. Return the error if that fails or the database takes no writes; else None."""
        try:
            async with asyncio.timeout(self._timeout):
                connection = await connect(**self._arguments)
                try:
                    # Behind a pooler, a mere connection proves little.
                    if await connection.execute(_IF_WRITABLE) != _WRITABLE:
                        return ReadOnly("it is a standby, or default_transaction_read_only is on")
                finally:
                    connection.terminate()
        except Exception as error:  # noqa: BLE001 - its class decides
            if isinstance(error.__cause__, asyncpg.TargetServerAttributeNotMatched):
                return ReadOnly(str(error))
            return error
        return None

    async def _pool_works(self, error: Exception) -> bool:
        """Say whether the pool's connections can be served from, though no new one can be had."""
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self.probe_idle(_IF_WRITABLE)
        except Exception as reason:  # noqa: BLE001 - as well
            _log.debug("no connection of the pool answers", error=repr(reason))
            return False
        if answer is None:  # all are in use: each will show by itself, as long as a server is there to refuse more
            return refused(error) and self._connections.get_size() > 0
        return answer == _WRITABLE


async def _nothing_idle(_statement: str) -> str | None:
    return None
