"""A connection leaves nothing behind, however it ends."""

import asyncio
import gc
import logging
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress

import httptools
import pytest
import uvloop
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from api.server import graceful_close, protocol
from api.server.protocol import BoundedRequests
from tests.arrange import until
from tests.service import listening
from tests.sockets import GET

pytestmark = pytest.mark.once

KINDS = (BoundedRequests, RequestResponseCycle, httptools.HttpRequestParser)
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"


class App:
    """Answers `/`; `/slow` once `gate` is open, `/body` after the body, `/long` and `/stream` with more than the kernel
    takes, in one piece and in many."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.asked = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked += 1
        if scope["path"] == "/slow":
            await self.gate.wait()
        while scope["path"] == "/body":
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            if not message["more_body"]:
                break
        if scope["path"] == "/stream":
            await StreamingResponse(self._pieces())(scope, receive, send)
            return
        size = 20_000_000 if scope["path"] == "/long" else 2
        headers = [(b"content-length", b"%d" % size)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x" * size})

    async def _pieces(self) -> AsyncIterator[bytes]:
        for _ in range(400):
            yield b"x" * 64 * 1024


class Client:
    """A socket that can be reset."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setblocking(False)
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._socket, data)

    async def read(self, until: bytes = b"\r\n\r\nxx") -> None:
        """Read to these bytes, or to the end."""
        got = b""
        while until not in got:
            with suppress(ConnectionResetError):
                more = await self._loop.sock_recv(self._socket, 65536)
                got += more
                if more:
                    continue
            return

    async def read_to_the_end(self) -> None:
        await self.read(b"never sent")

    def half_close(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()

    def reset(self) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


async def fin_before_the_request(client: Client, _app: App) -> None:
    client.close()


async def fin_after_the_answer(client: Client, _app: App) -> None:
    await client.send(GET)
    await client.read()
    client.close()


async def fin_before_the_answer(client: Client, app: App) -> None:
    await client.send(GET.replace(b"/ ", b"/slow ", 1))
    await until(lambda: app.asked == 1)
    client.close()
    await asyncio.sleep(0.02)
    app.gate.set()


async def fin_in_a_long_answer(client: Client, _app: App) -> None:
    await client.send(GET.replace(b"/ ", b"/long ", 1))
    await client.read(b"\r\n\r\n")
    client.close()


async def fin_in_a_stream(client: Client, _app: App) -> None:
    await client.send(GET.replace(b"/ ", b"/stream ", 1))
    await client.read(b"\r\n\r\n")
    client.close()


async def rst_in_a_stream(client: Client, _app: App) -> None:
    await client.send(GET.replace(b"/ ", b"/stream ", 1))
    await client.read(b"\r\n\r\n")
    client.reset()


async def rst_in_a_stream_before_another_answer(client: Client, _app: App) -> None:
    await client.send(GET.replace(b"/ ", b"/stream ", 1) + GET)
    await client.read(b"\r\n\r\n")
    client.reset()


async def fin_in_a_stream_before_another_answer(client: Client, _app: App) -> None:
    await client.send(GET.replace(b"/ ", b"/stream ", 1) + GET)
    await client.read(b"\r\n\r\n")
    client.close()


async def rst_before_the_request(client: Client, _app: App) -> None:
    client.reset()


async def rst_in_the_head(client: Client, _app: App) -> None:
    await client.send(GET[:10])
    await asyncio.sleep(0.01)
    client.reset()


async def rst_before_the_answer(client: Client, app: App) -> None:
    await client.send(GET.replace(b"/ ", b"/slow ", 1))
    await until(lambda: app.asked == 1)
    client.reset()
    await asyncio.sleep(0.02)
    app.gate.set()


async def rst_in_a_long_answer(client: Client, _app: App) -> None:
    await client.send(GET.replace(b"/ ", b"/long ", 1))
    await client.read(b"\r\n\r\n")
    client.reset()


async def rst_after_the_answer(client: Client, _app: App) -> None:
    await client.send(GET)
    await client.read()
    client.reset()


async def rst_after_several_answers(client: Client, _app: App) -> None:
    for _ in range(3):
        await client.send(GET)
        await client.read()
    client.reset()


async def half_close(client: Client, _app: App) -> None:
    await client.send(GET)
    client.half_close()
    await client.read_to_the_end()
    client.close()


async def fin_in_the_body(client: Client, _app: App) -> None:
    await client.send(POST.replace(b"/ ", b"/body ", 1) + b"x")
    await asyncio.sleep(0.01)
    client.close()


async def rst_in_the_body(client: Client, _app: App) -> None:
    await client.send(POST.replace(b"/ ", b"/body ", 1) + b"x")
    await asyncio.sleep(0.01)
    client.reset()


async def rst_in_a_body_that_was_answered(client: Client, _app: App) -> None:
    await client.send(POST + b"x")
    await client.read()
    client.reset()


async def timeout(client: Client, _app: App) -> None:
    await client.send(GET[:10])
    await client.read_to_the_end()
    client.close()


async def refused_head(client: Client, _app: App) -> None:
    await client.send(b"nonsense\r\n\r\n")
    await client.read_to_the_end()
    client.close()


async def rst_after_a_refusal(client: Client, _app: App) -> None:
    await client.send(b"nonsense\r\n\r\n")
    await client.read(b"\r\n\r\n")
    client.reset()


async def keep_alive_timeout(client: Client, _app: App) -> None:
    await client.send(GET)
    await client.read_to_the_end()
    client.close()


async def answer_nobody_reads(client: Client, _app: App) -> None:
    await client.send(GET.replace(b"/ ", b"/long ", 1))
    await asyncio.sleep(0.2)
    client.close()


async def upgrade(client: Client, _app: App) -> None:
    await client.send(GET[:-2] + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
    await client.read()
    client.reset()


async def pipelined(client: Client, app: App) -> None:
    await client.send(GET.replace(b"/ ", b"/slow ", 1) + GET * 5)
    await until(lambda: app.asked == 1)
    client.reset()
    await asyncio.sleep(0.02)
    app.gate.set()


async def pipelined_and_answered(client: Client, app: App) -> None:
    await client.send(GET * 5)
    await until(lambda: app.asked == 5)
    client.reset()


async def the_servers_own_close(client: Client, _app: App) -> None:
    await client.send(GET[:-2] + b"Connection: close\r\n\r\n")
    await client.read_to_the_end()
    client.close()


async def rst_at_the_servers_own_close(client: Client, _app: App) -> None:
    await client.send(GET[:-2] + b"Connection: close\r\n\r\n")
    client.reset()


async def shutdown(client: Client, _app: App) -> None:
    await client.send(GET)
    await client.read()
    for each in [each for each in gc.get_objects() if isinstance(each, BoundedRequests)]:
        each.shutdown()
    await client.read_to_the_end()
    client.close()


ENDS = [
    fin_before_the_request,
    fin_before_the_answer,
    fin_after_the_answer,
    fin_in_a_long_answer,
    fin_in_a_stream,
    rst_in_a_stream,
    rst_in_a_stream_before_another_answer,
    fin_in_a_stream_before_another_answer,
    rst_before_the_request,
    rst_in_the_head,
    rst_before_the_answer,
    rst_in_a_long_answer,
    rst_after_the_answer,
    rst_after_several_answers,
    half_close,
    fin_in_the_body,
    rst_in_the_body,
    rst_in_a_body_that_was_answered,
    timeout,
    refused_head,
    rst_after_a_refusal,
    keep_alive_timeout,
    answer_nobody_reads,
    upgrade,
    pipelined,
    pipelined_and_answered,
    the_servers_own_close,
    rst_at_the_servers_own_close,
    shutdown,
]
"""Each says what the client does."""


def alive() -> list[object]:
    return [each for each in gc.get_objects() if isinstance(each, KINDS)]


@pytest.fixture(autouse=True, scope="module")
def _without_collection() -> Iterator[None]:
    """Turn garbage collection off, and leave the present objects out of `gc.get_objects`."""
    gc.collect()
    gc.disable()
    gc.freeze()
    yield
    gc.unfreeze()
    gc.enable()


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    """Yield a runner for uvloop, which the service runs on, and for asyncio's loop, which most tests use."""
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner


@pytest.mark.parametrize("end", ENDS)
def test_no_object_of_a_connection_outlives_its_end(
    runner: asyncio.Runner,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    end: Callable[[Client, App], Awaitable[None]],
) -> None:
    monkeypatch.setattr(protocol, "_SLOWEST", 0.1 if end is timeout else 10)
    monkeypatch.setattr(graceful_close, "_SLOWEST_READER", 0.1)
    monkeypatch.setattr(graceful_close, "_LINGER", 0.02)
    seconds = 0.1 if end is keep_alive_timeout else 75

    async def ended() -> None:
        app = App()
        async with listening(app, timeout_keep_alive=seconds) as port:
            assert not alive()
            client = Client(port)
            await asyncio.sleep(0.01)
            await end(client, app)
            del client
            for _ in range(200):
                if not alive():
                    break
                await asyncio.sleep(0.005)
            assert not alive()  # without garbage collection: the last reference frees it

    runner.run(ended())
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]
