"""One connection to Postgres, made from its address and from nothing else."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import asyncpg

from db.dsn import account
from db.errors import CannotConnect
from db.tls import unverified


class UniqueNames(asyncpg.Connection):
    """A connection with globally unique names for its prepared statements.

    asyncpg numbers them in each process. If an unknown pooler lies in between, another process may have prepared
    another statement under that number. The server would then run that one instead of ours, without an error.
    """

    __slots__ = ()

    def _get_unique_id(self, prefix: str) -> str:
        return f"__daybook_{prefix}_{uuid4().hex}__"  # no more than 63 bytes


async def connect(**arguments: Any) -> asyncpg.Connection:
    """Connect for a few statements. None is prepared under a name, so that any pooler may lie in between.

    `arguments` are those of `connect_arguments`. Raises `CannotConnect` for every refusal.
    """
    return await connect_for_pool(**{**arguments, "statement_cache_size": 0})


@asynccontextmanager
async def connected(**arguments: Any) -> AsyncIterator[asyncpg.Connection]:
    """Yield a connection as `connect` makes it, and close it after the block."""
    connection = await connect(**arguments)
    try:
        yield connection
    finally:
        await connection.close()


async def connect_for_pool(*_dsn: Any, **arguments: Any) -> asyncpg.Connection:
    """Connect as `connect` does, but prepare as many statements as the arguments say. asyncpg's pool calls it."""
    try:
        if arguments["ssl"] == "prefer":
            return await _preferring_tls(arguments)
        return await asyncpg.connect(**arguments)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.TargetServerAttributeNotMatched) as error:
        raise CannotConnect(f"{error}{_left_out(error, arguments)}") from error


async def _preferring_tls(arguments: dict[str, Any]) -> asyncpg.Connection:
    """Connect with TLS, unverified, if the server has it, else without.

    asyncpg can do this itself, but then takes certificates and TLS versions from variables (PGSSLCERT, …) and from
    files in the home folder.
    """
    try:
        return await asyncpg.connect(**{**arguments, "ssl": unverified()})
    except (ConnectionRefusedError, asyncpg.InvalidPasswordError):
        raise  # TLS makes no difference
    except (ConnectionError, ssl.SSLError, asyncpg.InvalidAuthorizationSpecificationError):
        return await asyncpg.connect(**{**arguments, "ssl": False})


def _left_out(error: Exception, arguments: dict[str, Any]) -> str:
    """Return a hint at the part that is missing in the address, if its default was refused; else an empty string."""
    match error:
        case asyncpg.InvalidPasswordError() if not arguments["password"]:
            return " (the address has no password: postgresql://user:password@…)"
        case asyncpg.InvalidAuthorizationSpecificationError() if arguments["user"] == account():
            return " (an address without a user means the account that Daybook runs as)"
        case asyncpg.InvalidCatalogNameError() if arguments["database"] == arguments["user"]:
            return " (an address without a database means the one named like the user)"
    return ""
