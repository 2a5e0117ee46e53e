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

from api.connections import CONNECTIONS
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
from api.transport import BufferedTransport
from config import metrics

_LARGEST_HEAD = 64 * 1024
"""Bytes of request line and headers."""
_LARGEST = 4 * 1024 * 1024
"""Bytes of a whole request. api.request_body answers for bodies long before; this is for what nobody reads."""
_SLOWEST = 10
"""Seconds from the connection, or where it is kept alive from a request's first byte, to the request's last."""
_SLOWEST_READER = 30
"""Seconds in which a client must take some of an answer that waits for it."""
_MOST_WAITING = 16
"""Requests of one connection behind the one that is being answered."""
_SINGLE = frozenset({b"authorization", b"content-type", b"host", b"origin"})
"""Fields that have one value (RFC 9110, section 5.3). Two parties could each believe another one of two."""
_LINGER = 2
"""Seconds of silence after which a refused client is hung up on; at most five times as many in all. What it still
sends is thrown away: were it left unread, the kernel would reset the connection, and it might never see the answer."""

_ORIGIN = re.compile(rb"\r\norigin:([^\r\n]*)\r\n", re.IGNORECASE)
_VISIBLE = re.compile(rb"[!-~]+")

_log = structlog.get_logger(__name__)


class _Refused(Exception):
    """Ends the parsing of a request that has been refused."""


class BoundedRequests(HttpToolsProtocol):
    """Refuses what uvicorn would read for as long as it comes, and what isn't HTTP, with a problem document.

    A request whose body was announced is never answered as if it had none, and no byte of a body is ever parsed as a
    request. The parser skips a body in one case, where another protocol is asked for: `_ignore_upgrade`. That it was
    read is checked for every request all the same, in `on_message_complete`.
    """

    _head: bytearray | None = None
    """What has come of a head that isn't complete. Most heads arrive in one piece, and are never copied here."""
    _received = 0
    """Bytes of the present request, and of those before it that came in one piece with its beginning."""
    _piece = 0
    _began = False
    """Whether the present request began in the present piece."""
    _arriving = True
    _body = 0
    """Bytes of the present request's body so far."""
    _chunked = False
    """Whether a chunk of it was read, if only the last, empty one."""
    _previous: RequestResponseCycle
    """Of the request before the present one."""
    _running: RequestResponseCycle | None = None
    """Of the request that is being answered; those behind it in the pipeline wait."""
    _deadline: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _refused = False
    _heard = 0
    """How often a refused client was heard while it was lingered for."""

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
        if self._running and not self._running.response_complete:  # uvicorn tells only the last request of a pipeline
            self._running.disconnected = True
            self._running.message_event.set()
        for cycle, _ in self.pipeline:  # they never start, so that they never let go of their callback
            cycle.on_response = _nothing
        self.pipeline.clear()
        self._patient.detach()

    def eof_received(self) -> None:
        self._patient.flush()  # the transport closes itself now, unless it knows of something to send
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
            self._watch()  # also after blank lines, or the end of a body that was answered early: uvicorn doesn't
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
            self.cycle.keep_alive = False  # said in the answer, so that no request is sent behind this one

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

        The parser takes what follows the head for that protocol, and would go on behind it as if there were no body.
        A new one reads the head again, without `Upgrade`.
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
            return  # and read it again
        names = [name for name, _ in self.headers]
        if len(set(names)) < len(names) and (twice := _SINGLE.intersection(_repeated(names))):
            name = min(twice).decode().title()
            self._refuse(BadRequest(hint=f"{name} was sent more than once: send it once."))
            raise _Refused
        if len(self.pipeline) >= _MOST_WAITING:
            self._refuse(BadRequest(hint="Too many requests at once on one connection."))
            raise _Refused
        if self._received > _LARGEST_HEAD:  # rarely, and then with some of the body
            lines = [b"GET  HTTP/1.1" + self.url, *(b"%b: %b" % header for header in self.headers)]
            if sum(len(line) + 2 for line in lines) > _LARGEST_HEAD:
                self._refuse(_too_large(max(lines, key=len)))
                raise _Refused
        previous = self.cycle
        super().on_headers_complete()
        self._previous = previous
        self.scope["state"]["abort"] = self.transport.abort  # ends the connection of a client that reads too slowly
        self._head = None
        self.headers = []  # for trailers, which are no headers (RFC 9110, section 6.5.1); the request has its own list

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
        self.scope["state"]["arrived"] = True  # all of the request: nobody has to wait for more, nor to limit the wait
        super().on_message_complete()

    def _is_read(self) -> bool:
        """Whether all of the body has been read that was announced, which the parser sees to."""
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
            self._patient.close_now()  # nothing was asked, or it has been answered

    def _answering(self) -> bool:
        return bool(self.cycle) and not self.cycle.response_complete  # None before the first request, whatever its type

    def _declared(self) -> int:
        """Bytes of the body, as Content-Length has it, which the parser has checked."""
        return int(next((value for name, value in self.scope["headers"] if name == b"content-length"), 0))

    def _refuse(self, problem: Problem) -> None:
        """Answer at once. Where answers are due to requests before it, the last of them becomes the last of all."""
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
        """So that a page's script can read why, if its origin is in as much of the head as has come."""
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
        """Answer what isn't HTTP. Where its head was, the request has begun: it isn't carried out."""
        if self._arriving and self._head is None:
            if self.cycle.response_started:  # without the body
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
        """What uvicorn means by closing: the answer is complete, but the client may still be sending."""
        if self._refused:
            return  # it will be, soon
        if self._arriving and self._head is None and not self.transport.is_closing():
            self._linger()
            if self.transport.can_write_eof():
                self.transport.write_eof()
        else:
            self._patient.close_now()

    def _linger(self) -> None:
        """Let the client finish talking, unheard, and close."""
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
    """Whose fault it is shows in the line at fault: the one that has no end yet, else the longest."""
    if line.partition(b":")[0].lower() == b"authorization":
        return invalid_token("The token is too long.")
    return RequestHeaderFieldsTooLarge(hint=f"Request line and headers must have at most {_LARGEST_HEAD:,} bytes.")
