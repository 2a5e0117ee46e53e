"""The connection pool: a limited number, a bounded queue for them, and no tries while the database is down."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from typing import Any, TypeAlias

import asyncpg
import structlog
from asyncpg.pool import PoolConnectionProxy

from db import deadline, session
from db.connection import UniqueNames, connect, connect_for_pool
from db.dsn import PREPARED, connect_arguments
from db.errors import (
    FAILED,
    FAILED_OR_CLOSED,
    NOT_PREPARED,
    CannotConnect,
    ConnectionLost,
    DatabaseUnavailable,
    NotPrepared,
    ReadOnly,
    TooBusy,
    refused,
    retry,
)
from db.health import HealthMonitor
from db.servers import Server, Servers
from db.turns import Turns, User
from telemetry import metrics

_log = structlog.get_logger(__name__)

Connection: TypeAlias = "asyncpg.Connection | PoolConnectionProxy"

_CANCELLING = 1.0
"""Seconds for the cancellation of a statement that was given up; after that its connection is ended."""
_LOOKING_FOR_ROOM = 1.0
"""Seconds until a refused connection is tried again, while others work."""
_FAIR = 0.1
"""Share of the timeout that a statement must have if running out of it is to cast a doubt on the server. A request that
has waited long for a connection has less.
"""
_looks_for_room: ContextVar[bool] = ContextVar("_looks_for_room", default=False)
"""True in a task that only tests if the server has room for a connection again."""


class Pool:
    """A pool of connections for all of a process's work on one database; `open_pool` makes one.

    Invariants: no more than `size` connections are in use, but for a probe's own. While the database is down, or if the
    queue for connections is full, requests are refused at once. Users take turns (`of`). A pool without a user goes
    before them: it is for work done for many users together.
    """

    def __init__(
        self,
        connections: asyncpg.Pool,
        arguments: dict[str, Any],
        watch: HealthMonitor,
        *,
        max_waiting: int,
        timeout: float,
        sharded: bool = False,
    ) -> None:
        self._connections, self._arguments, self._watch = connections, arguments, watch
        self.size = connections.get_max_size()
        self.max_waiting, self.timeout, self.sharded = max_waiting, timeout, sharded
        self._user: User = None
        self._requester: User = None
        """The user to take a turn of, if it isn't the owner of the data (`read_by`)."""
        self._servers = Servers(arguments, timeout=timeout) if sharded else None
        server_of = self._servers.of if self._servers else None
        self._turns = Turns(self.size, max_waiting=max_waiting, timeout=timeout, server_of=server_of)
        if self._servers:
            self._servers.on_doubt, self._servers.on_settled = self._turns.hold_back, self._turns.let_go
            self._servers.on_down = lambda server: self._turns.refuse_all(self._unavailable, server=server)
        self._tasks, self._looking = set[asyncio.Task[None]](), set[asyncio.Task[None]]()
        watch.on_down = lambda: self._turns.refuse_all(self._unavailable)
        watch.probe_idle = self._probe_idle

    @property
    def down(self) -> bool:
        """Say whether the database is known to be unreachable, or to take no writes."""
        return self._watch.down is not None

    def of(self, user: User) -> "Pool":
        """Return this pool for one user's requests, which take turns with others'."""
        theirs = Pool.__new__(Pool)  # at each request: copy() takes five times as long
        theirs.__dict__.update(self.__dict__)
        theirs._user = user
        return theirs

    def read_by(self, requester: str) -> "Pool":
        """Return this pool for reads of other users' rows, which take the turns of the `requester`, and not theirs."""
        theirs = self.of(self._user)
        theirs._requester = requester
        return theirs

    @property
    def _turn_of(self) -> User:
        """Return the user whose turn it takes. Work for many users has none."""
        return self._user if self._user is None or self._requester is None else self._requester

    async def server_of(self, user: str) -> Server | None:
        """Return the server that has the user, if the database is distributed to several. Raises one of `NOT_SENT`."""
        return await self._servers.find(self.of(None), user) if self._servers else None

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        """Yield a connection for several statements.

        Raises one of `UNAVAILABLE`, or `ConnectionLost` if it ends meanwhile. If the block raises, a transaction that
        it left open is rolled back. After `NotPrepared`, the statement that raised it did not run: uncommitted work may
        be done again, on another connection. If there is a deadline (db.deadline), all of this is over by then.
        """
        if self._watch.down:
            raise self._unavailable()
        acquired = await self._acquired()
        metrics.POOL_IN_USE.inc()
        bound = asyncio.timeout_at(deadline.current())
        fair = self._is_fair(bound)
        try:
            async with bound:
                yield acquired
        except BaseException as error:
            if fair or not bound.expired():
                self._watch.report(error)
                if self._servers and self._user is not None:
                    self._servers.report(self._user, error)
            if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
                acquired.terminate()  # a new one may lead to a server that takes writes
            self._clear_up_later(acquired, given_up=isinstance(error, TimeoutError | asyncio.CancelledError))
            if isinstance(error, NOT_PREPARED):
                await self._stop_preparing(error)
                raise NotPrepared(str(error)) from error
            if isinstance(error, asyncpg.InterfaceError) and session.is_gone(acquired):
                raise ConnectionLost(str(error)) from error
            raise
        try:
            await self._connections.release(acquired)
        except FAILED_OR_CLOSED as error:  # the work itself is done
            _log.debug("connection given up", error=repr(error))
        finally:
            self._done()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Yield a connection in a transaction (READ COMMITTED), and commit at the end. Raises as `acquire` does.

        If the error of COMMIT `is_ambiguous`, the transaction may or may not be committed.
        """
        async with self.acquire() as acquired:
            await acquired.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            yield acquired
            done = await acquired.execute("COMMIT")
            assert done == "COMMIT", done  # noqa: S101 - else a statement failed, and that was swallowed

    async def fetch(self, query: str, *args: Any) -> list[asyncpg.Record]:
        """Return the rows of a statement that is safe to run twice. Run it again if the connection was dropped.

        The wait for a connection and all tries have the pool's timeout together, or the time until the deadline.
        """

        async def once() -> list[asyncpg.Record]:
            async with self.acquire() as acquired:
                return await acquired.fetch(query, *args)

        with deadline.until(deadline.at_most(self.timeout)):
            return await retry(once)

    async def fetchrow(self, query: str, *args: Any) -> asyncpg.Record | None:
        """Return the first row, or None; retry as `fetch` does."""

        async def once() -> asyncpg.Record | None:
            async with self.acquire() as acquired:
                return await acquired.fetchrow(query, *args)

        with deadline.until(deadline.at_most(self.timeout)):
            return await retry(once)

    async def fetchval(self, query: str, *args: Any) -> Any:
        """Return the first row's first value, or None; retry as `fetch` does."""
        row = await self.fetchrow(query, *args)
        return None if row is None else row[0]

    async def probe(self, statement: str) -> None:
        """Run a statement as `fetch` does, without queueing: if all connections are in use, on one of its own.

        Raises `TooBusy` if all are in use and the server has no room for a further one.
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
                raise TooBusy("all connections are in use, and there is no room for another one") from error
            self._watch.report(error)
            raise
        try:
            await connection.execute(statement)
        except Exception as error:
            self._watch.report(error)
            raise
        finally:
            connection.terminate()

    async def close(self) -> None:
        """Wait up to a second for work under way, then end it and close the connections."""
        self._watch.end()
        if self._servers:
            self._servers.end()
        for each in self._looking:
            each.cancel()
        with suppress(*FAILED):  # the rest is cut off
            async with asyncio.timeout(_CANCELLING):
                await asyncio.gather(*self._tasks)
                await self._connections.close()
        self._connections.terminate()

    def _is_fair(self, bound: asyncio.Timeout) -> bool:
        """Say whether this leaves work that begins now so much time that running out of it casts a doubt."""
        at = bound.when()
        return at is None or at - asyncio.get_running_loop().time() >= self.timeout * _FAIR

    def _unavailable(self) -> DatabaseUnavailable:
        metrics.REFUSALS.labels("unavailable").inc()
        if self._watch.down is ReadOnly:
            return ReadOnly("the database takes no writes")
        return DatabaseUnavailable("the database can't be reached")

    async def _acquired(self) -> PoolConnectionProxy:
        """Return a connection, in turn. If the server refuses a further one, wait for one of the existing."""
        if self._servers and self._user is not None:
            await self.server_of(self._user)
            if self._servers.down(self._user):
                raise self._unavailable()
        while True:
            if not self._turns.taken(self._turn_of):
                await self._turns.wait(self._turn_of)
            bound = asyncio.timeout_at(deadline.current())
            fair = self._is_fair(bound)
            try:
                async with bound:
                    return await self._connections.acquire()
            except BaseException as error:
                if refused(error) and self._connections.get_size():
                    self._look_for_room_later(error)
                    continue
                self._turns.give(self._turn_of)
                if fair or not bound.expired():
                    self._watch.report(error)
                if isinstance(error, asyncpg.InterfaceError):  # the pool is closed: the service stops
                    raise CannotConnect(str(error)) from error
                raise

    def _look_for_room_later(self, error: BaseException) -> None:
        """Withhold the turn of a refused connection until the server has room again.

        Otherwise it would be tried at each turn, and before the connections that work.
        """
        self._turns.lose(self._turn_of)
        task = asyncio.create_task(self._look_for_room())
        self._looking.add(task)
        task.add_done_callback(self._looking.discard)
        self._watch.log_no_room(error)

    async def _look_for_room(self) -> None:
        _looks_for_room.set(True)
        try:
            while self._connections.get_size():  # else the next request is to find out
                try:
                    found = await self._connections.acquire()
                except CannotConnect:
                    continue
                await self._connections.release(found)
                return
        except FAILED_OR_CLOSED as error:
            self._watch.report(error)
        finally:
            self._turns.regain()

    async def _probe_idle(self, statement: str) -> str | None:
        """Run a statement on an idle connection. Return its status tag; `None` if all are in use."""
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
        """Make connections that prepare no statement from now on: there is a pooler unknown to the address."""
        if not self._arguments["statement_cache_size"]:  # another request has done it already
            return
        self._arguments["statement_cache_size"] = 0
        self._connections.set_connect_args(**self._arguments)
        reason = str(error).partition("\n")[0]  # the rest is the driver's advice, not ours
        _log.warning("pooler found: say ?pgbouncer=true in DATABASE_URL; no statement is prepared now", error=reason)
        await self._connections.expire_connections()  # each is replaced at its next use

    def _clear_up_later(self, acquired: PoolConnectionProxy, *, given_up: bool) -> None:
        """Clear up after an error in a task of its own: it may take a moment, and no request need wait for it."""
        task = asyncio.create_task(self._clear_up(acquired, given_up=given_up))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _clear_up(self, acquired: PoolConnectionProxy, *, given_up: bool) -> None:
        """Wait until an abandoned statement is cancelled, and end its transaction; failing that, end the connection."""
        try:
            async with asyncio.timeout(_CANCELLING):
                if given_up and not session.is_gone(acquired) and not acquired.is_in_transaction():
                    await acquired.execute("SELECT")  # after the cancellation; it may have been a BEGIN
                if not session.is_gone(acquired) and acquired.is_in_transaction():
                    await acquired.execute("ROLLBACK")
                await self._connections.release(acquired)
        except FAILED_OR_CLOSED as error:
            _log.debug("connection given up", error=repr(error))
            if not session.is_gone(acquired):
                acquired.terminate()
        finally:
            self._done()

    def _done(self) -> None:
        metrics.POOL_IN_USE.dec()
        self._turns.give(self._turn_of)


Executor: TypeAlias = "Pool | asyncpg.Connection | PoolConnectionProxy"
"""A runner of single read-only statements: a connection, or a pool, which takes one for each."""


@asynccontextmanager
async def open_pool(
    dsn: str,
    *,
    size: int = 10,
    max_waiting: int = 200,
    timeout: float = 10,  # noqa: ASYNC109 - for each request
    sharded: bool = False,
) -> AsyncIterator[Pool]:
    """Open a pool of up to `size` connections, made at first use and closed with the block. Raises `BadDsn`.

    Up to `max_waiting` requests wait for one. `timeout` is the seconds for a wait and its statement together, and for
    each statement of a transaction. `sharded` says that users lie on several servers, so that no statement should touch
    two of them.
    """
    told = connect_arguments(dsn)
    direct = told.get("statement_cache_size") == PREPARED
    arguments = {"statement_cache_size": PREPARED, "command_timeout": timeout, **told}

    async def set_up(connection: Connection) -> None:
        session.know_types(connection)
        if arguments["statement_cache_size"]:  # else a pooler is there, and shares its sessions with others
            await session.set_up(connection, sharded=sharded, direct=direct)

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
        reset=session.keep,
        max_inactive_connection_lifetime=60,  # seconds; Neon closes connections that idle for 300
    ) as connections:
        watch = HealthMonitor(connections, arguments, timeout=timeout)
        pool = Pool(connections, arguments, watch, max_waiting=max_waiting, timeout=timeout, sharded=sharded)
        metrics.POOL_SIZE.inc(size)
        try:
            yield pool
        finally:
            await pool.close()
            metrics.POOL_SIZE.dec(size)
