"""An issuer's answers in place of keys: redirects stay within its origin, and a failure names the setting."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from structlog.testing import capture_logs

from api.auth.jwks import Jwks, KeysUnavailable, UnknownKey
from tests.certificates import Authority
from tests.issuer import Clock, Issuer, SigningKey, cache, issuing

pytestmark = pytest.mark.once

KEY = SigningKey.new("k")


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with issuing(KEY) as issuer:
        yield issuer


@pytest.fixture
def warned() -> Iterator[Callable[[], MutableMapping[str, Any]]]:
    """Yield a function that returns the log's only line since its last call, which is a warning."""
    with capture_logs() as lines:

        def line() -> MutableMapping[str, Any]:
            only = lines.pop()
            assert (lines, only["log_level"]) == ([], "warning")
            return only

        yield line


def redirect(issuer: Issuer, status: int, location: str) -> None:
    issuer.status, issuer.headers = status, f"Location: {location}\r\n"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "location", ["/elsewhere", "elsewhere", "http://127.0.0.1:{port}/elsewhere", "//127.0.0.1:{port}/elsewhere"]
)
async def test_a_redirect_within_the_origin_is_followed(issuer: Issuer, status: int, location: str) -> None:
    redirect(issuer, status, location.format(port=issuer.port))
    async with cache(issuer, Clock()) as jwks:
        assert (await jwks.key("k")).algorithms == {"EdDSA"}
    assert issuer.requests == 2


@pytest.mark.parametrize(
    "location",
    [
        "http://localhost:{port}/elsewhere",
        "http://127.0.0.1:{other}/elsewhere",
        "//127.0.0.1:{other}/elsewhere",
        "https://127.0.0.1:{port}/elsewhere",
        "http://127.0.0.1:{port}@evil.example/elsewhere",
        "ftp://127.0.0.1:{port}/elsewhere",
        "file:///dev/null",
    ],
)
async def test_a_redirect_to_another_origin_is_not_followed(
    issuer: Issuer, location: str, warned: Callable[[], MutableMapping[str, Any]]
) -> None:
    async with issuing(SigningKey.new("k")) as other, cache(issuer, Clock()) as jwks:
        redirect(issuer, 307, location.format(port=issuer.port, other=other.port))
        with pytest.raises(KeysUnavailable):
            await jwks.key("k")
        assert (issuer.requests, other.requests) == (1, 0)
    line = warned()
    assert line["error"].startswith("the answer was 307 Temporary Redirect, a redirect to ")
    assert "JWT_JWKS_URL" in line["hint"]


async def test_a_redirect_from_https_to_http_is_not_followed(warned: Callable[[], MutableMapping[str, Any]]) -> None:
    asked = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(str(request.url))
        return httpx2.Response(301, headers={"Location": "http://app.example/jwks"})

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as client:
        jwks = Jwks("https://app.example/jwks", client)
        with pytest.raises(KeysUnavailable):
            await jwks.key("k")
    assert asked == ["https://app.example/jwks"]
    assert "a redirect to http://app.example/jwks" in warned()["error"]


async def test_redirects_that_lead_nowhere_end(issuer: Issuer, warned: Callable[[], MutableMapping[str, Any]]) -> None:
    redirect(issuer, 302, "/jwks?again")
    async with cache(issuer, Clock()) as jwks:
        with pytest.raises(KeysUnavailable):
            await jwks.key("k")
    assert issuer.requests == 4
    assert warned()["error"] == f"more than 3 redirects, the last one to {issuer.origin}/jwks"


