"""Connections to Postgres: so many and no more, a bounded queue for them, and none tried while the database is down."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from typing import Any, TypeAlias, TypeVar

import asyncpg
import structlog
from asyncpg.pool import PoolConnectionProxy

from config import metrics
from db.connection import UniqueNames, connect, connect_for_pool
from db.dsn import PREPARED, connect_arguments
from db.errors import (
    FAILED,
    NOT_PREPARED,
    CannotConnect,
    ConnectionLost,
    DatabaseUnavailable,
    NotPrepared,
    ReadOnly,
    TooManyRequests,
    refused,
    retry,
)
from db.turns import Turns, User
from db.watch import Watch

_log = structlog.get_logger(__name__)

Companion = TypeVar("Companion")
Connection: TypeAlias = "asyncpg.Connection | PoolConnectionProxy"

_CANCELLING = 1.0
"""Seconds for a statement that was given up to be cancelled; after that its connection is."""
_LOOKING_FOR_ROOM = 1.0
"""Seconds until a connection that was refused is tried again, while others work."""
_looks_for_room: ContextVar[bool] = ContextVar("_looks_for_room", default=False)
"""Whether this task wants a connection for nobody but to see whether one can be had again."""
_USELESS: tuple[type[Exception], ...] = (*FAILED, asyncpg.InterfaceError)
"""What leaves a connection of no more use."""


class Pool:
    """Connections for everything that a process asks of one database; `open_pool` makes one.

    As long as the database is down, and where the queue for connections is full, requests are refused at once. Users
    take turns (`of`), and a pool that is nobody's goes before them: it is for work that is done for many together.
    """

    def __init__(
        self,
        connections: asyncpg.Pool,
        arguments: dict[str, Any],
        watch: Watch,
        *,
        max_waiting: int,
        timeout: float,
        sharded: bool = False,
    ) -> None:
        self._connections, self._arguments = connections, arguments
        self.size = connections.get_max_size()
        self.max_waiting, self.timeout, self.sharded = max_waiting, timeout, sharded
        self._user: User = None
        self._companions: dict[Any, Any] = {}
        self._watch = watch
        self._turns = Turns(self.size, max_waiting=max_waiting, timeout=timeout)
        self._tasks: set[asyncio.Task[None]] = set()
        self._looking: set[asyncio.Task[None]] = set()
        watch.when_down = lambda: self._turns.refuse_all(self._unavailable)
        watch.ask_idle = self._ask_idle

    @property
    def down(self) -> bool:
        """Whether the database can't be served from, as far as is known."""
        return self._watch.down is not None

    def of(self, user: User) -> "Pool":
        """Return the same pool for what one user asks: they take turns with others."""
        theirs = Pool.__new__(Pool)  # at each request: copy() takes five times as long
        theirs.__dict__.update(self.__dict__)
        theirs._user = user
        return theirs

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        """A connection for several statements. Raises one of `UNAVAILABLE`, `ConnectionLost` where it ends meanwhile.

        Where the block raises, a transaction that it left open is rolled back. `NotPrepared` says that the statement
        at which it was raised did not run: what isn't committed yet may be done again, on another connection.
        """
        if self._watch.down:
            raise self._unavailable()
        acquired = await self._acquired()
        metrics.POOL_IN_USE.inc()
        try:
            yield acquired
        except BaseException as error:
            self._watch.report(error)
            if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
                acquired.terminate()  # another one may lead to a server that takes writes
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

        Whether it is committed can't be told where COMMIT `is_ambiguous`.
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

        return await retry(once)

    async def fetchrow(self, query: str, *args: Any) -> asyncpg.Record | None:
        """The first row, as `fetch`."""

        async def once() -> asyncpg.Record | None:
            async with self.acquire() as acquired:
                return await acquired.fetchrow(query, *args)

        return await retry(once)

    async def fetchval(self, query: str, *args: Any) -> Any:
        """The first row's first value, as `fetch`."""
        row = await self.fetchrow(query, *args)
        return None if row is None else row[0]

    async def probe(self, statement: str) -> None:
        """Run a statement as `fetch` does, waiting for nobody: where all connections are in use, on one of its own.

        `TooManyRequests` means that all are in use, and that the server has no further one.
        """

        async def once() -> None:
            if self._watch.down:
                raise self._unavailable()
            if self._turns.free and self._connections.get_idle_size():
                async with self.of(None).acquire() as acquired:
                    await acquired.execute(statement)
            else:
                await self._ask_apart(statement)

        await retry(once)

    async def _ask_apart(self, statement: str) -> None:
        try:
            connection = await connect(**self._arguments)
        except CannotConnect as error:
            if refused(error) and self._connections.get_size():
                raise TooManyRequests("all connections are in use, and there is no room for another one") from error
            self._watch.report(error)
            raise
        try:
            await connection.execute(statement)
        except Exception as error:
            self._watch.report(error)
            raise
        finally:
            connection.terminate()

    def companion(self, kind: "Callable[[Pool], Companion]") -> "Companion":
        """What `kind` makes of this pool: one, for all who use the pool."""
        found: Companion | None = self._companions.get(kind)
        if found is None:
            found = self._companions[kind] = kind(self.of(None))
        return found

    async def close(self) -> None:
        """Wait a moment for what is under way, then let go of it."""
        self._watch.end()
        for each in self._looking:
            each.cancel()
        with suppress(*FAILED):  # what doesn't end in time is cut off
            async with asyncio.timeout(_CANCELLING):
                await asyncio.gather(*self._tasks)
                await self._connections.close()
        self._connections.terminate()

    def _unavailable(self) -> DatabaseUnavailable:
        metrics.REFUSALS.labels("unavailable").inc()
        if self._watch.down is ReadOnly:
            return ReadOnly("the database takes no writes")
        return DatabaseUnavailable("the database can't be reached")

    async def _acquired(self) -> PoolConnectionProxy:
        """A connection, in turn. Where no further one can be had, those that there are have to do."""
        while True:
            if not self._turns.taken(self._user):
                await self._turns.wait(self._user)
            try:
                return await self._connections.acquire()
            except BaseException as error:
                if refused(error) and self._connections.get_size():
                    self._look_for_room_later(error)
                    continue
                self._turns.give(self._user)
                self._watch.report(error)
                if isinstance(error, asyncpg.InterfaceError):  # it is closed, as the service stops
                    raise CannotConnect(str(error)) from error
                raise

    def _look_for_room_later(self, error: BaseException) -> None:
        """Keep the place that no connection can be had for until one can be: else it would be tried at each turn, and
        before those that work."""
        self._turns.lose(self._user)
        task = asyncio.create_task(self._look_for_room())
        self._looking.add(task)
        task.add_done_callback(self._looking.discard)
        self._watch.tell_of_no_room(error)

    async def _look_for_room(self) -> None:
        _looks_for_room.set(True)
        try:
            while self._connections.get_size():  # else whoever wants one is to find out
                try:
                    found = await self._connections.acquire()
                except CannotConnect:
                    continue
                await self._connections.release(found)
                return
        except _USELESS as error:
            self._watch.report(error)
        finally:
            self._turns.regain()

    async def _ask_idle(self, statement: str) -> str | None:
        """Ask one of the connections that there are; `None` if all are in use."""
        if not self._turns.free or not self._connections.get_idle_size():
            return None
        acquired = await self.of(None)._acquired()
        try:
            return str(await acquired.execute(statement))
        except BaseException:
            acquired.terminate()
            raise
        finally:
            try:
                await self._connections.release(acquired)
            finally:
                self._turns.give(None)

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
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

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
        self._turns.give(self._user)


