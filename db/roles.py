"""The role that the service runs as: it may read, and write only by the database's functions (db/roles.sql)."""

import base64
import hashlib
import hmac
import secrets
from pathlib import Path
from typing import Any

import asyncpg
import stamina

from config.errors import CannotRun
from db.connection import connected
from db.dsn import connect_arguments
from db.errors import UNAVAILABLE

_RIGHTS = Path(__file__).with_name("roles.sql")
_ITERATIONS = 4096
"""Number of hash iterations, as in Postgres's own scram_iterations."""

# An arbitrary number. The lock is transaction-level: session locks break behind a pooler in transaction mode.
ADVISORY_LOCK_KEY = 0x6461_7962_6F6F_6B  # "daybook"
LOCK_TIMEOUT_SECONDS = 60
_ONE_CONNECTION = "SET LOCAL citus.multi_shard_modify_mode = 'sequential'"
"""Has Citus use one connection to each worker, without which it changes no role or function beside a table in one
transaction. Other servers don't know the setting, and don't mind.
"""


class NotOurTurn(CannotRun):
    """Another Daybook has been migrating this database for a minute: wait until it is done, then run this again."""


class CannotGrant(CannotRun):
    """The service's login can't be made, or not given its rights. The message gives the statements to run by hand."""


async def grant_service_role(owner: str, service: str) -> bool:
    """Give the login of the DSN `service` its rights, as the owner of the tables. Say whether it had to be made.

    An existing login keeps its password. If both are one login, nothing happens. Raises `CannotGrant`, `NotOurTurn`, or
    one of `UNAVAILABLE`.
    """
    own, its = connect_arguments(owner), connect_arguments(service)
    name = its["user"]
    if name == own["user"]:
        return False

    async def grant() -> bool:  # without arguments, which the log would show when it is tried again
        return await _grant(own, name, its["password"])

    try:
        return await stamina.retry(on=_is_race, attempts=10, wait_initial=0.02, wait_max=0.5)(grant)()
    except UNAVAILABLE:
        raise
    except asyncpg.PostgresError as error:
        raise CannotGrant(
            f"{own['user']} can't give {name} its rights ({error.args[0]}). Have db/roles.sql run by who may, then\n"
            f"    CREATE ROLE {name} LOGIN PASSWORD '…' IN ROLE daybook_app;\n"
            f"or, where there is such a login, GRANT daybook_app TO {name};"
        ) from error


def _is_race(error: Exception) -> bool:
    """Say whether a run for another database has just made the role, or granted it something.

    Roles belong to the server, and the lock to the database.
    """
    if isinstance(error, asyncpg.UniqueViolationError | asyncpg.DuplicateObjectError):
        return True
    return isinstance(error, asyncpg.InternalServerError) and "tuple concurrently updated" in str(error)


async def _grant(own: dict[str, Any], name: str, password: str) -> bool:
    async with connected(**own) as connection, connection.transaction():
        await take_advisory_lock(connection)
        await connection.execute(_RIGHTS.read_text())
        made = not await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", name)
        if made:
            statement = "SELECT format('CREATE ROLE %I LOGIN PASSWORD %L', $1::text, $2::text)"
            verifier = _verifier(name, password) if password else None
            await connection.execute(await connection.fetchval(statement, name, verifier))
        if not await connection.fetchval("SELECT pg_has_role($1, 'daybook_app', 'MEMBER')", name):
            await connection.execute(
                await connection.fetchval("SELECT format('GRANT daybook_app TO %I', $1::text)", name)
            )
    return made


async def take_advisory_lock(connection: asyncpg.Connection) -> None:
    """Wait until no other Daybook migrates this database or grants rights in it, and keep others off until the commit.

    Raises `NotOurTurn` after a minute.
    """
    await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'; {_ONE_CONNECTION}")
    try:
        await connection.execute("SELECT pg_advisory_xact_lock($1)", ADVISORY_LOCK_KEY)
    except asyncpg.LockNotAvailableError as error:
        raise NotOurTurn(NotOurTurn.__doc__) from error


def _verifier(name: str, password: str) -> str:
    """Return Postgres's stored form of a password (RFC 5803): the password itself is in no statement, and in no log."""
    if not password.isascii():
        raise CannotGrant(f"the password of {name} isn't ASCII: make the role by hand")
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    parts = (base64.b64encode(part).decode() for part in (salt, stored, hmac.digest(salted, b"Server Key", "sha256")))
    return "SCRAM-SHA-256${}:{}${}:{}".format(_ITERATIONS, *parts)
