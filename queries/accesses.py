"""Reads of the record of auditors' reads."""

from collections.abc import Sequence
from uuid import UUID

from db.pool import Pool
from events.store.accesses import Access

ACCESSES = """
SELECT user_id, id, at, auditor, actor, path, request_id FROM accesses
WHERE user_id = $1 AND id < coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
ORDER BY id DESC LIMIT $3
"""


async def fetch_accesses(pool: Pool, user_id: str, *, before: UUID | None, limit: int) -> Sequence[Access]:
    """Read the last `limit` reads of a user's log by auditors, newest first, or those before the one with this id."""
    return [Access(*row) for row in await pool.fetch(ACCESSES, user_id, before, limit)]
