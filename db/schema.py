"""Which schema a database has. Knows no Alembic: a service that finds the right one doesn't load it."""

from pathlib import Path

import asyncpg

from config.errors import CannotRun
from db.connection import connect
from db.dsn import connect_arguments
from db.server import check_encoding

_REVISIONS = sorted(path.name.partition("_")[0] for path in Path(__file__).parent.glob("migrations/versions/*_*.py"))
"""Oldest first: each migration's file is named after its revision."""

HEAD = _REVISIONS[-1]
"""The revision that this release expects."""


class NewerSchema(CannotRun):
    """The database was migrated by a newer release of Daybook: start that one."""


class NotMigrated(CannotRun):
    """The database has no schema yet, or an older release's: run `daybook migrate` first."""


async def check(dsn: str) -> None:
    """See that the database answers, with this release's schema.

    Raises `NewerSchema`, `NotMigrated`, `NotUtf8`, or what connecting raises.
    """
    connection = await connect(**connect_arguments(dsn))
    try:
        check_encoding(connection)
        found = {row["version_num"] for row in await connection.fetch("SELECT version_num FROM alembic_version")}
    except asyncpg.UndefinedTableError:
        found = set()
    except asyncpg.InsufficientPrivilegeError as error:
        raise NotMigrated(
            "The login that DATABASE_URL names has no rights here: run `daybook migrate`, with the owner of the tables"
            " as DATABASE_URL_DIRECT."
        ) from error
    finally:
        await connection.close()
    if unknown := found.difference(_REVISIONS):
        raise NewerSchema(f"{NewerSchema.__doc__} (It is at {', '.join(unknown)}, and this one knows {HEAD}.)")
    if found != {HEAD}:
        raise NotMigrated(NotMigrated.__doc__)
