"""An HTTP client that costs the machine little: one connection, one request at a time, whose bytes the caller makes."""

import asyncio
from dataclasses import dataclass
from typing import cast

_ANSWER_SECONDS = 60
_BODILESS = (204, 304)


class NoAnswer(Exception):
    """The connection ended, nothing came for a minute, or what came isn't an answer that this client can read."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    tag: bytes
    """The `ETag`, with its quotes; empty where there is none."""
    body: bytes
    size: int
    """Bytes of all of it."""


class Connection(asyncio.Protocol):
    """A keep-alive connection. Takes only answers that say how long they are."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._answer: asyncio.Future[Answer] | None = None
        self._lost = False

    async def ask(self, request: bytes) -> Answer:
        """Raises `NoAnswer`."""
        if self._lost:
            raise NoAnswer("the service had closed the connection")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await self._answer
        except TimeoutError:
            raise NoAnswer(f"nothing came for {_ANSWER_SECONDS} seconds") from None

    def close(self) -> None:
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        try:
            answer = _complete(self._received)
        except NoAnswer as error:
            self._end(error)
        else:
            if answer:
                self._received.clear()
                if self._answer is None or self._answer.done():
                    self._lost = True  # nobody asked: the next request fails
                else:
                    self._answer.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(NoAnswer(f"the service closed the connection: {exc or 'no reason given'}"))

    def _end(self, why: NoAnswer) -> None:
        self._lost = True
        if self._answer and not self._answer.done():
            self._answer.set_exception(why)


async def connect(port: int) -> Connection:
    """To the service on this machine."""
    _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
    return connection


def _complete(received: bytearray) -> Answer | None:
    """The answer, once all of it is there. Raises `NoAnswer` where it doesn't say how long it is, or is longer."""
    head, end, _ = received.partition(b"\r\n\r\n")
    if not end:
        return None
    status, begin = int(head[9:12]), len(head) + len(end)
    length = 0 if status in _BODILESS else _header(head, b"content-length")
    if length == b"":
        raise NoAnswer(f"an answer of unknown length: {bytes(head)!r}")
    missing = begin + int(length) - len(received)
    if missing < 0:
        raise NoAnswer(f"more than was asked for: {bytes(received)!r}")
    return None if missing else Answer(status, _header(head, b"etag"), bytes(received[begin:]), len(received))


def _header(head: bytearray, name: bytes) -> bytes:
    """Its value; empty where there is none. Starlette and uvicorn write names in lower case."""
    return bytes(head.partition(b"\r\n%b: " % name)[2].partition(b"\r\n")[0])
