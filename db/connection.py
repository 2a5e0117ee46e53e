"""One connection to Postgres, made by what its address says and by nothing else."""

import ssl
from typing import Any

import asyncpg

from db.dsn import account
from db.failures import CannotConnect
from db.tls import unverified


async def connect(*_dsn: Any, **arguments: Any) -> asyncpg.Connection:
    """Connect with what `connect_arguments` returned, as asyncpg.connect. Raises `CannotConnect` for every refusal."""
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
        raise  # with TLS or without
    except (ConnectionError, ssl.SSLError, asyncpg.InvalidAuthorizationSpecificationError):
        return await asyncpg.connect(**{**arguments, "ssl": False})


def _left_out(error: Exception, arguments: dict[str, Any]) -> str:
    """Say which part of the address is missing, if its default was refused."""
    match error:
        case asyncpg.InvalidPasswordError() if not arguments["password"]:
            return " (the address has no password: postgresql://user:password@…)"
        case asyncpg.InvalidAuthorizationSpecificationError() if arguments["user"] == account():
            return " (an address without a user means the account that Daybook runs as)"
        case asyncpg.InvalidCatalogNameError() if arguments["database"] == arguments["user"]:
            return " (an address without a database means the one named like the user)"
    return ""
