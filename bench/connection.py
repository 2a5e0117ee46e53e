"""A minimal HTTP client: one connection, one request at a time, and the caller makes the request's bytes."""

import asyncio
from dataclasses import dataclass
from typing import cast

_RESPONSE_SECONDS = 60
_BODILESS = (204, 304)


class NoResponse(Exception):
    """The connection ended, nothing came for a minute, or this client can't read the bytes that came."""


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    tag: bytes
    """The `ETag`, with its quotes; empty if there is none."""
    body: bytes
    size: int
    """Bytes of head and body."""


class Connection(asyncio.Protocol):
    """A keep-alive connection. It reads only responses that state their length."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._response: asyncio.Future[Response] | None = None
        self._lost = False

    async def send(self, request: bytes) -> Response:
        """Send the request and return its response. Raises `NoResponse`."""
        if self._lost:
            raise NoResponse("the service had closed the connection")
        self._response = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            async with asyncio.timeout(_RESPONSE_SECONDS):
                return await self._response
        except TimeoutError:
            raise NoResponse(f"nothing came for {_RESPONSE_SECONDS} seconds") from None

    def close(self) -> None:
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        try:
            response = _complete(self._received)
        except NoResponse as error:
            self._end(error)
        else:
            if response:
                self._received.clear()
                if self._response is None or self._response.done():
                    self._lost = True  # there was no request for it: the next one fails
                else:
                    self._response.set_result(response)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(NoResponse(f"the service closed the connection: {exc or 'no reason given'}"))

    def _end(self, why: NoResponse) -> None:
        self._lost = True
        if self._response and not self._response.done():
            self._response.set_exception(why)


async def connect(port: int) -> Connection:
    """Open a connection to a port of this machine."""
    _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
    return connection


def _complete(received: bytearray) -> Response | None:
    """Return the response once it is complete. Raises `NoResponse` if its length isn't stated, or is exceeded."""
    head, end, _ = received.partition(b"\r\n\r\n")
    if not end:
        return None
    status, begin = int(head[9:12]), len(head) + len(end)
    length = 0 if status in _BODILESS else _header(head, b"content-length")
    if length == b"":
        raise NoResponse(f"a response of unknown length: {bytes(head)!r}")
    missing = begin + int(length) - len(received)
    if missing < 0:
        raise NoResponse(f"more bytes than its length says: {bytes(received)!r}")
    return None if missing else Response(status, _header(head, b"etag"), bytes(received[begin:]), len(received))


def _header(head: bytearray, name: bytes) -> bytes:
    """Return a header's value, empty if it is missing. Starlette and uvicorn write names in lower case."""
    return bytes(head.partition(b"\r\n%b: " % name)[2].partition(b"\r\n")[0])
