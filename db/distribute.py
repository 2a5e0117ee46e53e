"""Distribution of the tables by user over the servers of a Citus cluster."""

import asyncpg

from config.errors import CannotRun
from db.connection import connected
from db.dsn import connect_arguments
from db.roles import take_advisory_lock
from db.shard_triggers import copy_triggers_to_shards, shards_with_others

TABLES = ("streams", "events", "tasks", "accesses")
APPEND_ONLY = {"events": 2, "accesses": 1}
"""Tables with triggers that refuse changes on each shard, and their number."""
FUNCTIONS = ("daybook_append", "daybook_erase", "daybook_lock_stream", "daybook_record_access")
"""Functions that run on the server of the user whom their first argument names."""


class NotCitus(CannotRun):
    """DATABASE_SHARDED is true, and the database that was named is no Citus coordinator.

    Run CREATE EXTENSION citus there and add its workers (citus_add_node), or unset DATABASE_SHARDED.
    """


class NotDistributed(CannotRun):
    """DATABASE_SHARDED is true, but not all is distributed yet, or as it is now: run `daybook migrate`."""


class Unguarded(CannotRun):
    """The log isn't append-only on some shards. The message names them."""


_IS_CITUS = "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')"
_IS_COORDINATOR = "SELECT citus_is_coordinator()"


async def check_citus(connection: asyncpg.Connection) -> None:
    """Raise `NotCitus` unless the connection leads to the coordinator of a Citus cluster."""
    if not (await connection.fetchval(_IS_CITUS) and await connection.fetchval(_IS_COORDINATOR)):
        raise NotCitus(" ".join((NotCitus.__doc__ or "").split()))


_LOCAL_TABLES = """
SELECT name FROM unnest($1::text[]) AS name
WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = to_regclass(name))
"""
# A new version of a function may lack the setting, and one with other parameters is another function.
_LOCAL_FUNCTIONS = """
SELECT oid::regprocedure::text FROM pg_proc
WHERE oid IN (SELECT to_regproc(name) FROM unnest($1::text[]) AS name) AND NOT (
    'plan_cache_mode=force_custom_plan' = ANY (coalesce(proconfig, '{}')) AND EXISTS (
        SELECT FROM pg_dist_object
        WHERE classid = 'pg_proc'::regclass AND objid = pg_proc.oid AND distribution_argument_index = 0
          AND force_delegation
    )
)
"""

# Citus refuses triggers unless this is set. Ours look at no row, or at those of one user, so they are safe on each
# shard.
_WITH_TRIGGERS = "SET LOCAL citus.enable_unsafe_triggers = on"


async def distribute(dsn: str, *, lock_seconds: float) -> None:
    """Distribute the tables by user, with the rows that they have, and the functions with them.

    All is done in one transaction; what is distributed already is left as it is. Until the end nobody can read or write
    a table that isn't. Then the shards get the triggers that an upgrade has changed. Raise `NotCitus`, `NotOurTurn`,
    and the database's errors: `LockNotAvailableError` if a table is in use for `lock_seconds`.
    """
    async with connected(**connect_arguments(dsn)) as connection:
        await check_citus(connection)
        async with connection.transaction():
            await take_advisory_lock(connection)
            await connection.execute(_WITH_TRIGGERS)
            tables = [row[0] for row in await connection.fetch(_LOCAL_TABLES, TABLES)]
            if tables:
                await connection.execute(f"SET LOCAL lock_timeout = '{lock_seconds}s'")
                await connection.execute(f"LOCK TABLE {', '.join(tables)}")
            for table in tables:
                await _distribute(connection, table)
            for row in await connection.fetch(_LOCAL_FUNCTIONS, FUNCTIONS):
                await connection.execute(_DISTRIBUTE_FUNCTION, row[0], TABLES[0])
                # Plans that a function keeps on a worker are made and kept anew at each call (citusdata/citus#8371).
                await connection.execute(f"ALTER FUNCTION {row[0]} SET plan_cache_mode = force_custom_plan")
        async with connection.transaction():  # another one, since the shards are changed by other connections
            await take_advisory_lock(connection)
            for table in APPEND_ONLY:
                await copy_triggers_to_shards(connection, table, lock_seconds=lock_seconds)


_DISTRIBUTE_TABLE = "SELECT create_distributed_table($1, 'user_id', colocate_with => $2)"
_DISTRIBUTE_FUNCTION = """
SELECT create_distributed_function(
    $1::text::regprocedure, 'p_user_id', colocate_with => $2, force_delegation => true
)
"""


async def _distribute(connection: asyncpg.Connection, table: str) -> None:
    """Replace a table by a distributed one like it, with its rows.

    A table that is distributed as it is would keep its partitions, of which each shard then had all, and its rows would
    stay on the coordinator, hidden.
    """
    definitions = [row[0] for row in await connection.fetch(_DEFINITIONS, table)]
    for row in await connection.fetch(_DROP_INDEXES, table):
        await connection.execute(row[0])
    await connection.execute(f"ALTER TABLE {table} RENAME TO {table}_local")
    await connection.execute(f"CREATE TABLE {table} (LIKE {table}_local INCLUDING ALL EXCLUDING INDEXES)")
    for definition in definitions:
        await connection.execute(definition)
    await connection.execute(_DISTRIBUTE_TABLE, table, "none" if table == TABLES[0] else TABLES[0])
    await connection.execute(_COPY.format(table=table))
    await connection.execute(f"DROP TABLE {table}_local")


