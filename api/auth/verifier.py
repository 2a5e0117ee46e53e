"""Verification of bearer tokens (docs/http-api.md, "Authentication")."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

import jwt

from api.auth import malformed_tokens
from api.auth.claims import BadToken, Bearer, bearer
from api.auth.jwks import ALGORITHMS, IssuerKey, Jwks, PublicKey, UnknownKey, UnusableKey, algorithm

_OF_SECRET = frozenset({"HS256", "HS384", "HS512"})

_LEEWAY = 10
"""Seconds by which the issuer's clock and ours may differ."""

_HORIZON = 100 * 365 * 86_400
"""Seconds from now; a claim of a later time can't be in seconds."""

_FROM_NOW_ON = 946_684_800
"""The year 2000 in Unix time; an earlier expiry must be meant as a number of seconds from now."""

_LONGEST = 16 * 1024
"""Largest number of characters of a token; many proxies pass on at most half of that."""

_REMEMBERED = 10_000
"""Largest number of cached tokens. The cache has the digest, bearer and expiry of each: a few megabytes in all."""


class Expected(NamedTuple):
    """The issuer (`iss`) and audience (`aud`) that a token must have; None allows any."""

    issuer: str | None = None
    audience: str | None = None


ANYBODY = Expected()


class _Verified(NamedTuple):
    """A verified token's bearer, end (Unix time in seconds, leeway included), and the issuer's key, if it has one."""

    bearer: Bearer
    until: float
    kid: str | None
    key: IssuerKey | None


class Verifier:
    """Verifier of tokens of two kinds: signed with a shared `secret`, or by an issuer that publishes its `keys`.

    Either kind may be missing. Invariant: the token's algorithm decides its kind, and a token is checked only with the
    keys and expectations of its own kind.
    """

    def __init__(
        self,
        *,
        secret: str | None = None,
        of_secret: Expected = ANYBODY,
        keys: Jwks | None = None,
        of_keys: Expected = ANYBODY,
        user_claim: str = "sub",
        actor_claim: str | None = None,
        auditor_claim: str | None = None,
    ) -> None:
        self._secret = secret
        self._of_secret = of_secret
        self._keys = keys
        self._of_keys = of_keys
        self._user_claim, self._actor_claim, self._auditor_claim = user_claim, actor_claim, auditor_claim
        self._remembered: OrderedDict[bytes, _Verified] = OrderedDict()

    async def verify(self, token: str) -> Bearer:
        """Verify the token and return its bearer. Raises `BadToken`, or `api.auth.jwks.KeysUnavailable`.

        A valid token is cached, and not verified again until it expires or its key is no longer published.
        """
        if len(token) > _LONGEST:
            raise BadToken(f"The token is too long; {_LONGEST:,} characters are the most.")
        digest = hashlib.sha256(token.encode()).digest()
        verified = self._remembered.get(digest)
        if verified is None or verified.until <= time.time() or not await self._still_published(verified):
            verified = self._remembered[digest] = await self._verify(token)
            if len(self._remembered) > _REMEMBERED:
                self._remembered.popitem(last=False)
        else:
            self._remembered[digest] = verified  # other tokens may have evicted it during the wait
            self._remembered.move_to_end(digest)
        return verified.bearer

    def until(self, token: str) -> float:
        """Return the end of a token that was just verified, in Unix time."""
        verified = self._remembered.get(hashlib.sha256(token.encode()).digest())
        return time.time() if verified is None else verified.until

    async def _still_published(self, verified: _Verified) -> bool:
        if not (self._keys and verified.kid is not None):
            return True
        try:
            return await self._keys.key(verified.kid) is verified.key
        except (UnknownKey, UnusableKey):
            return False

    async def _verify(self, token: str) -> _Verified:
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError as error:
            raise BadToken(malformed_tokens.why_unreadable(token)) from error
        name, kid = str(header.get("alg")), header.get("kid")  # alg could be anything
        if name in _OF_SECRET:
            if self._secret is None:
                raise BadToken(f"{name} tokens aren't accepted here: no JWT_SECRET is set.")
            return self._claims(token, self._secret, name, self._of_secret)
        if algorithm(name) not in ALGORITHMS:
            raise BadToken("The token is signed with an algorithm that isn't accepted here.")
        if self._keys is None:
            raise BadToken(f"{name} tokens aren't accepted here: no BETTER_AUTH_URL or JWT_JWKS_URL is set.")
        if kid is None:
            raise BadToken("The token's header doesn't name its key (kid).")
        try:
            key = await self._keys.key(kid)
        except UnknownKey:
            raise BadToken("The token's key isn't among those that its issuer publishes.") from None
        except UnusableKey as error:
            raise BadToken(f"The token's key can't be used: {error}.") from error
        if algorithm(name) not in key.algorithms:
            raise BadToken("The token's algorithm isn't its key's.")
        verified = self._claims(token, key.public, name, self._of_keys)
        return verified._replace(kid=kid, key=key)

    def _claims(self, token: str, key: str | PublicKey, alg: str, expected: Expected) -> _Verified:
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[alg],
                issuer=expected.issuer,
                audience=expected.audience,
                options={
                    "require": ["exp"],
                    "verify_exp": False,  # exp and nbf are checked below: PyJWT takes a text, and milliseconds
                    "verify_nbf": False,
                    "verify_aud": expected.audience is not None,
                    "verify_iat": False,
                    "verify_jti": False,
                    "verify_sub": False,
                },
            )
        except jwt.InvalidIssuerError as error:
            raise BadToken(f"The token's issuer (iss) isn't {expected.issuer}.") from error
        except jwt.InvalidAudienceError as error:
            raise BadToken(f"The token's audience (aud) isn't {expected.audience}.") from error
        except jwt.InvalidSignatureError as error:
            raise BadToken(malformed_tokens.unsigned(token, alg) or _OF_ANOTHER_KEY) from error
        except jwt.InvalidTokenError as error:
            raise BadToken(_REASONS.get(type(error), "The token can't be verified.")) from error
        until = _until(claims, time.time())
        whose = bearer(
            claims, user_claim=self._user_claim, actor_claim=self._actor_claim, auditor_claim=self._auditor_claim
        )
        return _Verified(whose, until, None, None)


