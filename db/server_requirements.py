"""Requirements on a Postgres that keeps tasks, and recommended settings."""

from typing import Any, NamedTuple

import asyncpg

from config.errors import CannotRun
from db.indexes import MISSING, NAMES
from db.pool import Executor


class NotUtf8(CannotRun):
    """The database can't keep every character."""


def check_encoding(connection: asyncpg.Connection) -> None:
    """Raise `NotUtf8` if the database has another encoding: it can't be changed later."""
    encoding = connection.get_settings().server_encoding
    if encoding != "UTF8":
        raise NotUtf8(
            f"The database's encoding is {encoding}, and titles may have any character: make another database, with"
            " CREATE DATABASE daybook ENCODING 'UTF8' TEMPLATE template0, and name that one."
        )


class Standing(NamedTuple):
    """The safety of the log from crashes, and from the service's own login; and whether lists have their indexes."""

    off: list[str]
    """Settings that are off, so that a crash of the machine loses or damages acknowledged writes."""
    superuser: bool
    owner: bool
    """True if the login has the rights of the owner of the log's tables."""
    unindexed: list[str]
    """Indexes that are missing."""


# Neon and Aurora keep the log elsewhere than in files, and so have these settings off.
STANDING = f"""
SELECT
    ARRAY(
        SELECT name FROM pg_settings
        WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off'
          AND current_setting('neon.timeline_id', true) IS NULL AND to_regproc('aurora_version') IS NULL
        ORDER BY name
    ) AS off,
    (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser,
    EXISTS (
        SELECT FROM pg_trigger, pg_class
        WHERE tgname = 'append_only' AND pg_class.oid = tgrelid AND pg_has_role(relowner, 'USAGE')
    ) AS owner,
    ARRAY({MISSING}) AS unindexed
"""  # noqa: S608 - a constant


async def standing(database: Executor) -> Standing:
    """Return the server's risky settings, the rights of our login, and the indexes that are missing."""
    row: Any = await database.fetchrow(STANDING, NAMES)
    return Standing(*row)
