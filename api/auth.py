"""Who is asking: bearer tokens, and the one rule that a path belongs to its user (contract, section 2)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import jwt
import structlog
from fastapi import Depends, Path, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.errors import NotAuthenticated, NotYours
from config.settings import USER_ID

_ALGORITHMS = ["HS256", "HS384", "HS512"]
_LEEWAY = 10
"""Seconds by which clocks may differ."""

_log = structlog.get_logger(__name__)


class BadToken(Exception):
    """A token that doesn't hold. The message is for its bearer, and never shows the token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """What a token must meet: signed with `secret`, unexpired, and with the issuer and audience where they are set."""

    secret: str
    issuer: str | None = None
    audience: str | None = None
    user_claim: str = "sub"

    def user(self, token: str) -> str:
        """The user whom the token speaks for. Raises `BadToken`."""
        try:
            claims = jwt.decode(
                token,
                self.secret,
                algorithms=_ALGORITHMS,
                issuer=self.issuer,
                audience=self.audience,
                leeway=_LEEWAY,
                options={
                    "require": ["exp"],
                    "verify_aud": self.audience is not None,
                    "verify_iat": False,
                    "verify_jti": False,
                    "verify_sub": False,
                },
            )
        except jwt.InvalidTokenError as error:
            raise BadToken(_REASONS.get(type(error), "The token can't be verified.")) from error
        return _user(claims, self.user_claim)


_REASONS: dict[type[jwt.InvalidTokenError], str] = {
    jwt.ExpiredSignatureError: "The token has expired; get a new one.",
    jwt.ImmatureSignatureError: "The token isn't valid yet.",
    jwt.InvalidIssuerError: "The token comes from another issuer.",
    jwt.InvalidAudienceError: "The token is meant for another audience.",
    jwt.MissingRequiredClaimError: "The token lacks a required claim (exp, and iss and aud where they are configured).",
    jwt.InvalidAlgorithmError: "The token is signed with an algorithm that isn't accepted here.",
}


def _user(claims: Mapping[str, Any], path: str) -> str:
    """The claim at `path`: as a name of its own, else step by step at the dots. Whole numbers count as text."""
    value: Any = claims.get(path)
    if value is None:
        value = claims
        for step in path.split("."):
            value = value.get(step) if isinstance(value, Mapping) else None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not USER_ID.fullmatch(value):
        raise BadToken(f"The token's claim {path} must name the user in 1 to 255 characters without a slash.")
    return value


_bearer = HTTPBearer(
    auto_error=False,
    bearerFormat="JWT",
    description="A token whose user is the one in the path",
    scheme_name="bearer",
)


async def current_user(
    request: Request,
    user_id: Annotated[str, Path(description="the user, as the token names them", examples=["demo"])],
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> str:
    """The path's user, proved by the token. Raises `NotAuthenticated` or `NotYours`."""
    if credentials is None:
        raise NotAuthenticated("Send a token: Authorization: Bearer <JWT>.", headers={"WWW-Authenticate": "Bearer"})
    try:
        user: str = request.state.verifier.user(credentials.credentials)
    except BadToken as error:
        _log.info("token refused", reason=str(error))
        challenge = f'Bearer error="invalid_token", error_description="{error}"'
        raise NotAuthenticated(str(error), headers={"WWW-Authenticate": challenge}) from None
    structlog.contextvars.bind_contextvars(user=user)
    if user != user_id:
        raise NotYours("The token is another user's than the path's.")
    return user


CurrentUser = Annotated[str, Depends(current_user)]
