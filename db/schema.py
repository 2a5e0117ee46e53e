"""Check of a database's schema, without Alembic: a service that finds the right schema doesn't load it."""

from pathlib import Path

import asyncpg

from config.errors import CannotRun
from db.connection import connected
from db.dsn import connect_arguments
from db.server_requirements import check_encoding

_REVISIONS = sorted(path.name.partition("_")[0] for path in Path(__file__).parent.glob("migrations/versions/*_*.py"))
"""This release's revisions, oldest first: each migration's file is named after its revision."""

CURRENT = _REVISIONS[-1]
"""The revision that this release expects."""

FROM_DEVELOPMENT = "(to_regclass('journals') IS NOT NULL OR to_regproc('daybook_task_json') IS NOT NULL)"
"""SQL: true for a database from before the first release, whose revision 0001 made this table or this function."""

_REVISION = f"SELECT version_num, {FROM_DEVELOPMENT} AS too_early FROM alembic_version"  # noqa: S608 - a constant fragment


class NewerSchema(CannotRun):
    """The database was migrated by a newer release of Daybook: start that one."""


class DevelopmentSchema(CannotRun):
    """A development version before 0.1.0 made this database, and no release can read its log: name an empty one."""


class NotMigrated(CannotRun):
    """The database has no schema yet, or an older release's: run `daybook migrate` first."""


async def check_schema(dsn: str) -> None:
    """Check that the database answers, and has this release's schema.

    Raises `NewerSchema`, `DevelopmentSchema`, `NotMigrated`, `NotUtf8`, or the errors of connecting.
    """
    try:
        async with connected(**connect_arguments(dsn)) as connection:
            check_encoding(connection)
            rows = await connection.fetch(_REVISION)
    except asyncpg.UndefinedTableError:
        rows = []
    except asyncpg.InsufficientPrivilegeError as error:
        raise NotMigrated(
            "The login that DATABASE_URL names has no rights here: run `daybook migrate`, with the owner of the tables"
            " as DATABASE_URL_DIRECT."
        ) from error
    if any(row["too_early"] for row in rows):
        raise DevelopmentSchema(DevelopmentSchema.__doc__)
    found = {row["version_num"] for row in rows}
    if unknown := found.difference(_REVISIONS):
        raise NewerSchema(f"{NewerSchema.__doc__} (It is at {', '.join(unknown)}, and this one knows {CURRENT}.)")
    if found != {CURRENT}:
        raise NotMigrated(NotMigrated.__doc__)
