"""Liveness and readiness (docs/http-api.md, "Health, documentation and CORS")."""

import asyncio
import time
from importlib.metadata import version
from typing import Any

import asyncpg
import structlog
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from api import examples
from api.openapi import answer
from api.schemas import Alive, DatabaseState, Health
from db.errors import FAILED, DatabaseUnavailable, ReadOnly, TooBusy
from db.pool import Pool

_log = structlog.get_logger(__name__)

_VERSION = version("daybook")
_FRESH_SECONDS = 1.0
_TIMEOUT_SECONDS = 2.0

PROBE = "SELECT FROM daybook_lock_stream('')"
"""Statement that succeeds only on a database that takes writes, and lets us. It locks no row: no user is called so."""
PROBE_OF_SHARDED = f"{PROBE} WHERE current_setting('transaction_read_only') = 'on'"
"""The probe without a look at the server that would have this user: if it hangs, the others can be served."""

router = APIRouter(tags=["health"])

_HEALTH: dict[str, Any] = {
    "response_model": Health,
    "response_description": "Requests can be served",
    "responses": {
        200: answer(examples.HEALTHY),
        503: {
            "model": Health,
            "description": "Requests can't be served: no database, or a read-only one",
            **answer(examples.UNHEALTHY),
        },
    },
}


class Readiness:
    """The readiness of the database, asked at most once a second however many probes come."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._lock = asyncio.Lock()
        self._asked = float("-inf")
        self._found: DatabaseState = "unreachable"

    async def check(self) -> DatabaseState:
        """Return `reachable` if a statement came back within two seconds, now or in the last second."""
        async with self._lock:
            if time.monotonic() - self._asked >= _FRESH_SECONDS:
                self._found = await self._ask()
                self._asked = time.monotonic()
            return self._found

    async def _ask(self) -> DatabaseState:
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                await self._pool.probe(PROBE_OF_SHARDED if self._pool.sharded else PROBE)
        except TooBusy:  # it is answering others
            return "reachable"
        except (ReadOnly, asyncpg.ReadOnlySQLTransactionError):  # logged once already
            return "read-only"
        except DatabaseUnavailable:  # logged, too
            return "unreachable"
        except FAILED as error:  # no schema is as bad as no database
            _log.warning("database unavailable", error=repr(error))
            return "unreachable"
        return "reachable"


@router.get(
    "/livez",
    operation_id="livez",
    summary="Is it alive?",
    response_model=Alive,
    response_description="The process runs",
    responses={200: answer(examples.ALIVE)},
)
async def livez() -> JSONResponse:
    """The process runs. Never touches the database."""
    return JSONResponse({"status": "alive"})


@router.get("/readyz", operation_id="readyz", summary="Can it serve?", **_HEALTH)
@router.get("/health", operation_id="health", summary="Can it serve? (as /readyz)", **_HEALTH)
async def health(request: Request) -> JSONResponse:
    """Requests can be served: the database answers, and isn't read-only. A full disk shows only in a write."""
    found = await request.state.readiness.check()
    ready = found == "reachable"
    body = {"status": "healthy" if ready else "unhealthy", "database": found, "version": _VERSION}
    return JSONResponse(body, status_code=200 if ready else 503)
