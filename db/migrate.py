"""Upgrade of a database's schema, while it is in use, and while several servers start at once."""

import asyncio
from pathlib import Path

import asyncpg
import stamina
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import RevisionStep
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from config.errors import CannotRun
from db.connection import connect, connected
from db.distribute import check_citus, distribute
from db.dsn import connect_arguments
from db.errors import UNAVAILABLE, ConnectionLost
from db.indexes import build_indexes
from db.roles import LOCK_TIMEOUT_SECONDS, take_advisory_lock
from db.schema import FROM_DEVELOPMENT, DevelopmentSchema, NewerSchema
from db.server_requirements import NotUtf8, check_encoding

_MIGRATIONS = Path(__file__).with_name("migrations")

_LOCK_SECONDS = 0.5
"""Longest wait for a lock on a table, in seconds. Every reader and writer of the table queues up behind the waiter."""
_STATEMENT_SECONDS = 5
"""Longest statement, and longest pause of ours within a transaction, in seconds. Its locks are held meanwhile."""
_TRYING_SECONDS = 60
"""Seconds for all tries of one migration together."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 5
"""First and longest pause between two tries, in seconds. The sessions that have queued up are served in it."""
_SILENCE_SECONDS = LOCK_TIMEOUT_SECONDS + 10
"""Longest wait for an answer, in seconds. The server ends every statement sooner, so no answer means no connection."""


class CannotMigrate(CannotRun):
    """A migration failed, and nothing of it was kept. The message says why, and how to go on."""


class OtherPartitions(CannotRun):
    """The tables were made with another number of partitions, which can't be changed: leave out --partitions."""


class TableInUse(CannotMigrate):
    """Another session holds a lock on a table that a migration changes."""


def migrate(dsn: str, *, partitions: int | None = None, sharded: bool = False) -> list[str]:
    """Upgrade to this release's schema. Return the revisions applied, oldest first; none if it was up to date.

    `partitions` is the number of partitions of each table that is made, at most 100: 4 if it is None. If `sharded`,
    there are none, and the tables are distributed over a Citus cluster, which is done after the upgrade.
    Blocks, and must not be called from a running event loop, nor in two threads at once (Alembic isn't made for it).
    Each revision is applied in a transaction of its own under an advisory lock: servers may race, and a failure leaves
    the revisions before it applied. If a table is in use, short tries are made for a minute. Then indexes that are
    missing are built (db/indexes.py). Raises `NewerSchema`, `DevelopmentSchema`, `OtherPartitions`, `CannotMigrate`,
    `NotOurTurn`, `NotUtf8`, `NotBuilt`, `NotCitus`, or one of `UNAVAILABLE`.
    """
    return asyncio.run(_migrate(dsn, partitions, sharded=sharded))


async def _migrate(dsn: str, partitions: int | None, *, sharded: bool) -> list[str]:
    arguments = connect_arguments(dsn)
    if sharded:
        partitions = 0
        async with connected(**arguments) as connection:
            await check_citus(connection)

    async def creator() -> asyncpg.Connection:
        connection = await connect(**{**arguments, "command_timeout": _SILENCE_SECONDS})
        try:
            check_encoding(connection)
        except NotUtf8:
            await connection.close()
            raise
        return connection

    async def apply_next() -> str | None:
        async with engine.connect() as connection:
            return await connection.run_sync(_apply_next, arguments["user"], partitions)

    async def distribute_all() -> None:
        try:
            await distribute(dsn, lock_seconds=_LOCK_SECONDS)
        except asyncpg.PostgresError as error:
            raise _reason(error, "The distribution of the tables", arguments["user"]) from error

    async def build_all() -> None:
        try:
            await build_indexes(dsn, lock_seconds=_LOCK_SECONDS)
        except asyncpg.PostgresError as error:
            raise _reason(error, "The building of indexes", arguments["user"]) from error

    retried = stamina.retry(
        on=TableInUse,
        attempts=None,
        timeout=_TRYING_SECONDS,
        wait_initial=_FIRST_PAUSE,
        wait_max=_LONGEST_PAUSE,
    )
    engine = create_async_engine("postgresql+asyncpg://", async_creator=creator, poolclass=NullPool)
    applied = []
    try:
        while revision := await retried(apply_next)():
            applied.append(revision)
    finally:
        await engine.dispose()
    if sharded:
        await retried(distribute_all)()
    await retried(build_all)()
    return applied


