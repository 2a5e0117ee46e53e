"""An issuer's public keys (JWKS, RFC 7517), kept while the issuer can't be reached."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import dataclass
from math import ceil
from typing import Any, TypeAlias

import httpx2
import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import InvalidKeyError
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from api.auth.jwks_response import NoJwks, published_keys
from config import outgoing

_log = structlog.get_logger(__name__)

_SOON = 240
"""Seconds of age from which the keys are fetched again; requests go on with the old ones."""
_STALE = 300
"""Seconds of age from which requests wait for the fetch, so that a key the issuer dropped isn't trusted for longer."""
_PAUSE = 10
"""Seconds between two fetches for unknown keys, and between two tries while the issuer can't be reached."""
_NEVER = float("-inf")

_SMALLEST_RSA = 2048
"""Smallest size of an RSA key, in bits (RFC 7518, section 3.3)."""

_NO_KEYS = (
    "No token can be verified. Better Auth makes a key when it signs its first token: get one there. "
    "Another issuer must give each of its keys an id (kid)."
)

PublicKey: TypeAlias = Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey


class UnusableKey(Exception):
    """A published key that isn't used to verify tokens. The message says why."""


class UnknownKey(Exception):
    """The issuer publishes no key with this id."""


class KeysUnavailable(Exception):
    """The issuer can't be reached, so it is unknown if it has such a key. Try again in `seconds`."""

    def __init__(self, seconds: int) -> None:
        super().__init__(seconds)
        self.seconds = seconds


@dataclass(frozen=True, slots=True, eq=False)
class IssuerKey:
    """A public key, and the names of the algorithms that it may verify."""

    public: PublicKey
    algorithms: frozenset[str]


