"""The settings of a session on the server, and its end."""

import asyncpg
from asyncpg.pool import PoolConnectionProxy

_PLAN_ONCE = "set_config('plan_cache_mode', 'force_generic_plan', false)"
"""Plans a statement once, when it is prepared: on partitioned tables, a plan for the given values costs more than it
saves, and Postgres would make one each time. Not for Citus, which finds the shard by the values.
"""
_SEE_SHARDS = "set_config('citus.override_table_visibility', 'off', false)"
"""Has Citus not filter its shards out of pg_class, row by row: the driver reads that table when a connection meets an
array's type for the first time, which then takes seconds. Another server doesn't know the setting, and doesn't mind.
"""
_COMPILE_NOTHING = "set_config('jit', 'off', false)"

_ARRAY_OF_BYTEA = {
    "oid": 1001,
    "ns": "pg_catalog",
    "name": "_bytea",
    "elemtype": 17,
    "elemdelim": ",",
    "basetype": None,
    "range_subtype": None,
    "attrtypoids": None,
}
"""The type as the driver reads it from pg_type. Its numbers are the same in each Postgres."""

SEE_SHARDS = f"SELECT {_SEE_SHARDS}"
"""Prepares a connection that isn't of a pool to a server that may be a Citus coordinator."""


async def set_up(connection: asyncpg.Connection | PoolConnectionProxy, *, sharded: bool, direct: bool) -> None:
    """Set up the server's session, if it is our own.

    Unless `direct`, nothing is set if the server's process isn't the one announced at connecting. Then something in
    between may pass the session, with its settings, to others.
    """
    ours = "" if direct else f" WHERE pg_backend_pid() = {connection.get_server_pid()}"
    await connection.execute(f"SELECT {_COMPILE_NOTHING}, {_SEE_SHARDS if sharded else _PLAN_ONCE}{ours}")


def know_types(connection: asyncpg.Connection | PoolConnectionProxy) -> None:
    """Tell the driver the type of which lists are made.

    Otherwise a connection's first list would wait for three more statements, one of them a slow one.
    """
    connection.get_settings().register_data_types([_ARRAY_OF_BYTEA])


async def keep(_connection: asyncpg.Connection | PoolConnectionProxy) -> None:
    """Reset nothing, since `set_up` alone changes the state: asyncpg's own reset is a round trip at every release."""


def is_gone(acquired: PoolConnectionProxy) -> bool:
    """Say if a pool's connection is closed, or the pool has taken it back already."""
    try:
        return acquired.is_closed()
    except asyncpg.InterfaceError:
        return True
