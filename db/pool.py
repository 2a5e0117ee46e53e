"""Connections to Postgres: so many and no more, a bounded queue for them, and none tried while the database is away."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeAlias, TypeVar

import asyncpg
import structlog
from asyncpg.pool import PoolConnectionProxy

from config import metrics
from db.connection import UniqueNames, connect, connect_for_pool
from db.dsn import PREPARED, connect_arguments
from db.failures import (
    FAILED,
    NOT_PREPARED,
    Away,
    Busy,
    CannotConnect,
    ConnectionLost,
    NotPrepared,
    retried,
    unanswered,
)

_log = structlog.get_logger(__name__)

Companion = TypeVar("Companion")
Connection: TypeAlias = "asyncpg.Connection | PoolConnectionProxy"

_CANCELLING = 1.0
"""Seconds for a statement that was given up to be cancelled; after that its connection is."""
_ASKING = 2.0
"""Seconds in which a database that is in doubt must answer."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
"""Seconds between two such questions."""
_USELESS: tuple[type[Exception], ...] = (*FAILED, asyncpg.InterfaceError)
"""What leaves a connection of no more use."""


class Pool:
    """Connections for everything that a process asks of one database; `open_pool` makes one.

    As long as the database can't be reached, and where the queue for connections is full, requests are refused at once.
    """

    def __init__(
        self,
        connections: asyncpg.Pool,
        arguments: dict[str, Any],
        watch: "_Watch",
        *,
        queue: int,
        patience: float,
        sharded: bool = False,
    ) -> None:
        self._connections, self._arguments = connections, arguments
        self.size = connections.get_max_size()
        self.queue, self.patience, self.sharded = queue, patience, sharded
        self._companions: dict[Any, Any] = {}
        self._watch = watch
        watch.when_away = self._give_up_waiting
        self._turns = asyncio.Semaphore(self.size)
        self._waiting: set[asyncio.Timeout] = set()
        self._clearing_up: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        """A connection for several statements. Raises one of `UNAVAILABLE`, `ConnectionLost` where it ends meanwhile.

        Where the block raises, a transaction that it left open is rolled back. `NotPrepared` says that the statement
        at which it was raised did not run: what isn't committed yet may be done again, on another connection.
        """
        await self._turn()
        try:
            acquired = await self._connections.acquire()
        except BaseException as error:
            self._turns.release()
            self._suspect(error)
            if isinstance(error, asyncpg.InterfaceError):  # it is closed, as the service stops
                raise CannotConnect(str(error)) from error
            raise
        metrics.POOL_IN_USE.inc()
        try:
            yield acquired
        except BaseException as error:
            self._suspect(error)
            self._clear_up_later(acquired, given_up=isinstance(error, TimeoutError | asyncio.CancelledError))
            if isinstance(error, NOT_PREPARED):
                await self._stop_preparing(error)
                raise NotPrepared(str(error)) from error
            if isinstance(error, asyncpg.InterfaceError) and _gone(acquired):
                raise ConnectionLost(str(error)) from error
            raise
        try:
            await self._connections.release(acquired)
        except _USELESS as error:  # what was asked for is done
            _log.debug("connection given up", error=repr(error))
        finally:
            self._done()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection in a transaction (READ COMMITTED), committed at the end of the block. Raises as `acquire` does.

        Whether it is committed can't be told where COMMIT is `unanswered`.
        """
        async with self.acquire() as acquired:
            await acquired.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            yield acquired
            done = await acquired.execute("COMMIT")
            assert done == "COMMIT", done  # noqa: S101 - else a statement failed, and that was swallowed

    async def fetch(self, query: str, *args: Any) -> list[asyncpg.Record]:
        """The rows of a statement that only reads: it is asked again where the connection was dropped."""

        async def once() -> list[asyncpg.Record]:
            async with self.acquire() as acquired:
                return await acquired.fetch(query, *args)

        return await retried(once)

    async def fetchrow(self, query: str, *args: Any) -> asyncpg.Record | None:
        """The first row, as `fetch`."""

        async def once() -> asyncpg.Record | None:
            async with self.acquire() as acquired:
                return await acquired.fetchrow(query, *args)

        return await retried(once)

    async def fetchval(self, query: str, *args: Any) -> Any:
        """The first row's first value, as `fetch`."""
        row = await self.fetchrow(query, *args)
        return None if row is None else row[0]

    def companion(self, kind: "Callable[[Pool], Companion]") -> "Companion":
        """What `kind` makes of this pool: one, for all who use the pool."""
        found: Companion | None = self._companions.get(kind)
        if found is None:
            found = self._companions[kind] = kind(self)
        return found

    async def close(self) -> None:
        """Wait a moment for what is under way, then let go of it."""
        self._watch.end()
        with suppress(*FAILED):  # what doesn't end in time is cut off
            async with asyncio.timeout(_CANCELLING):
                await asyncio.gather(*self._clearing_up)
                await self._connections.close()
        self._connections.terminate()

    async def _turn(self) -> None:
        self._refuse_if_away()
        if not self._turns.locked():
            await self._turns.acquire()  # at once
            return
        if len(self._waiting) >= self.queue:
            metrics.REFUSALS.labels("busy").inc()
            raise Busy(f"{len(self._waiting)} requests wait for the database already")
        patience = asyncio.timeout(self.patience)
        self._waiting.add(patience)
        metrics.POOL_WAITING.inc()
        try:
            async with patience:
                await self._turns.acquire()
        except TimeoutError:
            self._refuse_if_away()
            metrics.REFUSALS.labels("busy").inc()
            raise Busy(f"no connection was free for {self.patience:g} s") from None
        finally:
            self._waiting.discard(patience)
            metrics.POOL_WAITING.dec()

    def _refuse_if_away(self) -> None:
        if self._watch.away:
            metrics.REFUSALS.labels("away").inc()
            raise Away("the database can't be reached")

    def _give_up_waiting(self) -> None:
        """Of all who wait for a connection: they would find the database away."""
        for patience in self._waiting:
            patience.reschedule(asyncio.get_running_loop().time())

    def _suspect(self, error: BaseException) -> None:
        if unanswered(error):
            self._watch.look(silent=isinstance(error, TimeoutError))

    async def _stop_preparing(self, error: Exception) -> None:
        """From now on, make connections that prepare no statement: there is a pooler which nobody told us of."""
        if not self._arguments["statement_cache_size"]:  # another request has found out already
            return
        self._arguments["statement_cache_size"] = 0
        self._connections.set_connect_args(**self._arguments)
        reason = str(error).partition("\n")[0]  # what follows is the driver's advice, which isn't ours
        _log.warning("pooler found: say ?pgbouncer=true in DATABASE_URL; no statement is prepared now", error=reason)
        await self._connections.expire_connections()  # each is replaced when it is wanted next

    def _clear_up_later(self, acquired: PoolConnectionProxy, *, given_up: bool) -> None:
        """What went wrong may take a moment to clear up; nobody need wait for that."""
        task = asyncio.create_task(self._clear_up(acquired, given_up=given_up))
        self._clearing_up.add(task)
        task.add_done_callback(self._clearing_up.discard)

    async def _clear_up(self, acquired: PoolConnectionProxy, *, given_up: bool) -> None:
        """Wait until a statement that was given up is cancelled, and end its transaction; else end the connection."""
        try:
            async with asyncio.timeout(_CANCELLING):
                if given_up and not _gone(acquired) and not acquired.is_in_transaction():
                    await acquired.execute("SELECT")  # once it is cancelled; it may have been a BEGIN
                if not _gone(acquired) and acquired.is_in_transaction():
                    await acquired.execute("ROLLBACK")
                await self._connections.release(acquired)
        except _USELESS as error:
            _log.debug("connection given up", error=repr(error))
            if not _gone(acquired):
                acquired.terminate()
        finally:
            self._done()

    def _done(self) -> None:
        metrics.POOL_IN_USE.dec()
        self._turns.release()


