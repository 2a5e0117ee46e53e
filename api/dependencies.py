"""The running app's state, and the dependencies that give it to requests."""

from typing import Annotated, TypedDict

from fastapi import Depends, Request

from api.auth.authentication import CurrentUser
from api.auth.verifier import Verifier
from api.middleware import TrustedProxies
from api.preconditions import fingerprint, idempotency_key
from api.request_body import RawBody
from api.routers.health import Readiness
from api.user_turns import UserTurns
from config.origins import Origins
from db.pool import Pool
from events.task import Metadata

_LONGEST_ADDRESS, _LONGEST_AGENT = 64, 512


class State(TypedDict):
    """State of the app, made by its lifespan. Each request finds it under `request.state`."""

    pool: Pool
    verifier: Verifier
    readiness: Readiness
    turns: UserTurns
    origins: Origins
    """Origins of the pages that may call; `api.server.protocol` reads them, too."""
    trusted_proxies: TrustedProxies
    """Addresses with connections of many clients: `api.server.protocol` doesn't limit these by address."""


async def _pool(request: Request, user: CurrentUser) -> Pool:
    pool: Pool = request.state.pool
    return pool.of(user)


async def _metadata(request: Request, body: RawBody) -> Metadata:
    agent = _text(request.headers.get("user-agent", ""))
    key = idempotency_key(request.headers)
    return Metadata(
        request_id=request.state.request_id,
        client_address=request.client.host[:_LONGEST_ADDRESS] if request.client else None,
        client_agent=agent[:_LONGEST_AGENT].replace("\0", "") or None,
        idempotency_key=key,
        fingerprint=fingerprint(request, body) if key else None,
    )


def _text(header: str) -> str:
    """Read a header's value as UTF-8, which most clients mean by bytes past ASCII; Starlette takes it for Latin-1."""
    if header.isascii():
        return header
    try:
        return header.encode("latin-1").decode()
    except UnicodeDecodeError:
        return header


Database = Annotated[Pool, Depends(_pool)]
RequestMetadata = Annotated[Metadata, Depends(_metadata)]
