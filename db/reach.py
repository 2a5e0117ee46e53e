"""Reaching the database where a program needs it to go on: if that fails, the reason names what to look at."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from config.authorities import check_authorities
from config.failures import CannotRun
from db.failures import UNAVAILABLE
from db.options import BadDsn


class CannotReachDatabase(CannotRun):
    """The database can't be reached, or its address can't be read. The message names the variables with the address."""


_UNREACHABLE: tuple[type[Exception], ...] = (*UNAVAILABLE, UnicodeError)
"""The last one: its host's name can't be one."""


@contextmanager
def reaching() -> Iterator[None]:
    """Run a block in which only the database's answers can fail. Raises `CannotReachDatabase` or `BadSettings`."""
    try:
        yield
    except BadDsn as error:
        raise CannotReachDatabase(f"DATABASE_URL or DATABASE_URL_DIRECT: {error}") from error
    except _UNREACHABLE as error:
        if isinstance(error, ssl.SSLError):
            check_authorities()
        where = "DATABASE_URL, or for migrations DATABASE_URL_DIRECT"
        raise CannotReachDatabase(
            f"The database ({where}) can't be reached: {str(error) or type(error).__name__}"
        ) from error
