"""What the service looks at before it serves: are the books in order, as far as can be seen at once?"""

import asyncio

import structlog

from db.failures import FAILED
from db.pool import Pool
from events.glance import glance, unguarded

_log = structlog.get_logger(__name__)

_TIMEOUT_SECONDS = 2.0


async def check_books(pool: Pool) -> None:
    """Warn of what isn't right with some users' logs and tasks. Costs the same however many there are; never fails."""
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            found, open_tables = await glance(pool), await unguarded(pool)
    except FAILED as error:
        _log.warning("the books weren't checked", error=repr(error))
        return
    if open_tables:
        _log.warning("the log can be changed: its append-only triggers aren't ENABLE ALWAYS", tables=open_tables)
    if found:
        _log.warning(
            "the books aren't in order: `daybook verify` tells what is wrong",
            users=len({each.user_id for each in found}),
            table=found[0].table,
            user_id=found[0].user_id,
            task_id=found[0].task_id and str(found[0].task_id),
            difference=found[0].message,
        )
