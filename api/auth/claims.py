"""Claims of a verified token, and what they say of its bearer (docs/http-api.md, "Authentication")."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from config.settings import USER_ID

_ACTOR = re.compile(r"[^\0\ud800-\udfff]{1,255}")
"""Pattern of actors: fit for a text column. They are no part of a path, and may be URIs."""

_READS, _WRITES, _AUDITS = "tasks:read", "tasks:write", "audit:read"


class BadToken(Exception):
    """Error for a token that isn't valid. The message is for its bearer, and never shows the token."""


class Bearer(NamedTuple):
    """The user of a token, the actor with it, and whether they may only read, and audit others."""

    user: str
    actor: str
    reads_only: bool
    audits: bool


def bearer(claims: Mapping[str, Any], *, user_claim: str, actor_claim: str | None, auditor_claim: str | None) -> Bearer:
    """Read the bearer of a token. Raises `BadToken`.

    The actor is the party that acts for the token's subject, if there is one (`act`, RFC 8693, section 4.1); else the
    claim `actor_claim`, which is required if it is set; else the user. An auditor's token has both the claim
    `auditor_claim`, which must be the JSON value true, and the scope `audit:read`.
    """
    user = _text(_claim(claims, user_claim))
    if user is None or not USER_ID.fullmatch(user):
        raise BadToken(f"The token's claim {user_claim} must name the user in 1 to 255 characters without a slash.")
    actor: str | None = user
    named = actor_claim
    if "act" in claims:
        named, act = "act.sub", claims["act"]
        actor = _text(act.get("sub")) if isinstance(act, Mapping) else None
    elif actor_claim:
        actor = _text(_claim(claims, actor_claim))
    if actor is None or not _ACTOR.fullmatch(actor):
        raise BadToken(f"The token's claim {named} must name who acts in 1 to 255 characters.")
    scopes = {each for name in ("scope", "scp") for each in _scopes(claims, name)}
    reads_only = not scopes.isdisjoint({_READS, _AUDITS}) and _WRITES not in scopes
    audits = auditor_claim is not None and _claim(claims, auditor_claim) is True and _AUDITS in scopes
    return Bearer(user, actor, reads_only, audits)


def _claim(claims: Mapping[str, Any], path: str) -> object:
    """Return the claim named `path`, else the one at that dotted path; None if there is neither."""
    value: Any = claims.get(path)
    if value is None:
        value = claims
        for step in path.split("."):
            value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _text(value: object) -> str | None:
    """Return a text, or a whole number as text; None for all else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else None


def _scopes(claims: Mapping[str, Any], name: str) -> list[str]:
    """Read scopes: a text with spaces between them (RFC 8693, section 4.2), or a list of such. Raises `BadToken`."""
    value = claims.get(name)
    if value is None:
        return []
    if isinstance(value, str):
        return value.split()
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return " ".join(value).split()
    raise BadToken(f"The token's claim {name} must be scopes: a text with spaces between them, or a list.")
