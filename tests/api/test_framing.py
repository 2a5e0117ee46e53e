"""Framing (RFC 9112, section 6; RFC 9110, section 7.8): an announced body is read, or the request refused."""

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httptools
import pytest
from starlette.types import Receive, Scope, Send

from api.server import incoming_request, protocol
from tests.service import Service, bearer, listening
from tests.sockets import Connection, connected

pytestmark = pytest.mark.once

BODY = b'{"x": "a body"}'
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
"""As stock JDK clients and `curl --http2` send it with every request."""


class Echo:
    """Answers with what it was asked, after reading all of the body."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
        self.asked.append(scope["path"])
        names = [name.decode() for name, _ in scope["headers"]]
        answer = json.dumps([scope["method"], scope["path"], body.decode(), names]).encode()
        headers = [(b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def connection(echo: Echo) -> AsyncIterator[Connection]:
    async with listening(echo) as port, connected(port) as connection:
        yield connection


async def echoed(connection: Connection) -> list[Any]:
    answer = await connection.answer()
    assert answer.status == 200
    asked: list[Any] = json.loads(answer.body)
    return asked


def pieces(request: bytes, how: str) -> list[bytes]:
    """Cut the request into pieces, as they may arrive."""
    if how == "in one piece":
        return [request]
    if how == "byte by byte":
        return [bytes([byte]) for byte in request]
    head, _, body = request.partition(b"\r\n\r\n")
    if how == "the body later":
        return [head + b"\r\n\r\n", body]
    return [head[: len(head) // 2], head[len(head) // 2 :] + b"\r\n\r\n" + body[:3], body[3:]]


LENGTH = b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n5\r\n%b\r\na\r\n%b\r\n0\r\nX-Sum: 1\r\nUpgrade: h2c\r\n\r\n" % (
    BODY[:5],
    BODY[5:],
)
UPGRADES = {
    "h2c": H2C,
    "websocket": b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    "any case": b"CONNECTION: keep-alive, UPGRADE\r\nUPGRADE: H2C\r\n",
    "several": b"Connection: upgrade\r\nUpgrade: h2c, websocket\r\nUpgrade: TLS/1.0\r\nupgrade: irc/6.9\r\n",
    "through a proxy": b"Proxy-Connection: upgrade\r\nUpgrade: h2c\r\n",
}


@pytest.mark.parametrize("how", ["in one piece", "the body later", "in three pieces", "byte by byte"])
@pytest.mark.parametrize("framed", [LENGTH, CHUNKED], ids=["length", "chunked"])
@pytest.mark.parametrize("upgrade", UPGRADES.values(), ids=UPGRADES)
async def test_an_upgrade_that_is_not_taken_changes_nothing(
    connection: Connection, echo: Echo, upgrade: bytes, framed: bytes, how: str
) -> None:
    for path in (b"/a", b"/b"):  # the second on the connection that is kept alive
        request = b"POST " + path + b" HTTP/1.1\r\nHost: x\r\n" + upgrade + framed
        for piece in pieces(request, how):
            await connection.send(piece)
            await asyncio.sleep(0.001 if how != "byte by byte" else 0)
        method, asked, body, names = await echoed(connection)
        assert (method, asked, body) == ("POST", path.decode(), BODY.decode())
        assert "upgrade" not in names
    await connection.send(b"GET /c HTTP/1.1\r\n\r\n")
    assert (await echoed(connection))[:3] == ["GET", "/c", ""]
    assert echo.asked == ["/a", "/b", "/c"]


async def test_requests_behind_it_are_answered_in_turn(connection: Connection, echo: Echo) -> None:
    upgrading = b"POST /%b HTTP/1.1\r\n" + H2C + LENGTH.replace(b"%", b"%%")
    await connection.send(
        upgrading % b"a" + b"GET /b HTTP/1.1\r\n" + H2C + b"\r\n" + upgrading % b"c" + b"GET /d HTTP/1.1\r\n\r\n"
    )
    bodies = [(await echoed(connection))[2] for _ in range(4)]
    assert bodies == [BODY.decode(), "", BODY.decode(), ""]
    assert echo.asked == ["/a", "/b", "/c", "/d"]


async def test_a_pipelined_request_is_served_in_its_turn(connection: Connection, echo: Echo) -> None:
    await connection.send(b"POST /a HTTP/1.1\r\nContent-Length: 1\r\n\r\n")
    await connection.send(b"xPOST /b HTTP/1.1\r\n" + H2C + LENGTH)
    assert [(await echoed(connection))[2] for _ in range(2)] == ["x", BODY.decode()]
    assert echo.asked == ["/a", "/b"]


async def test_the_body_is_asked_for_where_the_client_waits_for_that(connection: Connection) -> None:
    head, _, body = LENGTH.partition(b"\r\n\r\n")
    await connection.send(b"POST /a HTTP/1.1\r\n" + H2C + b"Expect: 100-continue\r\n" + head + b"\r\n\r\n")
    assert (await connection.head()).status == 100
    await connection.send(body)
    assert (await echoed(connection))[2] == BODY.decode()


@pytest.mark.parametrize("how", [b"HTTP/1.0\r\n", b"HTTP/1.1\r\nConnection: close\r\n"])
async def test_a_connection_that_ends_with_it_ends(connection: Connection, how: bytes) -> None:
    await connection.send(b"POST /a " + how + H2C + LENGTH)
    assert (await echoed(connection))[2] == BODY.decode()
    assert await connection.closed()


@pytest.mark.parametrize("at_once", [True, False])
async def test_the_head_of_a_request_that_offers_h2c_is_bounded(
    connection: Connection, echo: Echo, at_once: bool
) -> None:
    head = [b"POST /a HTTP/1.1\r\n" + H2C, *[b"X-Long: " + b"x" * 11_000 + b"\r\n"] * 6, LENGTH]
    for piece in [b"".join(head)] if at_once else head:
        await connection.send(piece)
        await asyncio.sleep(0.01)
    assert (await connection.answer()).status == 431
    assert await connection.closed()
    assert echo.asked == []


@pytest.mark.parametrize("half", ["head", "body"])
async def test_the_time_of_a_request_that_offers_h2c_is_bounded(
    echo: Echo, monkeypatch: pytest.MonkeyPatch, half: str
) -> None:
    monkeypatch.setattr(protocol, "_SLOWEST", 0.1)
    request = b"POST /a HTTP/1.1\r\n" + H2C + LENGTH
    async with listening(echo) as port, connected(port) as connection:
        await connection.send(request[: 60 if half == "head" else -1])
        await asyncio.sleep(0.3)
        if half == "head":
            assert (await connection.answer()).status == 408
            assert await connection.closed()
        else:  # that is up to the route
            await connection.send(request[-1:])
            assert (await echoed(connection))[2] == BODY.decode()


async def test_pieces_of_its_head_count_once(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming_request, "_LARGEST_HEAD", 400)
    behind = b"POST /a HTTP/1.1\r\n" + H2C + LENGTH
    for _ in range(3):
        for piece in (b"GET /a HTTP/1.1\r\n" + H2C, b"X-A: " + b"x" * 200, b"\r\n\r\n" + behind):
            await connection.send(piece)
            await asyncio.sleep(0.01)
        assert [(await echoed(connection))[2] for _ in range(2)] == ["", BODY.decode()]


@pytest.mark.parametrize("target", [b"example.com:443", b"/api/ann/tasks"])
@pytest.mark.parametrize("more", [b"", H2C, b"Content-Length: 18\r\n"])
async def test_connect_is_refused_and_what_is_behind_it_never_read(
    connection: Connection, echo: Echo, target: bytes, more: bytes
) -> None:
    await connection.send(b"CONNECT " + target + b" HTTP/1.1\r\n" + more + b"\r\n" + b"GET /b HTTP/1.1\r\n\r\n")
    answer = await connection.answer()
    assert answer.status == 400
    assert "CONNECT" in answer.problem["hint"]
    assert answer.headers["connection"] == "close"
    await connection.send(b"GET /c HTTP/1.1\r\n\r\n")
    assert await connection.closed()
    assert echo.asked == []


CHUNKS = b"f\r\n" + BODY + b"\r\n0\r\n\r\n"
FAULTY = {
    "both": b"Content-Length: 15\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
    "both, the other way round": b"Transfer-Encoding: chunked\r\nContent-Length: 15\r\n\r\n" + CHUNKS,
    "both, with no length": b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
    "not chunked": b"Transfer-Encoding: gzip\r\n\r\n" + BODY,
    "not chunked last": b"Transfer-Encoding: chunked, gzip\r\n\r\n" + CHUNKS,
    "chunked twice": b"Transfer-Encoding: chunked, chunked\r\n\r\n" + CHUNKS,
    "chunked and then identity": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + CHUNKS,
    "identity": b"Transfer-Encoding: identity\r\n\r\n" + BODY,
    "no coding": b"Transfer-Encoding: \r\n\r\n" + CHUNKS,
    "nearly chunked": b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNKS,
    "chunked with a parameter": b"Transfer-Encoding: chunked;q=1\r\n\r\n" + CHUNKS,
    "two lengths": b"Content-Length: 15\r\nContent-Length: 0\r\n\r\n" + BODY,
    "a length twice": b"Content-Length: 15\r\nContent-Length: 15\r\n\r\n" + BODY,
    "a list of lengths": b"Content-Length: 15, 15\r\n\r\n" + BODY,
    "a plus": b"Content-Length: +15\r\n\r\n" + BODY,
    "a minus": b"Content-Length: -1\r\n\r\n" + BODY,
    "hexadecimal": b"Content-Length: 0xf\r\n\r\n" + BODY,
    "two numbers": b"Content-Length: 1 5\r\n\r\n" + BODY,
    "no number": b"Content-Length:\r\n\r\n" + BODY,
    "past 64 bits": b"Content-Length: 18446744073709551631\r\n\r\n" + BODY,
    "a space before the colon": b"Content-Length : 15\r\n\r\n" + BODY,
    "a NUL": b"Content-Length: 15\0\r\n\r\n" + BODY,
    "folded": b"Content-Length:\r\n 15\r\n\r\n" + BODY,
    "folded before": b"X-A: a\r\n b\r\nContent-Length: 15\r\n\r\n" + BODY,
    "folded first": b" Content-Length: 15\r\n\r\n" + BODY,
    "bare LF": b"Content-Length: 15\n\n" + BODY,
    "bare CR": b"X-A: a\rContent-Length: 15\r\n\r\n" + BODY,
    "bare CR at the end": b"Content-Length: 15\r\n\r" + BODY,
    "bare LF in chunks": b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS.replace(b"\r", b""),
    "a chunk too long": b"Transfer-Encoding: chunked\r\n\r\n5\r\n" + BODY + b"\r\n0\r\n\r\n",
    "a chunk past 64 bits": b"Transfer-Encoding: chunked\r\n\r\n1000000000000000f\r\n" + BODY,
    "a chunk of 0x": b"Transfer-Encoding: chunked\r\n\r\n0xf\r\n" + BODY + b"\r\n0\r\n\r\n",
    **{
        f"chunks: {name}": b"Transfer-Encoding: chunked\r\n\r\n" + chunks
        for name, chunks in {
            "no size": CHUNKS.replace(b"f\r\n", b"\r\n", 1),
            "a size of letters": CHUNKS.replace(b"f\r\n", b"xyz\r\n", 1),
            "a minus": CHUNKS.replace(b"f\r\n", b"-f\r\n", 1),
            "a plus": CHUNKS.replace(b"f\r\n", b"+f\r\n", 1),
            "a space before the size": CHUNKS.replace(b"f\r\n", b" f\r\n", 1),
            "a space behind the size": CHUNKS.replace(b"f\r\n", b"f \r\n", 1),
            "too short": CHUNKS.replace(b"f\r\n", b"e\r\n", 1),
            "nothing behind the data": BODY.join([b"f\r\n", b"0\r\n\r\n"]),
            "bare LF behind the size": CHUNKS.replace(b"f\r\n", b"f\n", 1),
            "bare CR behind the size": CHUNKS.replace(b"f\r\n", b"f\r", 1),
            "bare LF behind the data": CHUNKS.replace(BODY + b"\r\n", BODY + b"\n"),
            "bare LF at the end": CHUNKS[:-2] + b"\n",
            "a NUL in an extension": CHUNKS.replace(b"f\r\n", b"f;a=\0\r\n", 1),
            "an open quote in an extension": CHUNKS.replace(b"f\r\n", b'f;a="b\r\n', 1),
            "a trailer without a colon": CHUNKS[:-2] + b"nonsense\r\n\r\n",
            "a folded trailer": CHUNKS[:-2] + b"X-A: a\r\n b\r\n\r\n",
            "a trailing coding": CHUNKS[:-2] + b"Transfer-Encoding: chunked\r\n\r\n",
            "a second size of letters": b"f\r\n" + BODY + b"\r\nzz\r\n\r\n",
        }.items()
    },
    "a trailing length": b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS[:-2] + b"Content-Length: 15\r\n\r\n",
}


@pytest.mark.parametrize("how", ["in one piece", "the body later"])
@pytest.mark.parametrize("upgrade", [b"", H2C], ids=["", "h2c"])
@pytest.mark.parametrize("faulty", FAULTY.values(), ids=FAULTY)
async def test_a_body_whose_end_cannot_be_told_is_400_at_once(
    connection: Connection, echo: Echo, faulty: bytes, upgrade: bytes, how: str
) -> None:
    request = b"POST /a HTTP/1.1\r\n" + upgrade + faulty + b"GET /smuggled HTTP/1.1\r\n\r\n"
    for piece in pieces(request, how):
        await connection.send(piece)
        await asyncio.sleep(0.001)
    answer = await connection.answer()
    assert answer.status == 400
    assert answer.problem["type"] == "/problems/bad-request"
    assert await connection.closed()
    assert echo.asked == []


SOUND = {
    "any case": b"transfer-ENCODING: CHUNKED\r\n\r\n" + CHUNKS,
    "a coding that the route refuses": b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS,
    "a chunk's extension": b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS.replace(b"f\r\n", b"f;a=b\r\n", 1),
    "zeros": b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS.replace(b"0\r\n", b"000\r\n"),
    "a length with a zero": b"Content-Length: 015\r\n\r\n" + BODY,
    "a length with many zeros": b"Content-Length: " + b"0" * 5000 + b"15\r\n\r\n" + BODY,
    "a length with spaces": b"Content-Length:   15  \r\n\r\n" + BODY,
}


@pytest.mark.parametrize("method", [b"POST", b"GET", b"HEAD", b"DELETE", b"OPTIONS"])
@pytest.mark.parametrize("sound", SOUND.values(), ids=SOUND)
async def test_any_other_body_is_read_whatever_the_method(connection: Connection, method: bytes, sound: bytes) -> None:
    await connection.send(method + b" /a HTTP/1.1\r\n" + sound)
    if method == b"HEAD":
        assert (await connection.head()).status == 200
    else:
        assert (await echoed(connection))[:3] == [method.decode(), "/a", BODY.decode()]
    await connection.send(b"POST /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    assert (await echoed(connection))[:3] == ["POST", "/b", ""]


async def test_chunks_in_http_1_0_end_the_connection(connection: Connection, echo: Echo) -> None:
    await connection.send(
        b"POST /a HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS + b"GET / HTTP/1.1"
    )
    assert (await echoed(connection))[2] == BODY.decode()
    assert await connection.closed()
    assert echo.asked == ["/a"]


async def test_a_request_before_it_is_still_answered(echo: Echo) -> None:
    gate = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await gate.wait()
        await echo(scope, receive, send)

    async with listening(slow) as port, connected(port) as connection:
        await connection.send(b"GET /a HTTP/1.1\r\n\r\n", b"POST /b HTTP/1.1\r\n" + FAULTY["not chunked"])
        await asyncio.sleep(0.05)
        gate.set()
        assert (await echoed(connection))[:2] == ["GET", "/a"]
        assert await connection.closed()
        assert echo.asked == ["/a"]


async def test_a_body_that_breaks_after_its_answer_is_not_answered_twice() -> None:
    async def hasty(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async with listening(hasty) as port, connected(port) as connection:
        await connection.send(b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nf\r\n")
        assert (await connection.head()).status == 204
        await connection.send(BODY + b"no chunk")
        assert await connection.closed()


PARSER = httptools.HttpRequestParser


class Skipping:
    """A parser that skips bodies, as httptools does where it expects another protocol."""

    def __init__(self, protocol: protocol.BoundedRequests) -> None:
        self._protocol = protocol
        self._parser = PARSER(self)
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.get_method = self._parser.get_method
        self.get_http_version = self._parser.get_http_version
        self.should_keep_alive = self._parser.should_keep_alive
        self.feed_data = self._parser.feed_data

    def should_upgrade(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        if name in ("on_body", "on_chunk_header", "on_chunk_complete"):
            raise AttributeError(name)
        return getattr(self._protocol, name)


@pytest.mark.parametrize("framed", [LENGTH, CHUNKED], ids=["length", "chunked"])
async def test_a_body_that_the_parser_skips_is_400(monkeypatch: pytest.MonkeyPatch, echo: Echo, framed: bytes) -> None:
    monkeypatch.setattr(httptools, "HttpRequestParser", Skipping)
    async with listening(echo) as port, connected(port) as connection:
        await connection.send(b"GET /a HTTP/1.1\r\n\r\n")
        assert (await connection.answer()).status == 200
        await connection.send(b"POST /b HTTP/1.1\r\n" + framed)
        assert (await connection.answer()).problem["type"] == "/problems/bad-request"
        assert await connection.closed()
    assert echo.asked == ["/a"]


@pytest.mark.parametrize("h2c", [b"", H2C], ids=["", "h2c"])
async def test_a_request_that_offers_h2c_is_carried_out(service: Service, h2c: bytes) -> None:
    task = (await service.client.post("/api/ann/tasks", json={"title": "x", "completed": True})).json()
    await service.client.patch(f"/api/ann/tasks/{task['id']}", json={"title": "y"})
    async with listening(service.asgi) as port, connected(port) as connection:

        async def ask(method: str, path: str, body: bytes) -> Any:
            head = (
                f"{method} /api/ann/tasks{path} HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer()['Authorization']}\r\n"
            )
            await connection.send(head.encode() + h2c + b"Content-Length: %d\r\n\r\n" % len(body))
            await asyncio.sleep(0.01)
            await connection.send(body)
            return json.loads((await connection.answer()).body)

        assert (await ask("PATCH", f"/{task['id']}/complete", b'{"completed": true}'))["completed"] is True
        assert (await ask("POST", f"/{task['id']}/restore", b'{"version": 1}'))["title"] == "x"
        assert (await ask("POST", "", b'{"title": "z"}'))["title"] == "z"
        assert (await ask("GET", f"/{task['id']}", b""))["version"] == 3


async def ran(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode()


def curl_has_http2() -> bool:
    curl = shutil.which("curl")
    return curl is not None and b"HTTP2" in subprocess.run([curl, "--version"], capture_output=True, check=True).stdout


@pytest.mark.skipif(not curl_has_http2(), reason="there is no curl with HTTP/2")
async def test_curl_that_would_like_http_2_gets_what_it_asks_for(service: Service) -> None:
    async with listening(service.asgi) as port:

        async def curl(method: str, path: str, body: str, *more: str) -> Any:
            sent = ["-H", f"Authorization: {bearer()['Authorization']}", "-H", "Content-Type: application/json"]
            url = f"http://127.0.0.1:{port}/api/ann/tasks{path}"
            return json.loads(await ran("curl", "-sS", "--http2", "-X", method, *sent, "-d", body, *more, url))

        task = await curl("POST", "", '{"title": "x", "completed": true}')
        assert task["title"] == "x"
        complete = f"/{task['id']}/complete"
        assert (await curl("PATCH", complete, '{"completed": true}'))["completed"] is True
        assert (await curl("PATCH", complete, '{"completed": false}', "-H", "Expect: 100-continue"))["version"] == 2
        chunked = await curl("PATCH", complete, '{"completed": true}', "-H", "Transfer-Encoding: chunked")
        assert (chunked["completed"], chunked["version"]) == (True, 3)


@pytest.mark.skipif(not shutil.which("java"), reason="there is no java")
async def test_a_stock_jdk_client_gets_what_it_asks_for(service: Service) -> None:
    client = Path(__file__).with_name("JdkClient.java")
    async with listening(service.asgi) as port:
        url = f"http://127.0.0.1:{port}/api/ann/tasks"
        lines = (await ran("java", str(client), url, bearer()["Authorization"])).splitlines()
    answers = [re.fullmatch(r"(\S+ \S+) (\d+) (.*)", line) for line in lines]
    told: list[tuple[str, int, Any]] = [
        (found[1], int(found[2]), json.loads(found[3] or "null")) for found in answers if found
    ]
    assert [(what, status) for what, status, _ in told] == [
        ("POST length", 201),
        ("PATCH length", 200),
        ("PATCH chunked", 200),
        ("PATCH chunked", 200),
        ("GET none", 200),
        ("DELETE none", 204),
    ]
    assert [task["completed"] for _, _, task in told[:4]] == [True, True, True, False]
    assert [task["version"] for _, _, task in told[:4]] == [1, 1, 1, 2]
    assert [task["title"] for task in told[4][2]] == ["From Java"]
