"""Bringing a database's schema up to date, safely when several servers start at once."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from config.failures import CannotRun
from db.connection import connect
from db.dsn import connect_arguments
from db.schema import NewerSchema

_MIGRATIONS = Path(__file__).with_name("migrations")


class CannotMigrate(CannotRun):
    """The login may not change the schema."""


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
