"""Tokens for trying things out; in production Better Auth or the like issues them."""

from datetime import UTC, datetime
from typing import Any

import jwt

from config.errors import BadSettings
from config.settings import Settings


def sign(settings: Settings, user: str, *, until: datetime) -> str:
    """Return an HS256 token for `user` with all claims that a service with these settings requires.

    Raises `BadSettings` if an issuer's keys are set and no secret is: only the issuer can sign then.
    """
    if settings.signing_secret is None:
        raise BadSettings(
            f"JWT_SECRET: isn't set, and tokens are verified with the keys at {settings.jwks_url}.\n"
            "Get a token from there, or set JWT_SECRET as well."
        )
    claims: dict[str, Any] = {}
    for claim in filter(None, (settings.jwt_user_claim, settings.jwt_actor_claim)):
        place = claims
        *parents, name = claim.split(".")
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise BadSettings(f"JWT_ACTOR_CLAIM: {claim} can't be within {parent}, which JWT_USER_CLAIM names")
        place[name] = user
    claims |= {"iat": datetime.now(UTC), "exp": until}
    if settings.jwt_issuer:
        claims["iss"] = settings.jwt_issuer
    if settings.jwt_audience:
        claims["aud"] = settings.jwt_audience
    return jwt.encode(claims, settings.signing_secret, algorithm="HS256")