_COPY = "INSERT INTO {table} SELECT * FROM {table}_local"

# The statements that make a table's storage parameters, keys, indexes, triggers, comments, and rights, in this order.
_DEFINITIONS = """
SELECT statement FROM (
    SELECT 1, format('ALTER TABLE %s OWNER TO %I', $1::text, pg_get_userbyid(relowner))
    FROM pg_class WHERE oid = $1::text::regclass
    UNION ALL (
        SELECT 2, format('ALTER TABLE %s SET (%s)', $1::text, array_to_string(reloptions, ', '))
        FROM pg_class LEFT JOIN pg_inherits ON inhrelid = oid
        WHERE $1::text::regclass IN (oid, inhparent) AND reloptions IS NOT NULL
        ORDER BY relname LIMIT 1
    )
    UNION ALL
    SELECT 3, format('ALTER TABLE %s ADD CONSTRAINT %I %s', $1::text, conname, pg_get_constraintdef(oid))
    FROM pg_constraint WHERE conrelid = $1::text::regclass AND contype IN ('p', 'u')
    UNION ALL
    SELECT 3, replace(pg_get_indexdef(indexrelid), ' ON ONLY ', ' ON ')
    FROM pg_index
    WHERE indrelid = $1::text::regclass AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
    UNION ALL
    SELECT 4, pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = $1::text::regclass AND NOT tgisinternal
    UNION ALL
    SELECT 5, format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', $1::text, tgname)
    FROM pg_trigger WHERE tgrelid = $1::text::regclass AND NOT tgisinternal AND tgenabled = 'A'
    UNION ALL
    SELECT 6, format('COMMENT ON TABLE %s IS %L', $1::text, obj_description($1::text::regclass, 'pg_class'))
    UNION ALL
    SELECT 6, format(
        'COMMENT ON CONSTRAINT %I ON %s IS %L', conname, $1::text, obj_description(oid, 'pg_constraint')
    )
    FROM pg_constraint WHERE conrelid = $1::text::regclass AND contype IN ('p', 'u')
    UNION ALL
    SELECT 6, format('COMMENT ON INDEX %s IS %L', indexrelid::regclass, obj_description(indexrelid, 'pg_class'))
    FROM pg_index WHERE indrelid = $1::text::regclass AND obj_description(indexrelid, 'pg_class') IS NOT NULL
    UNION ALL
    SELECT 7, format(
        'GRANT %s ON %s TO %s', privilege_type, $1::text,
        CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END
    )
    FROM pg_class, aclexplode(relacl) WHERE oid = $1::text::regclass
) AS statements (step, statement)
ORDER BY step
"""
# The new table's indexes get their names.
_DROP_INDEXES = """
SELECT CASE
    WHEN conname IS NULL THEN format('DROP INDEX %s', indexrelid::regclass)
    ELSE format('ALTER TABLE %s DROP CONSTRAINT %I', $1::text, conname)
END
FROM pg_index LEFT JOIN pg_constraint ON conindid = indexrelid
WHERE indrelid = $1::text::regclass
"""


_UNGUARDED = """
SELECT format('%s_%s', $1::text, shardid)
FROM run_command_on_shards($1::text::regclass, $$
    SELECT count(*) FROM pg_trigger
    WHERE tgrelid = '%s'::regclass AND starts_with(tgname::text, 'append_only') AND tgenabled = 'A'
$$) AS found (shardid, success, result)
WHERE NOT success OR result <> $2
ORDER BY 1
"""
_SHARDS = """
SELECT count(*), count(DISTINCT (nodename, nodeport)) FROM citus_shards WHERE table_name = $1::text::regclass
"""


async def check_distribution(dsn: str) -> str:
    """Say on how many servers the tables are distributed.

    Raise `NotCitus`, `NotDistributed`, `Unguarded`, or the errors of connecting.
    """
    async with connected(**connect_arguments(dsn)) as connection:
        await check_citus(connection)
        if await connection.fetch(_LOCAL_TABLES, TABLES) or await connection.fetch(_LOCAL_FUNCTIONS, FUNCTIONS):
            raise NotDistributed(NotDistributed.__doc__)
        unguarded = [
            row[0]
            for table, triggers in APPEND_ONLY.items()
            for row in await connection.fetch(_UNGUARDED, table, str(triggers))
        ]
        if unguarded:
            raise Unguarded(
                f"The log isn't append-only on {', '.join(unguarded)}: a trigger append_only… is missing there, or"
                " disabled. Put it back as it is on the other shards (run_command_on_shards), and run `daybook verify`."
            )
        others = [shard for table in APPEND_ONLY for shard in await shards_with_others(connection, table)]
        if others:
            raise NotDistributed(NotDistributed.__doc__)
        [(shards, servers)] = await connection.fetch(_SHARDS, "events")
    return f"The tables are distributed: {shards} shards of each, on {servers} server{'s' if servers > 1 else ''}."
