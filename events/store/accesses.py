"""The record of auditors' reads: one for each, made before it is answered (docs/adr/0036)."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from db.errors import UNAVAILABLE
from db.pool import Pool


class NotRecorded(ConnectionError):
    """The database refused the record of a read, so the read must not be answered."""


class Access(NamedTuple):
    """A read of a user's log by an auditor, in the order of `RECORD`'s parameters."""

    user_id: str
    id: UUID
    at: datetime
    auditor: str
    """The user of the auditor's token."""
    actor: str
    """The actor with that token."""
    path: str
    """The path that is read, without its query."""
    request_id: str


RECORD = "SELECT daybook_record_access($1, $2, $3, $4, $5, $6, $7)"


async def record_access(pool: Pool, access: Access) -> None:
    """Put a read on record. When this returns, it is committed. Raise `NotRecorded`, or one of `UNAVAILABLE`.

    If the connection is dropped, it is sent again: the record's id keeps it from being there twice.
    """
    try:
        await pool.fetch(RECORD, *access)
    except UNAVAILABLE:
        raise
    except asyncpg.PostgresError as error:
        raise NotRecorded(f"an auditor's read can't be put on record: {error!r}") from error