_BOUNDS = """
SELECT set_config('lock_timeout', :lock, true),
       set_config('statement_timeout', :statement, true),
       set_config('idle_in_transaction_session_timeout', :statement, true)
"""


_PARTITIONS = "SELECT count(*) FROM pg_inherits WHERE inhparent = to_regclass(:table)"


def _partitions(connection: Connection) -> int:
    """Count the partitions of `events`; 0 if the database has no such table yet."""
    return int(connection.execute(text(_PARTITIONS), {"table": "events"}).scalar_one())


def _apply_next(connection: Connection, login: str, partitions: int | None) -> str | None:
    """Apply the oldest revision that the database lacks, in one transaction; None if it lacks none."""
    config = Config(attributes={"connection": connection, "partitions": partitions})
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    script = ScriptDirectory.from_config(config)
    found: list[str] = []

    def oldest_missing(revision: str, _context: object) -> list[RevisionStep]:
        missing = script._upgrade_revs("head", revision)[:1]  # as alembic.command.upgrade does
        found.extend(step.revision.revision for step in missing)
        return missing

    try:
        with connection.begin():
            # The first statement: SQLAlchemy begins the transaction with it, and the turn is held in that transaction.
            from_development = connection.execute(text(f"SELECT {FROM_DEVELOPMENT}")).scalar()
            connection.connection.run_async(take_advisory_lock)
            if from_development:
                raise DevelopmentSchema(DevelopmentSchema.__doc__)
            if partitions and _partitions(connection) not in (0, partitions):
                raise OtherPartitions(OtherPartitions.__doc__)
            connection.execute(text(_BOUNDS), {"lock": f"{_LOCK_SECONDS}s", "statement": f"{_STATEMENT_SECONDS}s"})
            with EnvironmentContext(config, script, fn=oldest_missing):
                script.run_env()
    except CommandError as error:
        if "Can't locate revision" in str(error):
            raise NewerSchema(f"{NewerSchema.__doc__} ({error})") from error
        raise
    except DBAPIError as error:
        raise _reason(error.driver_exception, f"Migration {''.join(found)}", login) from error
    except asyncpg.InterfaceError as error:  # the connection ended while we waited for our turn
        raise ConnectionLost(str(error)) from error
    return found[0] if found else None


def _reason(error: BaseException, what: str, login: str) -> BaseException:
    """Return the error for `migrate` to raise instead of the driver's. `what` failed: a migration, as a rule."""
    match error:
        case asyncpg.LockNotAvailableError() | asyncpg.DeadlockDetectedError():
            return TableInUse(
                f"{what} found a table in use for a minute ({error.args[0]}), and left it alone: end what"
                " holds it, such as a backup or a long transaction (pg_stat_activity shows them), or wait for it; then"
                " run `daybook migrate` again."
            )
        case asyncpg.QueryCanceledError():
            return CannotMigrate(
                f"{what} was cancelled ({error.args[0]}), and nothing of it was kept: somebody asked for"
                f" it, or a statement would have held others up for longer than {_STATEMENT_SECONDS} s. Run `daybook"
                " migrate` again when the database has less to do."
            )
        case asyncpg.InsufficientPrivilegeError():
            return CannotMigrate(
                f"{login} may not change the schema ({error.args[0]}): set DATABASE_URL_DIRECT to the owner of"
                f" the tables, or, where there are none yet, let somebody GRANT CREATE ON SCHEMA public TO {login}."
            )
        case _ if isinstance(error, UNAVAILABLE):
            return error
        case asyncpg.PostgresError():
            return CannotMigrate(
                f"{what} failed, and nothing of it was kept: {error.args[0]} (SQLSTATE {error.sqlstate})."
            )
        case asyncpg.InterfaceError():  # the connection ended between two statements
            return ConnectionLost(str(error))
    return error
