"""Is the process alive, and can it serve? (contract, section 6)"""

import asyncio
import time
from importlib.metadata import version
from typing import Any

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from api.models import Alive, Health
from db.failures import FAILED, Away, Busy
from db.pool import Pool

_log = structlog.get_logger(__name__)

_VERSION = version("daybook")
_FRESH_SECONDS = 1.0
_TIMEOUT_SECONDS = 2.0

PROBE = "SELECT FROM journals LIMIT 0"

router = APIRouter(tags=["health"])

_HEALTH: dict[str, Any] = {
    "response_model": Health,
    "response_description": "Requests can be served",
    "responses": {503: {"model": Health, "description": "Requests can't be served: no database"}},
}


class Readiness:
    """Whether the database answers, asked at most once a second however many probes come."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._lock = asyncio.Lock()
        self._asked = float("-inf")
        self._ready = False

    async def check(self) -> bool:
        """True where a statement came back within two seconds, now or in the last second."""
        async with self._lock:
            if time.monotonic() - self._asked >= _FRESH_SECONDS:
                self._ready = await self._ask()
                self._asked = time.monotonic()
            return self._ready

    async def _ask(self) -> bool:
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                await self._pool.fetch(PROBE)
        except Busy:  # answering others
            return True
        except Away:  # told once already
            return False
        except FAILED as error:  # no schema is as bad as no database
            _log.warning("database unavailable", error=repr(error))
            return False
        return True


@router.get(
    "/livez",
    operation_id="livez",
    summary="Is it alive?",
    response_model=Alive,
    response_description="The process runs",
)
async def livez() -> JSONResponse:
    """The process runs. Never touches the database."""
    return JSONResponse({"status": "alive"})


@router.get("/readyz", operation_id="readyz", summary="Can it serve?", **_HEALTH)
@router.get("/health", operation_id="health", summary="Can it serve? (as /readyz)", **_HEALTH)
async def health(request: Request) -> JSONResponse:
    """Requests can be served: the database answers."""
    ready = await request.state.readiness.check()
    body = {
        "status": "healthy" if ready else "unhealthy",
        "database": "reachable" if ready else "unreachable",
        "version": _VERSION,
    }
    return JSONResponse(body, status_code=200 if ready else 503)
