"""The running app's state, and the dependencies that give it to requests."""

from dataclasses import dataclass
from typing import Annotated, TypedDict

from fastapi import Depends, Request

from api.auth.authentication import Credentials, UserId, authenticate
from api.auth.verifier import Verifier
from api.large_bodies import LargeBodies
from api.middleware import TrustedProxies
from api.preconditions import fingerprint, idempotency_key
from api.rate_limits import Limits
from api.routers.health import Readiness
from api.user_turns import UserTurns
from config.origins import Origins
from db.long_reads import Scans
from db.pool import Pool
from events.signed_head import HeadSigner
from events.store.event_store import EventStore
from events.task import Metadata
from queries.feed import Feeds

_LONGEST_ADDRESS, _LONGEST_AGENT = 64, 512


class State(TypedDict):
    """State of the app, made by its lifespan. Each request finds it under `request.state`."""

    pool: Pool
    store: EventStore
    scans: Scans
    verifier: Verifier
    limits: Limits | None
    """Limits on how many requests may come; `None` if there are none."""
    head_signer: HeadSigner | None
    """The signer of heads; `None` if they aren't signed."""
    readiness: Readiness
    turns: UserTurns
    large_bodies: LargeBodies
    feeds: Feeds
    origins: Origins
    """Origins of the pages that may call; `api.server.protocol` reads them, too."""
    trusted_proxies: TrustedProxies
    """Addresses with connections of many clients: `api.server.protocol` doesn't limit these by address."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The user that a request is about, its sender, and the sources of its answer."""

    request: Request
    user: str
    requester: str
    """The user of the token, for the turns and limits of the request: the user, or an auditor."""
    actor: str
    """The actor: the user, or somebody for them."""
    store: EventStore
    pool: Pool
    """Connections, for which users take turns."""
    scans: Scans


async def _caller(request: Request, user_id: UserId, credentials: Credentials) -> Caller:
    """Authenticate the request. Raise as `api.auth.authentication.authenticate` does."""
    user, actor, *_ = await authenticate(request, user_id, credentials, for_auditors=False)
    state = request.state
    return Caller(request, user, user, actor, state.store, state.pool.of(user), state.scans)


CurrentCaller = Annotated[Caller, Depends(_caller)]


def metadata(request: Request, body: bytes) -> Metadata:
    """Read a write's metadata. Raise `BadRequest` if its idempotency key can't be read."""
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
