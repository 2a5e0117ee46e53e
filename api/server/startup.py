"""Checks before the service starts: a spot check of log and projection, the server's settings, reasons not to start."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import structlog
from starlette.types import Message, Receive, Scope, Send

from config.errors import CannotRun
from db.errors import FAILED
from db.pool import Pool
from db.public_rights import open_to_public
from db.server_requirements import standing
from events.integrity.spot_check import spot_check, unguarded

_log = structlog.get_logger(__name__)

_TIMEOUT_SECONDS = 2.0


async def check_integrity(pool: Pool) -> None:
    """Log warnings for mismatches in a spot check of some users, and for a log that others could change.

    The cost doesn't grow with the number of users. Never fails.
    """
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            found, open_tables = await spot_check(pool), await unguarded(pool)
            functions = await open_to_public(pool)
    except FAILED as error:
        _log.warning("the spot check couldn't run", error=repr(error))
        return
    if open_tables:
        _log.warning("the log can be changed: its append-only triggers aren't ENABLE ALWAYS", tables=open_tables)
    if functions:
        _log.warning(
            "every login of the database's server may write to any user's log:"
            " run `daybook migrate` with the owner of these functions as DATABASE_URL_DIRECT",
            functions=functions,
        )
    if found:
        _log.warning(
            "the spot check found a mismatch: run `daybook verify`",
            users=len({each.user_id for each in found}),
            table=found[0].table,
            user_id=found[0].user_id,
            task_id=found[0].task_id and str(found[0].task_id),
            mismatch=found[0].message,
        )


async def check_server(pool: Pool) -> None:
    """Log a warning for each setting or right that makes the log less safe, and for missing indexes. Never fails."""
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            found = await standing(pool)
    except FAILED as error:
        _log.warning("the server wasn't checked", error=repr(error))
        return
    if found.off:
        _log.warning("a crash of the database's machine may lose what was acknowledged: turn these on", off=found.off)
    if found.superuser or found.owner:
        _log.warning(
            "the service's login may change the log: set DATABASE_URL_DIRECT to it, and DATABASE_URL to another login",
            because="it is a superuser" if found.superuser else "it owns the tables",
        )
    if found.unindexed:
        _log.warning("lists are slower without these indexes: run `daybook migrate`", missing=found.unindexed)


Lifespan = Callable[[Scope, Receive, Send], Coroutine[Any, Any, None]]


def told(lifespan: Lifespan) -> Lifespan:
    """Wrap `lifespan`: if a start fails with `CannotRun`, the server gets a sentence instead of a traceback."""

    async def telling(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_sentence(message: Message) -> None:
            reason = sys.exc_info()[1]  # Starlette sends the message while it handles the exception
            if message["type"] == "lifespan.startup.failed" and isinstance(reason, CannotRun):
                message["message"] = f"can't start: {reason}"
            await send(message)

        await lifespan(scope, receive, send_sentence)

    return telling