def _gone(acquired: PoolConnectionProxy) -> bool:
    try:
        return acquired.is_closed()
    except asyncpg.InterfaceError:  # the pool has taken it back already
        return True


class _Watch:
    """Whether the database can be reached. Once that is in doubt, it is asked, on a connection of our own, until it
    answers: so that one question is under way while it is away, and not one for each request."""

    def __init__(self, connections: asyncpg.Pool, arguments: dict[str, Any], *, patience: float) -> None:
        self.away = False
        self.when_away: Callable[[], None] = lambda: None
        self._silent = self._ended = False
        self._patience = patience
        self._connections = connections
        self._arguments = arguments
        self._looking: asyncio.Task[None] | None = None

    def look(self, *, silent: bool) -> None:
        """Ask, unless that is under way. `silent`: a connection says no more, so others may lead nowhere too."""
        self._silent = self._silent or silent
        if not self._ended and (self._looking is None or self._looking.done()):
            self._looking = asyncio.create_task(self._look())

    def end(self) -> None:
        self._ended = True
        if self._looking:
            self._looking.cancel()

    async def _look(self) -> None:
        pause, since = _FIRST_PAUSE, time.monotonic()
        while error := await self._ask():
            if not self.away:
                self.away = True
                self.when_away()
                metrics.DATABASE_AWAY.set(1)
                _log.error("database away: requests are answered 503 until it is back", error=repr(error))
            await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311 - no secret
            pause = min(pause * 2, _LONGEST_PAUSE)
        if self.away or self._silent:
            await self._connections.expire_connections()  # they lead to what was there before
            self._silent = False
        if self.away:
            self.away = False
            metrics.DATABASE_AWAY.set(0)
            _log.warning("database back", seconds=round(time.monotonic() - since, 1))

    async def _ask(self) -> Exception | None:
        """Why it can't be reached, if so. A server that refuses one more of us, but has others, is there."""
        try:
            async with asyncio.timeout(self._patience):
                connection = await connect(**self._arguments)
                try:
                    await connection.execute("SELECT")  # behind a pooler, a connection says little
                finally:
                    connection.terminate()
        except Exception as error:  # noqa: BLE001 - what it is decides
            reason = error.__cause__ if isinstance(error, CannotConnect) and error.__cause__ else error
            return error if unanswered(reason) or not self._connections.get_size() else None
        return None