def _gone(acquired: PoolConnectionProxy) -> bool:
    try:
        return acquired.is_closed()
    except asyncpg.InterfaceError:  # the pool has taken it back already
        return True


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
    dsn: str,
    *,
    size: int = 10,
    max_waiting: int = 200,
    timeout: float = 10,  # noqa: ASYNC109 - of each request
    sharded: bool = False,
) -> AsyncIterator[Pool]:
    """A pool of up to `size` connections, made when they are first wanted, closed on the way out. Raises `BadDsn`.

    Up to `max_waiting` requests wait for one, each for `timeout` seconds at the most, which is also the most that a
    statement may take. `sharded` says that users lie on several servers, so that no statement should be about two.
    """
    told = connect_arguments(dsn)
    plan = _plan_once if told.get("statement_cache_size") == PREPARED else _plan_once_if_direct
    arguments = {"statement_cache_size": PREPARED, "command_timeout": timeout, **told}

    async def set_up(connection: Connection) -> None:
        if arguments["statement_cache_size"]:  # else a pooler is there: its sessions are others', too
            await plan(connection)

    async def connect_in_time(*dsn: Any, **options: Any) -> asyncpg.Connection:
        if _looks_for_room.get():
            await asyncio.sleep(_LOOKING_FOR_ROOM)
        return await connect_for_pool(*dsn, **options)

    async with asyncpg.create_pool(
        **arguments,
        connect=connect_in_time,
        connection_class=UniqueNames,
        min_size=0,  # the service can start, and a worker be replaced, while the database is down
        max_size=size,
        init=set_up,
        reset=_keep,
        max_inactive_connection_lifetime=60,  # seconds; Neon closes what idles for 300
    ) as connections:
        watch = Watch(connections, arguments, timeout=timeout)
        pool = Pool(connections, arguments, watch, max_waiting=max_waiting, timeout=timeout, sharded=sharded)
        metrics.POOL_SIZE.inc(size)
        try:
            yield pool
        finally:
            await pool.close()
            metrics.POOL_SIZE.dec(size)
