"""Tokens made by hand, since libraries refuse to make them."""

import base64
import hmac
import json
from typing import Any

from tests.service import SECRET


def segment(value: Any) -> str:
    """Encode one part of a token: these bytes, else this value as JSON."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(claims: Any, **header: Any) -> str:
    """Sign a token of the tests' shared secret with this payload, whatever that is."""
    body = f"{segment({'alg': 'HS256', **header})}.{segment(claims)}"
    return f"{body}.{segment(hmac.digest(SECRET.encode(), body.encode(), 'sha256'))}"