Executor: TypeAlias = "Pool | asyncpg.Connection | PoolConnectionProxy"
"""What runs single statements that read: a connection, or a pool, which takes one for each."""


async def _keep(_connection: Connection) -> None:
    """No session state is ever set, so nothing need be reset: asyncpg's own costs a round trip at every release."""


async def _plan_once(connection: Connection) -> None:
    """Plan a statement when it is prepared, and never again: on partitioned tables, a plan for just these values costs
    more than it saves, and Postgres would make one each time. Nor is there anything to compile in such statements."""
    await connection.execute(f"SELECT {_PLANNING}")


async def _plan_once_if_direct(connection: Connection) -> None:
    """As `_plan_once`, unless the server's process isn't the one that we were told of: then something is in between
    that may pass the server's session, with its settings, to others."""
    await connection.execute(f"SELECT {_PLANNING} WHERE pg_backend_pid() = {connection.get_server_pid()}")


_PLANNING = "set_config('plan_cache_mode', 'force_generic_plan', false), set_config('jit', 'off', false)"


@asynccontextmanager
async def open_pool(
    dsn: str, *, size: int = 10, queue: int = 200, patience: float = 10, sharded: bool = False
) -> AsyncIterator[Pool]:
    """A pool of up to `size` connections, made when they are first wanted, closed on the way out. Raises `BadDsn`.

    Up to `queue` requests wait for one, and each for `patience` seconds at the most, which is also what a statement may
    take. `sharded` says that users lie on several servers, so that no statement should be about two.
    """
    told = connect_arguments(dsn)
    plan = _plan_once if told.get("statement_cache_size") == PREPARED else _plan_once_if_direct
    arguments = {"statement_cache_size": PREPARED, "command_timeout": patience, **told}

    async def set_up(connection: Connection) -> None:
        if arguments["statement_cache_size"]:  # else a pooler is there: its sessions are others', too
            await plan(connection)

    async with asyncpg.create_pool(
        **arguments,
        connect=connect_for_pool,
        connection_class=UniqueNames,
        min_size=0,  # the service can start, and a worker be replaced, while the database is away
        max_size=size,
        init=set_up,
        reset=_keep,
        max_inactive_connection_lifetime=60,  # seconds; Neon closes what idles for 300
    ) as connections:
        watch = _Watch(connections, arguments, patience=min(patience, _ASKING))
        pool = Pool(connections, arguments, watch, queue=queue, patience=patience, sharded=sharded)
        metrics.POOL_SIZE.inc(size)
        try:
            yield pool
        finally:
            await pool.close()
            metrics.POOL_SIZE.dec(size)
