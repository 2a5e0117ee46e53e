"""Signed heads: a head that says who answered it, as a JWS (RFC 7515) with Ed25519 (RFC 8037)."""

from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple

import jwt
import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt.algorithms import OKPAlgorithm
from jwt.utils import base64url_encode

from events.hash_chain import Head
from events.serialization import Json, canonical

_TYPE = "daybook-head"
"""The header `typ`, by which nobody takes a signed head for an access token (RFC 8725, section 3.11)."""


class NoSigningKey(ValueError):
    """The text isn't an Ed25519 private key in PEM."""


class BadSignature(Exception):
    """A head that none of the given keys has signed as it is. The message says why."""


class HeadSigner:
    """The service's key for heads."""

    def __init__(self, pem: str) -> None:
        """Read the key from its PEM (PKCS #8, as `openssl genpkey -algorithm ed25519` writes it).

        Raises `NoSigningKey`.
        """
        try:
            key = load_pem_private_key(pem.encode(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise NoSigningKey("must be an Ed25519 key in PEM: openssl genpkey -algorithm ed25519")
        self._key = key
        public = OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
        self._kid = base64url_encode(sha256(canonical(public)).digest()).decode()  # its thumbprint (RFC 7638)
        self.jwks: Json = {"keys": [{**public, "kid": self._kid, "use": "sig", "alg": "EdDSA"}]}
        """The public key as a JWK Set (RFC 7517), to check heads with."""

    def sign(self, user_id: str, head: Json, *, at: datetime) -> str:
        """Sign a user's head, `{"seq", "hash", "at"}`, as answered `at` this time. Return a JWS in its compact form."""
        claims = {"sub": user_id, **head, "iat": at}
        return jwt.encode(claims, self._key, "EdDSA", headers={"typ": _TYPE, "kid": self._kid})


class Signed(NamedTuple):
    """A signature's claims about a head: its user, and the key that signed it."""

    user_id: str
    key_id: str


def check_signature(signed: str, head: Head, keys: bytes) -> Signed:
    """Check that `signed` is this head's, by one of the `keys` (a JWK Set as JSON).

    Raises `BadSignature`.
    """
    try:
        found = jwt.PyJWKSet.from_dict(orjson.loads(keys)).keys
    except (orjson.JSONDecodeError, jwt.PyJWTError, AttributeError, TypeError) as error:
        raise BadSignature("the keys aren't what /.well-known/jwks.json answers") from error
    try:
        kid = jwt.get_unverified_header(signed).get("kid")
        token = next((_decoded(signed, each) for each in found if each.key_id == kid), None)
    except jwt.InvalidTokenError as error:
        raise BadSignature("the head's signature doesn't hold: it was changed, or is another key's") from error
    if token is None:
        raise BadSignature("the head was signed with a key that isn't among these")
    claims = token["payload"]
    if token["header"].get("typ") != _TYPE or not isinstance(claims.get("sub"), str):
        raise BadSignature("what was signed is no head")
    if (claims.get("seq"), claims.get("hash"), claims.get("at")) != (head.seq, head.hash.hex(), head.at):
        raise BadSignature("the head isn't the one that was signed: it was changed")
    return Signed(claims["sub"], str(kid))


def _decoded(signed: str, key: jwt.PyJWK) -> dict[str, Any]:
    options: Any = {f"verify_{name}": False for name in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")}
    return jwt.decode_complete(signed, key, algorithms=["EdDSA"], options=options)
