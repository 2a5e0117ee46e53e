"""uvicorn's HTTP/1.1 protocol, with bounds on how large a request may be and how long it may take to arrive."""

import asyncio
import re
from collections import Counter
from collections.abc import Iterable
from typing import cast

import httptools
import structlog
from uuid_utils.compat import uuid7
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from api.cors import cors_headers
from api.middleware import SECURITY_HEADERS
from api.problems import (
    BadRequest,
    Overloaded,
    Problem,
    RequestHeaderFieldsTooLarge,
    RequestTimeout,
    answer,
    invalid_token,
)
from api.server.connections import CONNECTIONS
from api.server.transport import BufferedTransport
from telemetry import metrics

_LARGEST_HEAD = 64 * 1024
"""Largest number of bytes of request line and headers."""
_LARGEST = 4 * 1024 * 1024
"""Largest number of bytes of a whole request. `api.request_body` has a smaller limit; this one is for unread bodies."""
_SLOWEST = 10
"""Seconds from the connection's start, or on a kept-alive one from a request's first byte, to the request's last."""
_SLOWEST_READER = 30
"""Seconds in which a client must read some of a response that waits for it."""
_MOST_WAITING = 16
"""Largest number of requests that wait on one connection behind the one being answered."""
_SINGLE = frozenset({b"authorization", b"content-type", b"host", b"origin"})
"""Fields with a single value (RFC 9110, section 5.3). Of two values, two parties could each believe another."""
_LINGER = 2
"""Seconds of silence before the connection of a refused client is closed; at most five times as many in all. Its
further input is read and discarded: if it were left unread, the kernel would reset the connection, and the client might
never see the response."""

_ORIGIN = re.compile(rb"\r\norigin:([^\r\n]*)\r\n", re.IGNORECASE)
_VISIBLE = re.compile(rb"[!-~]+")

_log = structlog.get_logger(__name__)


class _Refused(Exception):
    """Ends the parsing of a request that has been refused."""