class Jwks:
    """Cache of the keys at `url`, by their ids.

    The keys are fetched when first needed, when they have become old, and when a token names an unknown one: for that
    reason at most once in ten seconds, however many such tokens come. One fetch runs at a time. While the issuer can't
    be reached, the keys that it last published go on verifying.
    """

    def __init__(self, url: str, client: httpx2.AsyncClient, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._client = client
        self._clock = clock
        self._published: Mapping[str, Mapping[str, Any]] = {}
        self._keys: dict[str, IssuerKey] = {}
        self._fetching: asyncio.Task[None] | None = None
        # Times by the clock: last success, last failure since then, last try, last try for an unknown key.
        self._fetched = self._failed = self._tried = self._asked = _NEVER

    async def key(self, kid: str) -> IssuerKey:
        """Return the key with this id: one object for as long as the issuer publishes it.

        Wait for a fetch if one is needed; each takes at most three seconds. Raise `UnknownKey`, `UnusableKey` or
        `KeysUnavailable`.
        """
        now = self._clock()
        if now - self._fetched >= _SOON and now - self._tried >= _PAUSE:
            self.fetch()
        away = now - self._failed < _SOON  # after an older failure, the issuer may be back
        if now - self._fetched >= _STALE and self._fetching and not away:
            await asyncio.shield(self._fetching)
        for _ in range(2):  # twice: a fetch under way may have begun before the key was published
            if kid not in self._published and self._failed < now:
                if not self._fetching and self._tried < now and now - self._asked >= _PAUSE:
                    self._asked = now
                    self.fetch()
                if self._fetching:
                    await asyncio.shield(self._fetching)
        if found := self._keys.get(kid):
            return found
        if jwk := self._published.get(kid):
            return self._keys.setdefault(kid, _key(jwk))
        if self._failed > _NEVER:
            raise KeysUnavailable(max(1, ceil(self._tried + _PAUSE - self._clock())))
        raise UnknownKey(kid)

    def fetch(self) -> "asyncio.Task[None]":
        """Begin a fetch, unless one is under way. Return its task, which logs a failure and doesn't raise it."""
        if not self._fetching:
            self._tried = self._clock()
            # In a context of its own: the fetch isn't part of the request that happened to begin it.
            self._fetching = asyncio.create_task(self._fetch(), context=Context())
        return self._fetching

    async def close(self) -> None:
        """Cancel the fetch that is under way, if any."""
        if self._fetching:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    async def _fetch(self) -> None:
        try:
            keys = await published_keys(self._client, self._url)
        except Exception as error:  # noqa: BLE001 - after any failure, the known keys go on
            self._failed = self._clock()
            hint = error.hint if isinstance(error, NoJwks) else None
            _log.warning("JWKS can't be fetched", url=self._url, error=str(error) or type(error).__name__, hint=hint)
        else:
            published = {key["kid"]: key for key in keys if isinstance(key, dict) and isinstance(key.get("kid"), str)}
            if not published:
                _log.warning("JWKS without a key that can be named", url=self._url, keys=len(keys), hint=_NO_KEYS)
            self._keys = {kid: key for kid, key in self._keys.items() if published.get(kid) == self._published[kid]}
            self._published = published
            self._fetched, self._failed = self._clock(), _NEVER
        finally:
            self._fetching = None


@asynccontextmanager
async def open_jwks(url: str) -> AsyncIterator[Jwks]:
    """Open the keys at `url`, and begin a first fetch, so that the log soon shows if it works."""
    async with outgoing.client(url) as client:
        jwks = Jwks(url, client)
        jwks.fetch()
        try:
            yield jwks
        finally:
            await jwks.close()


def _key(jwk: Mapping[str, Any]) -> IssuerKey:
    """Make a published key ready for use, or raise `UnusableKey`."""
    if "d" in jwk:
        raise UnusableKey("its private half is published")
    if jwk.get("use", "sig") != "sig":
        raise UnusableKey("it isn't for signatures")
    kind = _KINDS.get(str(jwk.get("crv", jwk.get("kty"))))
    if kind is None:
        raise UnusableKey(f"its type isn't one of {', '.join(_KINDS)}")
    read, algorithms = kind
    if "alg" in jwk:  # an older Better Auth publishes keys without it
        algorithms = algorithms & {algorithm(jwk["alg"])}
    if not algorithms:
        raise UnusableKey("its alg isn't one of its type's that are accepted here")
    try:
        public = read(dict(jwk))
    except (InvalidKeyError, ValueError, TypeError, KeyError) as error:
        raise UnusableKey("it can't be read") from error
    if isinstance(public, RSAPublicKey) and public.key_size < _SMALLEST_RSA:
        raise UnusableKey(f"it has less than {_SMALLEST_RSA} bits")
    return IssuerKey(public, algorithms)


# By curve, or by type if there is none: the function that reads such a key, and the algorithms that it may verify
# (docs/http-api.md, "Authentication").
_KINDS: dict[str, tuple[Callable[[dict[str, Any]], Any], frozenset[str]]] = {
    "Ed25519": (OKPAlgorithm.from_jwk, frozenset({"EdDSA"})),
    "P-256": (ECAlgorithm.from_jwk, frozenset({"ES256"})),
    "P-521": (ECAlgorithm.from_jwk, frozenset({"ES512"})),
    "RSA": (RSAAlgorithm.from_jwk, frozenset({"PS256", "RS256"})),
}

ALGORITHMS = frozenset[str]().union(*(algorithms for _, algorithms in _KINDS.values()))
"""All algorithms that a published key can verify."""

try:
    jwt.get_algorithm_by_name("Ed25519")
except NotImplementedError:
    jwt.register_algorithm("Ed25519", OKPAlgorithm())


def algorithm(name: object) -> str:
    """Return the name that an algorithm has here: `EdDSA` for `Ed25519`, the one curve that is accepted with it.

    That name is from RFC 9864, section 2.2, which has no other new one for an accepted algorithm: ESP256 and the like
    are COSE's.
    """
    return "EdDSA" if name == "Ed25519" else str(name)
