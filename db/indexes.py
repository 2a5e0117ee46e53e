"""Indexes on tables that may have many rows by now: each is built while its table is in use (docs/adr/0028)."""

from typing import NamedTuple

import asyncpg

from config.errors import CannotRun
from db.connection import connected
from db.dsn import connect_arguments
from db.roles import ADVISORY_LOCK_KEY

_LOCK_KEY = ADVISORY_LOCK_KEY + 1
_BUILD_SECONDS = 60
"""Longest time for one index, in seconds, the wait for older transactions included. Nobody waits for it meanwhile."""


class NotBuilt(CannotRun):
    """An index took longer than a minute, or than the login's statements may, and was left unfinished.

    Lists are only slower without it. End a backup or another long transaction (pg_stat_activity shows it), or wait for
    it; then run `daybook migrate` again, which goes on with the indexes that are missing.
    """


class _Index(NamedTuple):
    table: str
    suffix: str
    columns: str
    comment: str

    def name_on(self, table: str) -> str:
        """Return the index's name on its table, or on a partition of it."""
        return f"{table}_{self.suffix}"


# Partial, so that tasks without the value cost nothing, neither when they are written nor when the index is built.
_INDEXES = (
    _Index(
        "tasks",
        "due_date_idx",
        "(user_id, due_date, id) WHERE due_date IS NOT NULL",
        "Serves the list by due date, and its pages from any cursor.",
    ),
    _Index(
        "tasks",
        "priority_idx",
        "(user_id, priority, id) WHERE priority IS NOT NULL",
        "Serves the list by priority, and its pages from any cursor.",
    ),
)


NAMES = [index.name_on(index.table) for index in _INDEXES]


class NotIndexed(CannotRun):
    """The database lacks some indexes. The message names them."""


async def check_indexes(dsn: str) -> None:
    """Raise `NotIndexed` if an index is missing or unfinished, or the errors of connecting."""
    async with connected(**connect_arguments(dsn)) as connection:
        missing = await _missing(connection, NAMES)
    if missing:
        raise NotIndexed(f"Lists are slower than they could be without {' and '.join(missing)}: run `daybook migrate`.")


async def build_indexes(dsn: str, *, lock_seconds: float) -> None:
    """Build the indexes that the database lacks, unless another process is doing so.

    No statement depends on them, and nobody waits for one being built. One that an earlier call left unfinished is
    dropped first. Raise `NotBuilt`, and the database's errors: `LockNotAvailableError` if the table is in use for
    `lock_seconds` when the indexes of its partitions are joined.
    """
    arguments = connect_arguments(dsn)
    async with connected(**arguments) as connection:
        names = await _missing(connection, NAMES)
        missing = [index for index in _INDEXES if index.name_on(index.table) in names]
        if missing:
            await _build_all(arguments, connection, missing, lock_seconds)


async def _build_all(
    arguments: dict[str, object], connection: asyncpg.Connection, indexes: list[_Index], lock_seconds: float
) -> None:
    # The lock is another session's: an index can't be built concurrently in a transaction, and locks that outlive one
    # break behind a pooler. A snapshot of that session's would be waited for: read committed has none between
    # statements, and the plain SET ends the portal that the SELECT has left open.
    async with connected(**arguments) as holder, holder.transaction(isolation="read_committed"):
        is_ours = await holder.fetchval("SELECT pg_try_advisory_xact_lock($1)", _LOCK_KEY)
        await holder.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        if is_ours:
            for index in indexes:
                if await _missing(connection, [index.name_on(index.table)]):  # else another has built it meanwhile
                    await _build(connection, index, lock_seconds)


async def _build(connection: asyncpg.Connection, index: _Index, lock_seconds: float) -> None:
    name = index.name_on(index.table)
    partitions = [row[0] for row in await connection.fetch(_PARTITIONS, index.table)]
    for table in partitions or [index.table]:
        own = index.name_on(table)
        if await _missing(connection, [own]):
            await _patiently(connection, f"DROP INDEX CONCURRENTLY IF EXISTS {own}")
            await _patiently(connection, f"CREATE INDEX CONCURRENTLY {own} ON {table} {index.columns}")
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{lock_seconds}s'")
        if partitions:  # it adopts theirs
            await connection.execute(f"CREATE INDEX {name} ON {index.table} {index.columns}")
        await connection.execute(f"COMMENT ON INDEX {name} IS '{index.comment}'")


async def _patiently(connection: asyncpg.Connection, statement: str) -> None:
    try:
        await connection.execute(statement, timeout=_BUILD_SECONDS)
    except (TimeoutError, asyncpg.QueryCanceledError):  # the latter by a statement_timeout of the login
        raise NotBuilt(" ".join((NotBuilt.__doc__ or "").split())) from None


_PARTITIONS = """
SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = to_regclass($1::text) ORDER BY 1
"""
MISSING = """
SELECT name FROM unnest($1::text[]) AS name
WHERE NOT EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass(name) AND indisvalid)
ORDER BY name
"""
"""Names of indexes that the database lacks, or has unfinished."""


async def _missing(connection: asyncpg.Connection, names: list[str]) -> list[str]:
    return [row[0] for row in await connection.fetch(MISSING, names)]
