"""Reasons why a token can't be read: one sentence for its sender, which never shows the token."""

import json
import re
from collections.abc import Mapping
from typing import Any

from jwt.utils import base64url_decode, base64url_encode

_HEADER = "header (the first of three parts)"
_PAYLOAD = "payload (the second of three parts)"
_SIGNATURE = "signature (the last of three parts)"
_PARTS, _ENCRYPTED_PARTS = 3, 5
"""Parts of a signed token (RFC 7515, section 7.1), and of an encrypted one (RFC 7516, section 7.1)."""

_NONE = re.compile(r"undefined|null|none|nil|nan|true|false|\[object \w+\]", re.IGNORECASE)
_SIGNATURE_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64, "EdDSA": 64, "Ed25519": 64, "ES256": 64, "ES512": 132}
"""Bytes of a signature, by algorithm. RSA's depend on the key."""

NO_CLAIMS = f"The token's {_PAYLOAD} isn't a JSON object."


def why_unreadable(token: str) -> str:
    """Explain why a token can't be parsed: other text surrounds or replaces it, or one of its parts is damaged."""
    if wrong := _around(token):
        return wrong
    parts = token.split(".")
    header = _object(parts[0])
    if len(parts) == _ENCRYPTED_PARTS:
        return "The token is encrypted (a JWE); one that is signed (a JWS) is needed."
    if header is None:
        if len(parts) != _PARTS:
            return "The token is not a JWT; a session token or cookie won't do."
        return f"The token is not a JWT, or its {_HEADER} is damaged; a session token or cookie won't do."
    if len(parts) > _PARTS:
        return f"The token has {len(parts)} parts and not three; send one token, as it was made."
    for name, part in zip((_PAYLOAD, _SIGNATURE), [*parts[1:], ""], strict=False):
        if not part:
            return _missing(name)
        if _bytes(part) is None:
            return f"The token's {name} is damaged; send it whole, as it was made."
    return _not_understood(header)


def unsigned(token: str, algorithm: str) -> str | None:
    """Explain why a token's signature can't be one of `algorithm`, with any key. Return None if it could be."""
    _, payload, signature = token.split(".")
    if not payload:
        return _missing(_PAYLOAD)
    if not signature:
        return _missing(_SIGNATURE)
    expected = _SIGNATURE_BYTES.get(algorithm)
    found = len(_bytes(signature) or b"")
    if expected in (None, found):
        return None
    return f"The token's {_SIGNATURE} is damaged: it has {found} bytes, and those of {algorithm} have {expected}."


def _missing(part: str) -> str:
    return f"The token's {part} is missing; send it whole, as it was made."


def _around(token: str) -> str | None:
    if _NONE.fullmatch(token):
        return (
            "There is no token, only a word that stands for none (undefined, null, [object Object]): "
            "get a token first, and await it."
        )
    if re.match(r"bearer\b", token, re.IGNORECASE):
        return "The word Bearer stands twice; send it once, before the token."
    if token.startswith(('"', "'", "`")):
        return "The token is in quotes; send it without."
    if token.startswith(("{", "<", "$")):
        return "The token is within something else, or that stands in its place; send the token alone."
    if any(character.isspace() for character in token):
        return "The token has white space or a line break in it; send it in one piece."
    return None


def _not_understood(header: Mapping[str, Any]) -> str:
    """Explain why a token with readable parts isn't understood."""
    if not isinstance(header.get("kid", ""), str):
        return "The token's header must name its key (kid) as text."
    extension = "crit" if header.get("b64", True) is True else "b64"
    return f"The token's header asks for an extension ({extension}) that isn't known here."


def _object(part: str) -> dict[str, Any] | None:
    raw = _bytes(part)
    if raw is None:
        return None
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _bytes(part: str) -> bytes | None:
    """Decode a part from base64url. Return None if it isn't valid, by the rules that tokens are read by."""
    bare = part.removesuffix("=").removesuffix("=")
    if len(bare) < len(part) and len(part) % 4:
        return None
    try:
        raw = base64url_decode(bare)
    except ValueError:
        return None
    return raw if base64url_encode(raw).decode() == bare else None
