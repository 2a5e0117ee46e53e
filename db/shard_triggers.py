"""The triggers of a distributed table, on each of its shards.

Citus copies a table's triggers to each shard that it makes. It passes on what is changed later, but for triggers on
TRUNCATE: of these the shards keep the former ones.
"""

import asyncpg

_OF_TABLE = r"""
SELECT concat_ws(' ', tgname, tgtype, proname), format('(%L, %L, %L)',
    tgname,
    regexp_replace(
        replace(pg_get_triggerdef(pg_trigger.oid), format('CREATE TRIGGER %I ', tgname), ''),
        '^(.*?) ON .* (FOR EACH .*)$', 'CREATE TRIGGER %I \1 ON %s \2'
    ),
    CASE tgenabled
        WHEN 'A' THEN 'ENABLE ALWAYS' WHEN 'R' THEN 'ENABLE REPLICA' WHEN 'D' THEN 'DISABLE' ELSE 'ENABLE'
    END
)
FROM pg_trigger JOIN pg_proc ON tgfoid = pg_proc.oid
WHERE tgrelid = $1::text::regclass AND NOT tgisinternal ORDER BY tgname
"""
# A shard's triggers have its number behind their names.
_OF_SHARDS = r"""
SELECT format('%s_%s', $1::text, shardid), success, result
FROM run_command_on_shards($1::text::regclass, $command$
    SELECT string_agg(
        concat_ws(' ', regexp_replace(tgname, '_\d+$', ''), tgtype, proname), ', ' ORDER BY tgname
    )
    FROM pg_trigger JOIN pg_proc ON tgfoid = pg_proc.oid
    WHERE tgrelid = '%s'::regclass AND NOT tgisinternal
$command$)
ORDER BY 1
"""


async def shards_with_others(connection: asyncpg.Connection, table: str) -> list[str]:
    """Name the shards of a table that have other triggers than it, or that don't answer. A trigger may be off."""
    expected = ", ".join(row[0] for row in await connection.fetch(_OF_TABLE, table))
    shards = await connection.fetch(_OF_SHARDS, table)
    return [shard for shard, success, found in shards if not success or found != expected]


# A statement on a shard is a transaction there, so the shard is never without triggers.
_REPLACE = """
DO $do$
DECLARE
    shard CONSTANT text := ':shard';
    trigger text;
    definition text;
    state text;
BEGIN
    PERFORM set_config('lock_timeout', ':seconds', true);
    FOR trigger IN SELECT tgname FROM pg_trigger WHERE tgrelid = shard::regclass AND NOT tgisinternal LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', trigger, shard);
    END LOOP;
    FOR trigger, definition, state IN VALUES :triggers LOOP
        trigger := trigger || substring(shard FROM '_[0-9]+$');
        EXECUTE format(definition, trigger, shard);
        EXECUTE format('ALTER TABLE %s ' || state || ' TRIGGER %I', shard, trigger);
    END LOOP;
EXCEPTION WHEN lock_not_available THEN
    RAISE EXCEPTION 'lock_not_available'; -- in any language of the server's messages
END
$do$
"""
_ON_SHARDS = """
SELECT format('%s_%s', $1::text, shardid), result FROM run_command_on_shards($1::text::regclass, $2) WHERE NOT success
"""


async def copy_triggers_to_shards(connection: asyncpg.Connection, table: str, *, lock_seconds: float) -> None:
    """Give each shard the table's triggers, and no others. Do nothing if all have them, if one is off there too.

    Each shard is changed in a transaction of its own. Raise `LockNotAvailableError` if one is in use for
    `lock_seconds`, and `PostgresError` if one can't be changed.
    """
    if not await shards_with_others(connection, table):
        return
    triggers = ", ".join(row[1] for row in await connection.fetch(_OF_TABLE, table))
    command = _REPLACE.replace(":seconds", f"{lock_seconds}s").replace(":triggers", triggers)
    command = command.replace("%", "%%").replace(":shard", "%1$s")
    for shard, reason in await connection.fetch(_ON_SHARDS, table, command):
        message = f"the triggers of {shard} can't be changed: {reason}"
        if "lock_not_available" in reason:
            raise asyncpg.LockNotAvailableError(message)
        raise asyncpg.PostgresError(message)
