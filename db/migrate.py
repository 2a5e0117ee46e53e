"""Bringing a database's schema up to date, safely when several servers start at once."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from db.dsn import connect_arguments
from db.pool import connect

_MIGRATIONS = Path(__file__).with_name("migrations")


class NewerSchema(Exception):
    """The database was migrated by a newer release of Daybook: start that one."""


class CannotMigrate(Exception):
    """The login may not change the schema."""


class NotMigrated(Exception):
    """The database has no schema yet, or an older release's: run `daybook migrate` first."""


def head() -> str:
    """The revision that this release expects."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None  # noqa: S101 - the package carries its migrations
    return revision


def migrate(dsn: str) -> list[str]:
    """Upgrade to this release's schema; the revisions applied, oldest first (none: it was up to date).

    Blocks, and must not be called from a running event loop, nor in two threads at once (Alembic isn't made for it).
    All revisions are applied in one transaction under an advisory lock, so that servers may race.
    Raises `NewerSchema`, `CannotMigrate`, or what connecting raises.
    """
    applied: list[str] = []
    config = _config()
    config.attributes["applied"] = applied.append

    def upgrade(connection: Connection) -> None:
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            if "Can't locate revision" in str(error):
                raise NewerSchema(f"{NewerSchema.__doc__} ({error})") from error
            raise

    try:
        asyncio.run(_run(dsn, upgrade))
    except DBAPIError as error:
        if isinstance(error.driver_exception, asyncpg.InsufficientPrivilegeError):
            login = connect_arguments(dsn)["user"]
            raise CannotMigrate(
                f"{login} may not change the schema ({error.driver_exception}): set DATABASE_URL_DIRECT to the owner of"
                f" the tables, or, where there are none yet, let somebody GRANT CREATE ON SCHEMA public TO {login}."
            ) from error
        raise
    return applied


async def check(dsn: str) -> None:
    """See that the database answers, with this release's schema.

    Raises `NewerSchema`, `NotMigrated`, or what connecting raises.
    """
    connection = await connect(**connect_arguments(dsn))
    try:
        found = await connection.fetchval("SELECT version_num FROM alembic_version")
    except asyncpg.UndefinedTableError:
        found = None
    except asyncpg.InsufficientPrivilegeError as error:
        raise NotMigrated(
            "The login that DATABASE_URL names has no rights here: run `daybook migrate`, with the owner of the tables"
            " as DATABASE_URL_DIRECT."
        ) from error
    finally:
        await connection.close()
    known = [script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()]
    if found is not None and found not in known:
        raise NewerSchema(f"{NewerSchema.__doc__} (It is at {found}, and this one knows {known[0]}.)")
    if found != known[0]:
        raise NotMigrated(NotMigrated.__doc__)


async def _run(dsn: str, work: Callable[[Connection], None]) -> None:
    async def creator() -> asyncpg.Connection:
        return await connect(**connect_arguments(dsn))

    engine = create_async_engine("postgresql+asyncpg://", async_creator=creator, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(work)
    finally:
        await engine.dispose()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config
