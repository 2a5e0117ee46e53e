"""What the service looks at before it serves: are the books in order, as far as can be seen at once?"""

import asyncio

import structlog

from db.pool import FAILED, Pool
from events.glance import glance

_log = structlog.get_logger(__name__)

_TIMEOUT_SECONDS = 2.0


async def check_books(pool: Pool) -> None:
    """Warn of what isn't right with some users' logs and tasks. Costs the same however many there are; never fails."""
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            found = await glance(pool)
    except FAILED as error:
        _log.warning("the books weren't checked", error=repr(error))
        return
    for each in found:
        _log.warning(
            "the books don't agree: `daybook verify` tells more, `daybook rebuild` mends what is in tasks",
            table=each.table,
            user_id=each.user_id,
            task_id=each.task_id and str(each.task_id),
            difference=each.message,
        )
