"""The servers of a database that is distributed by user (Citus): which one has a user, and which don't answer."""

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
import structlog

from db.connection import connect
from db.errors import FAILED, FAILED_OR_CLOSED, NOT_SENT, UNAVAILABLE, CannotConnect

if TYPE_CHECKING:
    from db.pool import Pool

_log = structlog.get_logger(__name__)

Server: TypeAlias = int
"""A server's number: `groupid` in Citus's tables."""

# Answered by the coordinator alone. There is no limit for a server that has all users, so it has no row.
SERVER_OF = """
SELECT place.groupid FROM pg_dist_placement AS place
WHERE place.shardid = get_shard_id_for_distribution_column('streams', $1::text)
  AND EXISTS (SELECT FROM pg_dist_placement AS other WHERE other.groupid <> place.groupid)
"""
PROBE_OF_SERVER = "SELECT seq FROM streams WHERE user_id = $1"

_VALID = 60.0
"""Seconds after which a user is looked up again: the user's shard may have been moved."""
_MOST = 100_000
"""Largest number of users that are kept, about 20 MB."""
_ASKING = 2.0
"""Seconds in which a server in doubt must answer."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0
"""First and longest pause between two probes, in seconds."""


class Servers:
    """The servers of a database, as far as its users have been looked up.

    Invariants: a server is in doubt after a statement that ran out of time or lost its connection, until it answers a
    probe, or none can be sent. It is down from a probe that it doesn't answer until then. One task probes it, on a
    connection of its own.
    """

    def __init__(self, arguments: dict[str, Any], *, timeout: float) -> None:
        self._arguments, self._timeout = arguments, min(timeout, _ASKING)
        self.on_doubt: Callable[[Server], None] = lambda _: None
        self.on_down: Callable[[Server], None] = lambda _: None
        self.on_settled: Callable[[Server], None] = lambda _: None
        self._found: dict[str, tuple[Server | None, float]] = {}
        self._tell = True
        """True as long as the database tells where users are."""
        self._probes: dict[Server, asyncio.Task[None]] = {}
        self._down: set[Server] = set()

    def of(self, user: str) -> Server | None:
        """Return the user's server; `None` if it isn't known, or if there is no other one."""
        return self._found.get(user, (None, 0))[0]

    async def find(self, pool: "Pool", user: str) -> Server | None:
        """Return the user's server as `of` does, but ask the database if it isn't known. Raises one of `NOT_SENT`.

        A database that doesn't tell isn't asked again.
        """
        if self._tell and (user not in self._found or time.monotonic() >= self._found[user][1]):
            try:
                async with pool.acquire() as connection:
                    server: Server | None = await connection.fetchval(SERVER_OF, user)
            except NOT_SENT:
                raise
            except UNAVAILABLE as error:
                raise CannotConnect(str(error) or repr(error)) from error
            except asyncpg.PostgresError as error:
                if self._tell:
                    _log.warning("the database doesn't tell which server has a user", error=str(error))
                self._tell = False
            else:
                self._keep(user, server)
        return self.of(user)

    def _keep(self, user: str, server: Server | None) -> None:
        self._found.pop(user, None)
        self._found[user] = (server, time.monotonic() + _VALID)
        if len(self._found) > _MOST:
            del self._found[next(iter(self._found))]

    def down(self, user: str) -> bool:
        """Say whether the user's server is known not to answer."""
        return self.of(user) in self._down

    def report(self, user: str, error: BaseException) -> None:
        """Have the user's server probed, unless it is being probed already, if this error leaves it in doubt."""
        server = self.of(user)
        doubtful = isinstance(error, TimeoutError | asyncpg.PostgresConnectionError)
        if doubtful and server is not None and server not in self._probes:
            self._probes[server] = asyncio.create_task(self._look(server, user))
            self.on_doubt(server)

    def end(self) -> None:
        """Stop all probes."""
        for each in self._probes.values():
            each.cancel()

    async def _look(self, server: Server, user: str) -> None:
        pause, since = _FIRST_PAUSE, time.monotonic()
        try:
            while not (answers := await self._answers(user)):
                if server not in self._down:
                    if answers is None:
                        return
                    self._down.add(server)
                    self.on_down(server)
                    _log.error("server down: its users are answered 503 until it is up", server=server)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
        finally:
            del self._probes[server]
            self.on_settled(server)
        if server in self._down:
            self._down.discard(server)
            _log.warning("server up", server=server, seconds=round(time.monotonic() - since, 1))

    async def _answers(self, user: str) -> bool | None:
        """Read from the user's server on a new connection. Return `None` if none can be had: that is the coordinator's.

        The coordinator is the health monitor's affair, or has no room for another connection.
        """
        try:
            async with asyncio.timeout(self._timeout):
                connection = await connect(**self._arguments)
        except FAILED:
            return None
        try:
            async with asyncio.timeout(self._timeout):
                await connection.fetchval(PROBE_OF_SERVER, user)
        except FAILED_OR_CLOSED as error:
            _log.debug("a server doesn't answer", error=repr(error))
            return False
        finally:
            connection.terminate()
        return True
