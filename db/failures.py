"""What goes wrong on the way to the database or in it, and what may be tried again.

ConnectionError
├── CannotConnect    the server refused the connection: nothing was sent
├── Away             it couldn't be reached a moment ago: nothing was sent
│   └── ReadOnly     it took no writes a moment ago: nothing was sent
├── Busy             too many wait for it already: nothing was sent
├── NotPrepared      a pooler lost the prepared statement: nothing was done
└── ConnectionLost   the connection ended while it was used: what was under way may or may not be committed
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg
import stamina

Result = TypeVar("Result")

_RETRYING = 0.7
"""Seconds for all tries together: a request is answered within one, also where the database is away."""


class CannotConnect(ConnectionError):
    """The server refused the connection; the message is its own: starting up, too many connections, wrong password."""


class Away(ConnectionError):
    """The database couldn't be reached a moment ago. Nothing was sent."""


class ReadOnly(Away):
    """The database took no writes a moment ago: it is a standby, or read-only for now. Nothing was sent."""


class Busy(ConnectionError):
    """More requests wait for the database than it can serve soon. Nothing was sent."""


class NotPrepared(ConnectionError):
    """A pooler passed a prepared statement to a server connection that doesn't know it: the statement did not run.

    The transaction that it was part of is aborted. Another connection will do.
    """


class ConnectionLost(ConnectionError):
    """The connection ended while it was used: what was under way may or may not have been committed."""


NOT_SENT = (CannotConnect, Away, Busy, NotPrepared)
"""Errors after which nothing of a statement, or of the transaction it was part of, can have been committed."""

NOT_PREPARED = (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError)
"""What the server answers (26000, 42P05) when a pooler, instead of the connection that prepared a statement, passes it
another one. It comes before the statement is run."""

UNAVAILABLE: tuple[type[Exception], ...] = (
    OSError,  # all of the above, and TimeoutError
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shut down, starting up, statement timeout
    asyncpg.InsufficientResourcesError,
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby, after a failover; a full disk, at some providers
    asyncpg.InternalClientError,  # used between the server's farewell and the socket's end (MagicStack/asyncpg#1069)
)
"""What a statement raises when the database can't be reached or doesn't answer in time: try again later."""


FAILED: tuple[type[Exception], ...] = (*UNAVAILABLE, asyncpg.PostgresError)
"""What a statement raises, whatever went wrong on the way or in the database."""


def unanswered(error: BaseException) -> bool:
    """Whether the connection ended, or the time ran out, before the statement's end was heard of."""
    return isinstance(
        error,
        OSError
        | asyncpg.PostgresConnectionError
        | asyncpg.AdminShutdownError  # it may come after the commit
        | asyncpg.CrashShutdownError
        | asyncpg.CannotConnectNowError
        | asyncpg.InternalClientError,
    )


def refused(error: BaseException) -> bool:
    """Whether a server is there and takes no connection (or no more) from us: it said so in Postgres' protocol.

    Which SQLSTATE it says so with tells nothing: of too many connections it is 53300 from Postgres, 08P01 from
    PgBouncer, XX000 from Supavisor, 58000 from pgcat.
    """
    return isinstance(error, CannotConnect) and isinstance(error.__cause__, asyncpg.PostgresError)


def dropped(error: Exception) -> bool:
    """Whether a connection was dropped or refused, so that another one may do better."""
    return unanswered(error) and not isinstance(error, TimeoutError | Away | Busy)


async def retried(work: Callable[[], Awaitable[Result]], *, on: Callable[[Exception], bool] = dropped) -> Result:
    """What `work`, an `async def`, gives: where a connection was dropped or refused (`on`), from another try, after a
    moment.

    Only for what may be done twice. Raises what the last try raised.
    """
    try:
        return await work()
    except Exception as error:
        if not on(error):
            raise
    again = stamina.retry(on=on, attempts=None, timeout=_RETRYING, wait_initial=0.02, wait_max=0.2, wait_jitter=0.05)(
        work
    )
    return await again()
