"""Authentication of a request: a user reaches only their own path, an auditor others' logs too (docs/http-api.md,
"Authentication")."""

from typing import Annotated

import structlog
from fastapi import Depends, Path, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.auth.claims import BadToken, Bearer
from api.auth.jwks import KeysUnavailable
from api.problems import (
    BadRequest,
    Forbidden,
    Unauthorized,
    Unavailable,
    insufficient_scope,
    invalid_token,
    not_for_auditors,
)
from api.user_turns import take_turn
from config.settings import USER_ID
from db import deadline

_log = structlog.get_logger(__name__)

_bearer = HTTPBearer(
    auto_error=False,
    bearerFormat="JWT",
    description="A token whose user is the one in the path, or an auditor's",
    scheme_name="bearer",
)


UserId = Annotated[str, Path(description="the user, as the token names them", examples=["demo"])]
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


async def authenticate(
    request: Request, user_id: str, credentials: HTTPAuthorizationCredentials | None, *, for_auditors: bool
) -> Bearer:
    """Return the token's bearer, if it is for the path's user and this method. A read first waits for the user's turn.

    `for_auditors` says that auditors may read here, too. Limits and turns are those of the token's user, also kept
    as `request.state.requester`. Raise `Unauthorized`, `Forbidden`, `BadRequest`, `ReadOnlyToken`,
    `RateLimitExceeded`, `Unavailable` or `Overloaded`.
    """
    if credentials is None:
        raise Unauthorized(
            "Please sign in.",
            hint="Send a token: Authorization: Bearer <JWT>.",
            headers={"WWW-Authenticate": "Bearer"},
        )
    try:
        bearer: Bearer = await request.state.verifier.verify(credentials.credentials)
    except BadToken as error:
        _log.info("token refused", reason=str(error))
        raise invalid_token(str(error)) from None
    except KeysUnavailable as error:
        raise Unavailable(
            hint="The keys that tokens are verified with can't be fetched just now; try again.",
            headers={"Retry-After": str(error.seconds)},
        ) from None
    user, actor, reads_only, audits = bearer
    structlog.contextvars.bind_contextvars(user=user)
    if actor != user:
        structlog.contextvars.bind_contextvars(actor=actor)
    request.state.requester = user
    if request.state.limits is not None:  # also a request that is refused below
        await request.state.limits.admit_user(request.scope, user)
    if user != user_id:
        _admit_auditor(user_id, audits=audits, for_auditors=for_auditors)
    if request.method in ("GET", "HEAD"):  # a write takes its turn once its body has arrived (`api.writes`)
        deadline.begin(request.state.pool.timeout)
        await take_turn(request, user)
    elif reads_only:
        raise insufficient_scope()
    return bearer


def _admit_auditor(user_id: str, *, audits: bool, for_auditors: bool) -> None:
    """Let an auditor reach another user's path. Raise `Forbidden`, or `BadRequest` if there can be no such user."""
    if not audits:
        raise Forbidden(hint="The token is another user's than the path's.")
    structlog.contextvars.bind_contextvars(audited=user_id)
    if not for_auditors:
        raise not_for_auditors()
    if not USER_ID.fullmatch(user_id):
        raise BadRequest(hint="The path must name the user in 1 to 255 characters.")
