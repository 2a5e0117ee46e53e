"""uvicorn's HTTP/1.1 protocol, with bounds on how large a request may be and how long it may take to arrive."""

import asyncio

import structlog
from uuid_utils.compat import uuid7
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api.errors import BadRequest, HeadTooLarge, NotAuthenticated, Problem, TooSlow, answer

_LARGEST_HEAD = 64 * 1024
"""Bytes of request line and headers."""
_LARGEST = 4 * 1024 * 1024
"""Bytes of a whole request. api.bodies answers for bodies long before; this is for what nobody reads."""
_SLOWEST = 10
"""Seconds from the connection, or where it is kept alive from a request's first byte, to the request's last."""
_LINGER = 2
"""Seconds in which the rest of a refused request is thrown away: were it left unread, the kernel would reset the
connection, and the client might never see the answer."""

_log = structlog.get_logger(__name__)


class _Refused(Exception):
    """Ends the parsing of a request that has been refused."""


class BoundedRequests(HttpToolsProtocol):
    """Refuses what uvicorn would read for as long as it comes, and what isn't HTTP, with a problem document."""

    _head: bytearray | None = None
    """What has come of a head that isn't complete. Most heads arrive in one piece, and are never copied here."""
    _received = 0
    """Bytes of the present request, and of those before it that came in one piece with its beginning."""
    _chunk = 0
    _arriving = True
    _deadline: asyncio.TimerHandle | None = None
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        super().connection_made(transport)
        self._head = bytearray()
        self._deadline = self.loop.call_later(_SLOWEST, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._chunk = len(data)
        self._received += self._chunk
        super().data_received(data)
        if not self._arriving or self._refused:
            return
        if self._deadline is None:
            self._deadline = self.loop.call_later(_SLOWEST, self._too_slow)
        if self._head is not None:
            self._head += data
            if len(self._head) > _LARGEST_HEAD:
                self._refuse(_too_large(bytes(self._head.rpartition(b"\n")[2])))
        elif self._received > _LARGEST:
            self._linger()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._arriving = True
        self._received = self._chunk
        self._head = bytearray()

    def on_headers_complete(self) -> None:
        self._head = None
        if self._received > _LARGEST_HEAD:  # rarely, and then with some of the body
            lines = [b"GET  HTTP/1.1" + self.url, *(b"%b: %b" % header for header in self.headers)]
            if sum(len(line) + 2 for line in lines) > _LARGEST_HEAD:
                self._refuse(_too_large(max(lines, key=len)))
                raise _Refused
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._arrived()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        if not self._refused:
            self._refuse(BadRequest(f"{msg} This isn't HTTP as RFC 9112 has it."))

    def _arrived(self) -> None:
        self._arriving = False
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if self._answering():  # the route that reads the body has a limit of its own
            self._deadline = self.loop.call_later(_SLOWEST, self._too_slow)
        elif self._head is None:
            self.transport.close()
        elif self._head:
            self._refuse(TooSlow(f"The request must arrive within {_SLOWEST} seconds."))
        else:
            self.transport.close()  # nothing was ever asked

    def _answering(self) -> bool:
        return bool(self.cycle) and not self.cycle.response_complete  # None before the first request, whatever its type

    def _refuse(self, problem: Problem) -> None:
        """Answer at once. An answer that is under way becomes the last instead."""
        self._linger()
        if self._answering():
            self.cycle.keep_alive = False
            return
        request_id = uuid7().hex
        _log.info("request refused", request_id=request_id, status=problem.status, reason=problem.detail)
        response = answer(problem, request_id=request_id)
        response.headers.update(
            {
                "X-Request-ID": request_id,
                "X-Content-Type-Options": "nosniff",
                "Cache-Control": "no-store",
                "Connection": "close",
            }
        )
        head = b"".join(b"%b: %b\r\n" % header for header in response.raw_headers)
        self.transport.write(STATUS_LINE[problem.status] + head + b"\r\n" + bytes(response.body))
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _linger(self) -> None:
        """Let the client finish talking, unheard, and close."""
        self._refused = True
        self._arrived()
        self._deadline = self.loop.call_later(_LINGER, self._hang_up)

    def _hang_up(self) -> None:
        if self._answering():
            self._deadline = self.loop.call_later(_LINGER, self._hang_up)
        else:
            self.transport.close()


def _too_large(line: bytes) -> Problem:
    """Whose fault it is shows in the line at fault: the one that has no end yet, else the longest."""
    if line.partition(b":")[0].lower() == b"authorization":
        detail = "The token is too long."
        challenge = f'Bearer error="invalid_token", error_description="{detail}"'
        return NotAuthenticated(detail, headers={"WWW-Authenticate": challenge})
    return HeadTooLarge(f"Request line and headers must have at most {_LARGEST_HEAD:,} bytes.")
