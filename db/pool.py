"""Connections to Postgres."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from db.dsn import connect_arguments

Pool: TypeAlias = asyncpg.Pool
Connection: TypeAlias = "asyncpg.Connection | PoolConnectionProxy"
Executor: TypeAlias = "asyncpg.Pool | asyncpg.Connection | PoolConnectionProxy"
"""What runs single statements: a connection, or a pool, which takes one for each."""

UNAVAILABLE: tuple[type[Exception], ...] = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shut down, starting up, statement timeout
    asyncpg.InsufficientResourcesError,
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,  # a replica, after a failover
    asyncpg.InternalClientError,  # used between the server's farewell and the socket's end (MagicStack/asyncpg#1069)
)
"""What a statement raises when the database can't be reached or doesn't answer in time: try again later."""


FAILED: tuple[type[Exception], ...] = (*UNAVAILABLE, asyncpg.PostgresError)
"""What a statement raises, whatever went wrong on the way or in the database."""


class CannotConnect(ConnectionError):
    """The server refused the connection; the message is its own: starting up, too many connections, wrong password."""


async def connect(*args: Any, **options: Any) -> asyncpg.Connection:
    """As asyncpg.connect, with every refusal as a `CannotConnect`."""
    try:
        return await asyncpg.connect(*args, **options)
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise CannotConnect(str(error)) from error


async def _keep(_connection: Connection) -> None:
    """No session state is ever set, so nothing need be reset: asyncpg's own costs a round trip at every release."""


class ConnectionLost(ConnectionError):
    """The connection ended while it was used: what was under way may or may not have been committed."""


@asynccontextmanager
async def connection(pool: Pool) -> AsyncIterator[Connection]:
    """A connection for several statements. Raises one of `UNAVAILABLE`, `ConnectionLost` where it ends meanwhile."""
    async with pool.acquire() as acquired:
        try:
            yield acquired
        except asyncpg.InterfaceError as error:
            if acquired.is_closed():
                raise ConnectionLost(str(error)) from error
            raise


@asynccontextmanager
async def open_pool(dsn: str, *, size: int = 10) -> AsyncIterator[Pool]:
    """A pool of up to `size` connections, closed on the way out. Raises one of `UNAVAILABLE`, or `db.dsn.BadDsn`."""
    pool = asyncpg.create_pool(
        **connect_arguments(dsn),
        connect=connect,
        min_size=1,
        max_size=size,
        reset=_keep,
        max_inactive_connection_lifetime=60,  # seconds; Neon closes what idles for 300
        timeout=15,
        command_timeout=15,
    )
    try:
        yield await pool
    finally:
        await pool.close()
