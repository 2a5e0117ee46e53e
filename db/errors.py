"""Errors of the database and of the way to it, and which of them may be retried.

ConnectionError
├── CannotConnect        the server refused the connection: nothing was sent
├── DatabaseUnavailable  it couldn't be reached a moment ago: nothing was sent
│   └── ReadOnly         it took no writes a moment ago: nothing was sent
├── TooBusy              too many wait for it already: nothing was sent
├── NotPrepared          a pooler lost the prepared statement: nothing was done
└── ConnectionLost       the connection ended in use: the work under way may or may not be committed
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg
import stamina

_Result = TypeVar("_Result")

_RETRYING = 0.7
"""Seconds from the first try in which a next one may begin: a request is refused soon if the database is down."""


class BadDsn(ValueError):
    """A database address that can't be used. The message never shows the password."""


class CannotConnect(ConnectionError):
    """The server refused the connection; the message is its own: starting up, too many connections, wrong password."""


class DatabaseUnavailable(ConnectionError):
    """The database couldn't be reached a moment ago. Nothing was sent."""


class ReadOnly(DatabaseUnavailable):
    """The database took no writes a moment ago: it is a standby, or read-only for now. Nothing was sent."""


class TooBusy(ConnectionError):
    """More requests wait for the database than it can serve soon. Nothing was sent."""


class NotPrepared(ConnectionError):
    """A pooler passed a prepared statement to a server connection that doesn't know it: the statement did not run.

    The transaction that it was part of is aborted. Another connection will do.
    """


class ConnectionLost(ConnectionError):
    """The connection ended while it was used: the work under way may or may not have been committed."""


NOT_SENT = (CannotConnect, DatabaseUnavailable, TooBusy, NotPrepared)
"""Errors after which nothing of a statement, or of the transaction it was part of, can have been committed."""

NOT_PREPARED = (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError)
"""Errors of the server (26000, 42P05) if a pooler passes it a statement that another connection prepared.

They come before the statement is run.
"""

UNAVAILABLE: tuple[type[Exception], ...] = (
    OSError,  # all of the above, and TimeoutError
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shut down, starting up, statement timeout
    asyncpg.InsufficientResourcesError,
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby, after a failover; a full disk, at some providers
    asyncpg.InternalClientError,  # used between the server's farewell and the socket's end (MagicStack/asyncpg#1069)
)
"""Errors of a statement if the database can't be reached or doesn't answer in time: try again later."""


FAILED: tuple[type[Exception], ...] = (*UNAVAILABLE, asyncpg.PostgresError)
"""All errors of a statement: those on the way and those of the database."""

FAILED_OR_CLOSED: tuple[type[Exception], ...] = (*FAILED, asyncpg.InterfaceError)
"""All errors of a statement, also on a connection that had ended by then."""


def is_ambiguous(error: BaseException) -> bool:
    """Say whether the connection ended, or the time ran out, before the statement's result arrived."""
    return isinstance(
        error,
        OSError
        | asyncpg.PostgresConnectionError
        | asyncpg.AdminShutdownError  # may come after the commit
        | asyncpg.CrashShutdownError
        | asyncpg.CannotConnectNowError
        | asyncpg.InternalClientError,
    )


def refused(error: BaseException) -> bool:
    """Say whether a server answered in Postgres's protocol that it takes no connection (or no more) from us.

    The SQLSTATE tells nothing: for too many connections it is 53300 from Postgres, 08P01 from PgBouncer, XX000 from
    Supavisor, 58000 from pgcat.
    """
    return isinstance(error, CannotConnect) and isinstance(error.__cause__, asyncpg.PostgresError)


def is_transient(error: Exception) -> bool:
    """Say whether a connection was dropped or refused, so that another one may succeed."""
    return is_ambiguous(error) and not isinstance(error, TimeoutError | DatabaseUnavailable | TooBusy)


async def retry(work: Callable[[], Awaitable[_Result]], *, on: Callable[[Exception], bool] = is_transient) -> _Result:
    """Call `work`, an `async def`; call it again with backoff, for 0.7 s, while it raises an error that `on` accepts.

    `work` must be safe to do twice. Raises the error of the last try.
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
