"""Errors of programs that can't go on without the database: the message names the thing to look at."""

import errno
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from config.authorities import check_authorities
from config.errors import CannotRun
from db.errors import UNAVAILABLE, BadDsn


class CannotReachDatabase(CannotRun):
    """The database can't be reached, or can't do its work. The message says which, and where to look."""


_LIMITS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EROFS)

_UNREACHABLE: tuple[type[Exception], ...] = (*UNAVAILABLE, UnicodeError)
"""Errors of a database that can't be reached. `UnicodeError`: its host's name can't be one."""

_DATABASE = "The database (DATABASE_URL, or for migrations DATABASE_URL_DIRECT)"


@contextmanager
def reaching() -> Iterator[None]:
    """Run a block that depends on the database, and turn its errors into messages for the user.

    Raises `CannotReachDatabase` or `BadSettings`; `CannotRun` if a file or a limit of this machine failed instead.
    """
    try:
        yield
    except BadDsn as error:
        raise CannotReachDatabase(f"DATABASE_URL or DATABASE_URL_DIRECT: {error}") from error
    except _UNREACHABLE as error:
        # Errors of sockets name no file, not even those of a socket in the file system.
        if isinstance(error, OSError) and (error.filename is not None or error.errno in _LIMITS):
            raise CannotRun(f"A file or a limit of this machine stops it, not the database: {error}") from error
        if isinstance(error, ssl.SSLError):
            check_authorities()
        raise CannotReachDatabase(_sentence(error)) from error


def _sentence(error: Exception) -> str:
    """Return a sentence on the kind of failure and its remedy."""
    if not isinstance(error, asyncpg.PostgresError):  # a failure of the network, or of connecting
        return f"{_DATABASE} can't be reached: {str(error) or 'no answer came in time'}"
    said = error.args[0]  # without DETAIL and HINT, which are lines of their own
    match error:
        case asyncpg.ReadOnlySQLTransactionError():
            return (
                f"{_DATABASE} takes no writes ({said}): it is a standby, or it was made read-only, as providers do when"
                " a disk is nearly full. Name the primary, or have that mended; then run the same command again."
            )
        case asyncpg.DiskFullError():
            return f"The database server's disk is full ({said}): make room on it, then run the same command again."
        case asyncpg.InsufficientResourcesError():
            return (
                f"The database server ran out of something ({said}): end what uses it up or raise the limit, then run"
                " the same command again."
            )
        case asyncpg.LockNotAvailableError():
            return (
                f"Another session of the database holds what is needed ({said}): pg_stat_activity shows it. Run the"
                " same command again when it has ended."
            )
        case asyncpg.QueryCanceledError():
            return (
                f"The database server cancelled a statement ({said}): somebody asked for it, or the statement took"
                " longer than the server allows. Run the same command again."
            )
        case asyncpg.OperatorInterventionError():
            return (
                f"{_DATABASE} ended the connection ({said}): it is shutting down or starting, or somebody ended the"
                " session. Run the same command again once it takes connections."
            )
    return f"The connection to the database was lost ({said}): run the same command again."