@pytest.mark.parametrize(
    ("status", "kind", "body", "error", "hint"),
    [
        (404, "text/html", b"<html>", "the answer was 404 Not Found (text/html)", "jwt plugin must be on"),
        (404, "application/json", b"{}", "the answer was 404 Not Found (application/json)", "BETTER_AUTH_URL"),
        (405, None, b"", "the answer was 405 Method Not Allowed (of no type)", "basePath"),
        (401, "application/json", b"{}", "the answer was 401 Unauthorized (application/json)", "without signing in"),
        (403, "text/html", b"<html>", "the answer was 403 Forbidden (text/html)", "without signing in"),
        (429, "text/plain", b"no", "the answer was 429 Too Many Requests (text/plain)", "its own log"),
        (500, "text/plain", b"no", "the answer was 500 Internal Server Error (text/plain)", "its own log"),
        (520, "text/html", b"no", "the answer was 520 (text/html)", "its own log"),
        (204, None, b"", "the answer was 204 No Content (of no type)", "JWT_JWKS_URL"),
        (304, None, b"", "the answer was 304 Not Modified (of no type)", "JWT_JWKS_URL"),
        (200, "text/html; charset=utf-8", b"<!doctype html>", "200 OK (text/html): an HTML page", "without signing in"),
        (200, "application/json", b"\n<html>", "200 OK (application/json): an HTML page", "jwt plugin must be on"),
        (200, "text/plain", b"hello", "200 OK (text/plain): no JSON", "jwt plugin must be on"),
        (200, "application/json", b"", "200 OK (application/json): no JSON", "jwt plugin must be on"),
        (200, "application/json", b"{}", "200 OK (application/json): JSON without a list of keys", "JWT_JWKS_URL"),
        (200, "application/json", b"[]", "200 OK (application/json): JSON without a list of keys", "JWT_JWKS_URL"),
        (200, "application/json", b'{"keys":{}}', "JSON without a list of keys", "JWT_JWKS_URL"),
        (200, "x" * 5000, b"", f"the answer was 200 OK ({'x' * 200}…): no JSON", "JWT_JWKS_URL"),
        (200, "application/json", b" " * 2**21, "the answer has more than 1,048,576 bytes", "JWT_JWKS_URL"),
    ],
)
async def test_the_log_says_what_came_and_what_to_do(
    issuer: Issuer,
    warned: Callable[[], MutableMapping[str, Any]],
    status: int,
    kind: str | None,
    body: bytes,
    error: str,
    hint: str,
) -> None:
    issuer.status, issuer.body = status, b"" if status in (204, 304) else body
    issuer.headers = f"Content-Type: {kind}\r\n" if kind else ""
    async with cache(issuer, Clock()) as jwks:
        with pytest.raises(KeysUnavailable):
            await jwks.key("k")
    line = warned()
    assert (line["event"], line["url"]) == ("JWKS can't be fetched", f"{issuer.origin}/jwks")
    assert error in line["error"]
    assert hint in line["hint"]


@pytest.mark.parametrize("keys", [[], [{"kty": "RSA"}], [7]])
async def test_a_list_without_a_key_that_can_be_named_is_warned_of(
    issuer: Issuer, warned: Callable[[], MutableMapping[str, Any]], keys: list[Any]
) -> None:
    issuer.keys = keys
    async with cache(issuer, Clock()) as jwks:
        with pytest.raises(UnknownKey):
            await jwks.key("k")
    line = warned()
    assert (line["event"], line["keys"]) == ("JWKS without a key that can be named", len(keys))
    assert "first token" in line["hint"]


@asynccontextmanager
async def fetching(url: str, **options: Any) -> AsyncIterator[None]:
    """Ask for the keys at `url`, which don't come, and run the block while the client is open."""
    async with httpx2.AsyncClient(trust_env=False, **options) as client:
        with pytest.raises(KeysUnavailable):
            await Jwks(url, client).key("k")
        yield


async def test_a_server_that_is_not_there_is_told_from_one_that_is_silent(
    issuer: Issuer, warned: Callable[[], MutableMapping[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.auth.jwks_response._TIMEOUT_SECONDS", 0.1)
    issuer.gate.clear()
    async with fetching(f"{issuer.origin}/jwks"):
        assert warned()["error"] == "no answer within 0.1 seconds"
    await issuer.stop()
    async with fetching(f"{issuer.origin}/jwks"):
        line = warned()
        assert line["error"] == "the connection was refused"
        assert "localhost is the container itself" in line["hint"]
    await issuer.start()


async def test_a_name_that_is_not_known_is_named(
    warned: Callable[[], MutableMapping[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    async with fetching("http://web.invalid:3000/jwks"):
        line = warned()
        assert line["error"] == "the name web.invalid isn't known: Name or service not known"
        assert "inner address" in line["hint"]


async def test_a_failure_of_tls_is_named(
    issuer: Issuer, warned: Callable[[], MutableMapping[str, Any]], tmp_path: Path
) -> None:
    async def in_plain(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    plain = await asyncio.start_server(in_plain, "127.0.0.1")
    async with plain, fetching(f"https://127.0.0.1:{plain.sockets[0].getsockname()[1]}/jwks"):
        line = warned()
        assert line["error"].startswith("no TLS: ")
        assert "only where that port speaks TLS" in line["hint"]
    authority = Authority.made(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.certificate("127.0.0.1"))
    await issuer.stop()
    await issuer.start(context)
    async with fetching(f"https://127.0.0.1:{issuer.port}/jwks"):
        assert "certificate" in warned()["error"]
    trusting = ssl.create_default_context(cafile=str(authority.file))
    async with httpx2.AsyncClient(trust_env=False, verify=trusting) as client:
        assert (await Jwks(f"https://127.0.0.1:{issuer.port}/jwks", client).key("k")).algorithms == {"EdDSA"}


async def test_a_server_that_speaks_no_http_is_told_as_it_came(warned: Callable[[], MutableMapping[str, Any]]) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.RemoteProtocolError("illegal status line", request=request)

    async with fetching("http://web:3000/jwks", transport=httpx2.MockTransport(answer)):
        assert warned()["error"] == "illegal status line"