class BoundedRequests(HttpToolsProtocol):
    """uvicorn's protocol with limits: requests that are too large, too slow or not HTTP get a problem document.

    Invariants: a request with an announced body is never answered as if it had none, and no byte of a body is ever
    parsed as a request. The parser skips a body only if another protocol is asked for, see `_ignore_upgrade`. Even so
    `on_message_complete` checks for every request that its body was read.
    """

    _head: bytearray | None = None
    """Bytes so far of a head that isn't complete. Most heads arrive in one piece, and are never copied here."""
    _received = 0
    """Bytes of the present request, and of earlier requests in the piece in which it began."""
    _piece = 0
    _began = False
    """True if the present request began in the present piece."""
    _arriving = True
    _body = 0
    """Bytes of the present request's body so far."""
    _chunked = False
    """True if a chunk of the body was read, even if only the last, empty one."""
    _previous: RequestResponseCycle
    """Cycle of the request before the present one."""
    _running: RequestResponseCycle | None = None
    """Cycle of the request that is being answered; later requests in the pipeline wait."""
    _deadline: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _refused = False
    _heard = 0
    """Number of pieces that a refused client has sent since it was refused."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        self._patient = BufferedTransport(transport, self._close, self.loop)
        super().connection_made(cast("asyncio.Transport", self._patient))
        self._head = bytearray()
        address = self.client[0] if self.client else None
        if CONNECTIONS.add(address, trusted=address in self.app_state.get("trusted_proxies", ())):
            self._watch()
        elif CONNECTIONS.may_be_told():
            self._refuse(Overloaded(hint="Too many connections at once.", headers={"Retry-After": "1"}))
        else:
            self._refused = True
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop every timer and every reference back to this object, so that the last reference to it frees it.

        uvicorn keeps its keep-alive timer if the connection was reset, and with it the connection's memory.
        """
        CONNECTIONS.remove(self.client[0] if self.client else None)
        self._arrived()
        self._has_read()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        if self._running and not self._running.response_complete:  # uvicorn notifies only a pipeline's last request
            self._running.disconnected = True
            self._running.message_event.set()
        for cycle, _ in self.pipeline:  # they never start, and would keep their callback for ever
            cycle.on_response = _nothing
        self.pipeline.clear()
        self._patient.detach()

    def eof_received(self) -> None:
        self._patient.flush()  # the transport closes itself now, unless it has something to send
        super().eof_received()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            self._heard += 1
            return
        self._piece = len(data)
        self._received += self._piece
        self._began = False
        self._unset_keepalive_if_required()
        self._parse(data)
        if self._refused:
            return
        if self._deadline is None and (self._arriving or not self._answering()):
            self._watch()  # also after blank lines, or a body that ended after its answer: uvicorn doesn't
        if not self._arriving:
            return
        if self._head is not None:
            if not (self._began and self._answering()):  # else the piece is mostly of the requests before it
                self._head += data
            if len(self._head) > _LARGEST_HEAD:
                self._refuse(_too_large(bytes(self._head.rpartition(b"\n")[2])))
        elif self._received > _LARGEST:
            self._linger()
        elif self._declared() > _LARGEST:
            self.cycle.keep_alive = False  # the answer says so, and the client sends no other request

    def _parse(self, data: bytes) -> None:
        try:
            while True:
                try:
                    return self.parser.feed_data(data)
                except httptools.HttpParserUpgrade as paused:
                    data = data[paused.args[0] :]
                    self._ignore_upgrade()
        except httptools.HttpParserCallbackError:
            if not self._refused:
                self._refuse_message("its target can't be read")
        except httptools.HttpParserError as error:
            if self._head is not None:
                self._head += data
            self._refuse_message(str(error))

    def _ignore_upgrade(self) -> None:
        """Serve the request as if it hadn't asked for another protocol (RFC 9110, section 7.8).

        The parser takes the bytes after the head for that protocol, and would go on as if the request had no body. A
        new parser reads the head again, without `Upgrade`.
        """
        line = f"HTTP/{self.parser.get_http_version()}".encode()
        lines = [b"%b %b %b" % (self.parser.get_method(), self.url, line)]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
        piece, self._piece = self._piece, self._received  # with the pieces that the head began in
        self.parser.feed_data(b"\r\n".join([*lines, b"", b""]))
        self._piece = piece

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._began = self._arriving = True
        self._received = self._piece
        self._head = bytearray()
        self._body = 0
        self._chunked = False

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                self._refuse(BadRequest(hint="CONNECT isn't served: this is no proxy."))
                raise _Refused
            return  # `_ignore_upgrade` has it read again
        names = [name for name, _ in self.headers]
        if len(set(names)) < len(names) and (twice := _SINGLE.intersection(_repeated(names))):
            name = min(twice).decode().title()
            self._refuse(BadRequest(hint=f"{name} was sent more than once: send it once."))
            raise _Refused
        if len(self.pipeline) >= _MOST_WAITING:
            self._refuse(BadRequest(hint="Too many requests at once on one connection."))
            raise _Refused
        if self._received > _LARGEST_HEAD:  # rare, and the count includes some of the body
            lines = [b"GET  HTTP/1.1" + self.url, *(b"%b: %b" % header for header in self.headers)]
            if sum(len(line) + 2 for line in lines) > _LARGEST_HEAD:
                self._refuse(_too_large(max(lines, key=len)))
                raise _Refused
        previous = self.cycle
        super().on_headers_complete()
        self._previous = previous
        self.scope["state"]["abort"] = self.transport.abort  # ends the connection of a client that reads too slowly
        self._head = None
        self.headers = []  # for trailers, which are no headers (RFC 9110, section 6.5.1); the request keeps its list

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        self._body += len(body)
        super().on_body(body)

    def on_chunk_header(self) -> None:
        self._chunked = True

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        if not self._is_read():
            self._refuse_message("its body can't be read")
            raise _Refused
        self._arrived()
        self.scope["state"]["arrived"] = True  # the whole request: reading it needs no time limit
        super().on_message_complete()

    def _is_read(self) -> bool:
        """Say whether the whole announced body has been read, as the parser should ensure."""
        for name, value in self.scope["headers"]:
            if name == b"content-length":
                return self._body == int(value)
            if name == b"transfer-encoding":
                return self._chunked
        return True

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(_SLOWEST_READER, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._has_read()

    def _has_read(self) -> None:
        if self._unread:
            self._unread.cancel()
            self._unread = None

    def _watch(self) -> None:
        self._deadline = self.loop.call_later(_SLOWEST, self._too_slow)

    def _arrived(self) -> None:
        self._arriving = False
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if self._answering():  # the route that reads the body has a limit of its own
            self._watch()
        elif self._head:
            self._refuse(RequestTimeout(hint=f"The request must arrive within {_SLOWEST} seconds."))
        else:
            self._patient.close_now()  # there is no request, or it has been answered

    def _answering(self) -> bool:
        return bool(self.cycle) and not self.cycle.response_complete  # None before the first request, whatever its type

    def _declared(self) -> int:
        """Return the body's length in bytes by its Content-Length, which the parser has checked; 0 without one."""
        return int(next((value for name, value in self.scope["headers"] if name == b"content-length"), 0))

    def _refuse(self, problem: Problem) -> None:
        """Send `problem` at once and linger.

        If responses to earlier requests are due, the last of them ends the connection, and `problem` isn't sent.
        """
        self._linger()
        metrics.REQUESTS.labels("other", "none", problem.status).observe(0)
        if self._answering():
            self.cycle.keep_alive = False
            return
        request_id = uuid7().hex
        _log.info("request refused", request_id=request_id, status=problem.status, reason=str(problem))
        response = answer(problem, request_id=request_id)
        response.headers.update(
            {
                "X-Request-ID": request_id,
                **SECURITY_HEADERS,
                **self._cors(),
                "Connection": "close",
            }
        )
        head = b"".join(b"%b: %b\r\n" % header for header in response.raw_headers)
        self.transport.write(STATUS_LINE[problem.status] + head + b"\r\n" + bytes(response.body))
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _cors(self) -> dict[str, str]:
        """Return headers that let a page's script read the reason, if the part of the head that came has its origin."""
        origins = self.app_state.get("origins")
        return {} if origins is None else cors_headers(origins, self._origin())

    def _origin(self) -> str | None:
        headers = self.scope["headers"] if bool(self.scope) else ()  # None before the first request, whatever its type
        found = next((value for name, value in headers if name == b"origin"), None)
        if found is None and self._head:  # the parser keeps a header until the next one begins
            line = _ORIGIN.search(self._head)
            found = line and line[1]
        origin = (found or b"").strip(b" \t")
        return origin.decode() if _VISIBLE.fullmatch(origin) else None

    def _refuse_message(self, reason: str) -> None:
        """Refuse a message that isn't HTTP. If its head was, the request has begun: end it before it is carried out."""
        if self._arriving and self._head is None:
            if self.cycle.response_started:  # before the body was read
                self.cycle.keep_alive = False
                if self.cycle.response_complete:
                    self._close()
                else:
                    self._linger()
                return
            self.cycle.disconnected = self.cycle.response_complete = True
            self.cycle.message_event.set()
            if self.pipeline and self.pipeline[0][0] is self.cycle:
                self.pipeline.popleft()
                self.cycle = self._previous
        self._refuse(BadRequest(hint=f"The request isn't HTTP as RFC 9112 has it: {reason}."))

    def _close(self) -> None:
        """Close as uvicorn intends to: the answer is complete, but the client may still be sending."""
        if self._refused:
            return  # `_hang_up` closes it soon
        if self._arriving and self._head is None and not self.transport.is_closing():
            self._linger()
            if self.transport.can_write_eof():
                self.transport.write_eof()
        else:
            self._patient.close_now()

    def _linger(self) -> None:
        """Discard the client's further input, and close once it is silent or the time is up (`_LINGER`)."""
        self._arrived()
        self._refused = True
        self.flow.resume_reading()
        self._heard = 0
        self._deadline = self.loop.call_later(_LINGER, self._hang_up, 0, 4)

    def _hang_up(self, heard: int, more: int) -> None:
        if self._answering():
            self._deadline = self.loop.call_later(_LINGER, self._hang_up, heard, more)
        elif self._heard > heard and more:
            self._deadline = self.loop.call_later(_LINGER, self._hang_up, self._heard, more - 1)
        else:
            self._patient.close_now()


def _repeated(names: Iterable[bytes]) -> list[bytes]:
    return [name for name, count in Counter(names).items() if count > 1]


def _nothing() -> None:
    """Do nothing: the callback of a request that is never answered."""


def _too_large(line: bytes) -> Problem:
    """Make the problem for `line`, the head's line without an end yet, else its longest: 401 for a token, else 431."""
    if line.partition(b":")[0].lower() == b"authorization":
        return invalid_token("The token is too long.")
    return RequestHeaderFieldsTooLarge(hint=f"Request line and headers must have at most {_LARGEST_HEAD:,} bytes.")
