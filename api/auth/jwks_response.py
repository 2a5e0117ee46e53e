"""Requests for a JWKS: redirects within its origin, and a cause and remedy for each failure."""

import asyncio
import socket
import ssl
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import httpx2
import orjson

_TIMEOUT_SECONDS = 3
_LARGEST = 1024 * 1024
"""Largest JWKS, in bytes: thousands of keys."""
_REDIRECTS = 3
_HEADERS = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}
_WHERE = (
    "Better Auth's jwt plugin must be on, and BETTER_AUTH_URL must end in its basePath unless that is /api/auth; "
    "or set JWT_JWKS_URL to where the keys are."
)
_SIGNED_OUT = "The keys must be readable without signing in: leave their path out of what the frontend protects."
_REACH = "It must be reachable from here; within a network of your own, set JWT_JWKS_URL to its inner address."


class NoJwks(Exception):
    """A failure to get a JWKS. The message names its cause; `hint`, the remedy."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


async def published_keys(client: httpx2.AsyncClient, url: str) -> list[Any]:
    """Get the list of keys at `url`, unchecked, within three seconds. Raise `NoJwks` if that fails."""
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            return await _keys(client, httpx2.URL(url))
    except TimeoutError:
        raise NoJwks(f"no answer within {_TIMEOUT_SECONDS} seconds", _REACH) from None
    except httpx2.TransportError as error:
        raise _not_reached(error) from error


async def _keys(client: httpx2.AsyncClient, url: httpx2.URL) -> list[Any]:
    for _ in range(1 + _REDIRECTS):
        async with client.stream("GET", url, headers=_HEADERS, follow_redirects=False, timeout=None) as answer:
            if answer.next_request is None:
                return _parse(answer, await _body(answer))
            target = answer.next_request.url
            if target.origin != url.origin:  # a server there could have its own keys trusted
                raise NoJwks(
                    f"the answer was {_named(answer.status_code)}, a redirect to {_shown(target)}",
                    "Redirects are followed within one origin only: where this one is right, set BETTER_AUTH_URL or "
                    "JWT_JWKS_URL to where it leads.",
                )
            url = target
    raise NoJwks(f"more than {_REDIRECTS} redirects, the last one to {_shown(url)}", f"{_SIGNED_OUT} {_WHERE}")


async def _body(answer: httpx2.Response) -> bytes:
    body = bytearray()
    async for chunk in answer.aiter_raw():  # raw: compressed data could unpack to any size
        body += chunk
        if len(body) > _LARGEST:
            raise NoJwks(f"the answer has more than {_LARGEST:,} bytes", _WHERE)
    return bytes(body)


def _parse(answer: httpx2.Response, body: bytes) -> list[Any]:
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    came = f"{_named(answer.status_code)} ({_limited(kind) or 'of no type'})"
    if answer.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise NoJwks(f"the answer was {came}", _SIGNED_OUT)
    if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR or answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        raise NoJwks(f"the answer was {came}", "See to the server there; its own log says why.")
    if answer.status_code != HTTPStatus.OK:
        raise NoJwks(f"the answer was {came}", _WHERE)
    if encoding := answer.headers.get("content-encoding"):
        raise NoJwks(
            f"the answer is compressed ({_limited(encoding)}), which wasn't asked for",
            "Have the server, or the proxy before it, leave it as it is.",
        )
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        page = "html" in kind or body.lstrip()[:1] == b"<"
        what = "an HTML page" if page else "no JSON"
        raise NoJwks(f"the answer was {came}: {what}", f"{_SIGNED_OUT} {_WHERE}" if page else _WHERE) from None
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list):
        raise NoJwks(f"the answer was {came}: JSON without a list of keys", _WHERE)
    return keys


def _not_reached(error: httpx2.TransportError) -> NoJwks:
    for cause in _causes(error):
        match cause:
            case ssl.SSLError():
                return NoJwks(
                    f"no TLS: {cause}",
                    "The URL must say https only where that port speaks TLS, and the certificate must be one that is "
                    "trusted here, for that name.",
                )
            case socket.gaierror():
                return NoJwks(f"the name {_limited(error.request.url.host)} isn't known: {cause.strerror}", _REACH)
            case ConnectionRefusedError():
                return NoJwks(
                    "the connection was refused",
                    f"Is it running, and at that port? In a container, localhost is the container itself. {_REACH}",
                )
    return NoJwks(str(error) or type(error).__name__, _REACH)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__


def _named(status: int) -> str:
    """Return a status with its phrase: `404 Not Found`."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _shown(url: httpx2.URL) -> str:
    """Return a URL without the parts that could be secret."""
    return _limited(str(url.copy_with(userinfo=b"", query=None, fragment=None)))


def _limited(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}…"
