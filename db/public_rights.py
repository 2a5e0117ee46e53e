"""The right of every login to call the functions that write to the log: a restore without privileges gives it back."""

import asyncpg

from config.errors import CannotRun
from db.connection import connected
from db.dsn import connect_arguments
from db.pool import Executor
from db.roles import take_advisory_lock


class OpenToPublic(CannotRun):
    """Every login of the database's server may write to any log. The message names the functions, and the remedy."""


# Functions without SECURITY DEFINER have no more rights than their caller.
OPEN_TO_PUBLIC = """
SELECT oid::regprocedure::text AS signature, proname::text AS name FROM pg_proc
WHERE starts_with(proname::text, 'daybook_') AND prosecdef AND pg_function_is_visible(oid)
  AND EXISTS (SELECT FROM aclexplode(coalesce(proacl, acldefault('f', proowner))) WHERE grantee = 0)
ORDER BY 1
"""

_IS_CITUS = "SELECT to_regproc('run_command_on_workers') IS NOT NULL"
_ON_WORKERS = """
SELECT nodename || ':' || nodeport AS worker, result
FROM run_command_on_workers($1) WHERE success AND result <> '' ORDER BY 1
"""
_NAMES = f"SELECT coalesce(string_agg(name, ', '), '') FROM ({OPEN_TO_PUBLIC}) AS opened"  # noqa: S608 - a constant
# Without the setting a worker would pass the change on to the other servers, which it may not.
_REVOKE_THERE = f"""
DO $do$
DECLARE
    target text;
BEGIN
    PERFORM set_config('citus.enable_ddl_propagation', 'off', true);
    FOR target IN SELECT signature FROM ({OPEN_TO_PUBLIC}) AS opened LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', target);
    END LOOP;
END
$do$
"""  # noqa: S608 - a constant


async def open_to_public(database: Executor) -> list[str]:
    """Return the names of the functions by which every login of the server may write to the log."""
    return [row["name"] for row in await database.fetch(OPEN_TO_PUBLIC)]


async def revoke_from_public(dsn: str) -> bool:
    """Take the right to call the functions from everybody but those to whom it was given by name. Say if that changed.

    Locks and writes nothing if there is nothing to take; leaves functions of other owners alone. On a Citus cluster,
    each server is looked at. Raises `NotOurTurn`, or the errors of connecting.
    """
    async with connected(**connect_arguments(dsn)) as connection:
        before = await _open_by_server(connection)
        if not before:
            return False
        async with connection.transaction():
            await take_advisory_lock(connection)
            for row in await connection.fetch(OPEN_TO_PUBLIC):
                await connection.execute(f"REVOKE EXECUTE ON FUNCTION {row['signature']} FROM PUBLIC")
        if any(await _open_by_server(connection)):
            await connection.fetch(_ON_WORKERS, _REVOKE_THERE)
        return await _open_by_server(connection) != before


async def check_public_rights(dsn: str) -> None:
    """Raise `OpenToPublic` if every login of a server may write to the log, or the errors of connecting."""
    async with connected(**connect_arguments(dsn)) as connection:
        found = await _open_by_server(connection)
    if found:
        where = "; ".join(f"{names} (on {server})" if server else names for server, names in found.items())
        raise OpenToPublic(
            f"Every login of the database's server may write to any user's log, by {where}: run `daybook migrate` with"
            " the owner of these functions as DATABASE_URL_DIRECT."
        )


async def _open_by_server(connection: asyncpg.Connection) -> dict[str, str]:
    """Return the names of the open functions, by server: "" is the one that the connection leads to.

    A worker that doesn't answer is left out (`check_distribution` tells of it).
    """
    found = {"": ", ".join(await open_to_public(connection))}
    if await connection.fetchval(_IS_CITUS):
        found |= {row["worker"]: row["result"] for row in await connection.fetch(_ON_WORKERS, _NAMES)}
    return {server: names for server, names in found.items() if names}