_REASONS: dict[type[jwt.InvalidTokenError], str] = {
    jwt.MissingRequiredClaimError: "The token lacks a required claim (exp, and iss and aud where they are configured).",
    jwt.DecodeError: malformed_tokens.NO_CLAIMS,
}
_OF_ANOTHER_KEY = "The token can't be verified: its signature isn't that of the key here."


def _until(claims: Mapping[str, Any], now: float) -> float:
    """Return the token's end in Unix seconds, leeway included. Raises `BadToken` if the token isn't valid now."""
    expiry = _seconds(claims, "exp", now)
    if expiry < _FROM_NOW_ON:
        raise BadToken(
            "The token has expired: exp lies before the year 2000; it must be the seconds since 1970, not from now on."
        )
    if expiry + _LEEWAY <= now:
        raise BadToken("The token has expired; get a new one.")
    if "nbf" in claims and _seconds(claims, "nbf", now) - _LEEWAY > now:
        raise BadToken("The token isn't valid yet.")
    return expiry + _LEEWAY


def _seconds(claims: Mapping[str, Any], name: str, now: float) -> float:
    """Read a NumericDate (RFC 7519, section 2) in seconds. Raises `BadToken`, also beyond the horizon (`_HORIZON`)."""
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # NaN
        raise BadToken(f"The token's {name} must be a number: the seconds since 1970.")
    if value > now + _HORIZON:
        raise BadToken(
            f"The token's {name} lies more than a hundred years ahead: it must be in seconds, not in milliseconds."
        )
    return value
