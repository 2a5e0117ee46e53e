"""Tokens for trying things out; in real life Better Auth or the like issues them."""

from datetime import UTC, datetime
from typing import Any

import jwt

from config.settings import Settings


def sign(settings: Settings, user: str, *, until: datetime) -> str:
    """An HS256 token for `user` with all that the service, with the same settings, will ask for."""
    claims: dict[str, Any] = {}
    place = claims
    *parents, name = settings.jwt_user_claim.split(".")
    for parent in parents:
        place = place.setdefault(parent, {})
    place[name] = user
    claims |= {"iat": datetime.now(UTC), "exp": until}
    if settings.jwt_issuer:
        claims["iss"] = settings.jwt_issuer
    if settings.jwt_audience:
        claims["aud"] = settings.jwt_audience
    return jwt.encode(claims, settings.signing_secret, algorithm="HS256")
