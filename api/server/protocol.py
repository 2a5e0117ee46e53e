"""uvicorn's HTTP/1.1 protocol, with bounds on how large a request may be and how long it may take to arrive.

`api.server.incoming_request` measures it, `api.server.refusals` makes the response to one that exceeds them, and
`api.server.graceful_close` ends connections.
"""

import asyncio
import socket

import httptools
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from api.problems import BadRequest, Overloaded, Problem, RequestTimeout
from api.server.connections import CONNECTIONS
from api.server.graceful_close import GracefulProtocol
from api.server.incoming_request import IncomingRequest, announces_too_much, without_upgrade
from api.server.refusals import origin_in, refusal_bytes
from telemetry import metrics

_SLOWEST = 10
"""Seconds from the connection's start, or on a kept-alive one from a request's first byte, to the request's last."""
_MOST_WAITING = 16
"""Largest number of requests that wait on one connection behind the one being answered."""
_UNSENT = 128 * 1024
"""Largest number of bytes of a connection that the kernel takes before it can send them. It would take 4 MB else, which
`api.server.unsent` can't count: for a client that doesn't read, a whole list.
"""
_UNSENT_OPTION = getattr(socket, "TCP_NOTSENT_LOWAT", None)  # Linux and macOS


class _Refused(Exception):
    """Ends the parsing of a request that has been refused."""


class BoundedRequests(GracefulProtocol):
    """uvicorn's protocol with limits: requests that are too large, too slow or not HTTP get a problem document.

    Invariants: a request with an announced body is never answered as if it had none, and no byte of a body is ever
    parsed as a request. The parser skips a body only if another protocol is asked for, see `_ignore_upgrade`. Even so
    `on_message_complete` checks for every request that its body was read. `_deadline` is set while a request arrives,
    and after other input, so that no connection is kept for ever.
    """

    _deadline: asyncio.TimerHandle | None = None
    _previous: RequestResponseCycle
    """Cycle of the request before the present one."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        super().connection_made(transport)
        if _UNSENT_OPTION is not None:
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, _UNSENT_OPTION, _UNSENT)
        self._incoming = IncomingRequest()
        address = self.client[0] if self.client else None
        if CONNECTIONS.add(address, trusted=address in self.app_state.get("trusted_proxies", ())):
            self._watch()
        elif CONNECTIONS.may_be_told():
            self._refuse(Overloaded(hint="Too many connections at once.", headers={"Retry-After": "1"}))
        else:
            self._linger()
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        CONNECTIONS.remove(self.client[0] if self.client else None)
        self._arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            self._lingering.discard()
            return
        self._incoming.count(data)
        self._unset_keepalive_if_required()
        self._parse(data)
        if self._lingering:
            return
        if self._deadline is None and (self._incoming.arriving or not self._answering()):
            self._watch()  # also after blank lines, or a body that ended after its answer: uvicorn doesn't
        if self._incoming.arriving:
            self._bound(data)

    def _parse(self, data: bytes) -> None:
        try:
            while True:
                try:
                    return self.parser.feed_data(data)
                except httptools.HttpParserUpgrade as paused:
                    data = data[paused.args[0] :]
                    self._ignore_upgrade()
        except httptools.HttpParserCallbackError:
            if not self._lingering:
                self._refuse_message("its target can't be read")
        except httptools.HttpParserError as error:
            if self._incoming.head is not None:
                self._incoming.head += data
            self._refuse_message(str(error))

    def _ignore_upgrade(self) -> None:
        """Serve the request as if it hadn't asked for another protocol (RFC 9110, section 7.8).

        The parser takes the bytes after the head for that protocol, and would go on as if the request had no body. A
        new parser reads the head again, without `Upgrade`.
        """
        head = without_upgrade(self.parser.get_method(), self.url, self.parser.get_http_version(), self.headers)
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
        with self._incoming.begun_earlier():
            self.parser.feed_data(head)

    def _bound(self, data: bytes) -> None:
        """Refuse the incomplete request, or end its connection, if it is too large after this piece."""
        incoming = self._incoming
        if incoming.head is not None:
            if not (incoming.began_in_piece and self._answering()):  # else it is mostly of the requests before it
                incoming.head += data
            if problem := incoming.head_refusal():
                self._refuse(problem)
        elif incoming.too_large:
            self._linger()
        elif announces_too_much(self.scope["headers"]):
            self.cycle.keep_alive = False  # the answer says so, and the client sends no other request

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._incoming.begin()

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            return  # `_ignore_upgrade` has it read again
        if problem := self._problem():
            self._refuse(problem)
            raise _Refused
        previous = self.cycle
        super().on_headers_complete()
        self._previous = previous
        self.scope["state"]["abort"] = self.transport.abort  # ends the connection of a client that reads too slowly
        self.scope["state"]["closed"] = self.transport.is_closing
        self._incoming.head = None
        self.headers = []  # for trailers, which are no headers (RFC 9110, section 6.5.1); the request keeps its list

    def _problem(self) -> Problem | None:
        """Return the problem of a request that can't be served, by its complete head."""
        if self.parser.should_upgrade():
            return BadRequest(hint="CONNECT isn't served: this is no proxy.")
        if len(self.pipeline) >= _MOST_WAITING:
            return BadRequest(hint="Too many requests at once on one connection.")
        return self._incoming.headers_refusal(self.url, self.headers)

    def on_body(self, body: bytes) -> None:
        self._incoming.body += len(body)
        super().on_body(body)

    def on_chunk_header(self) -> None:
        self._incoming.chunked = True

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        if not self._incoming.has_body(self.scope["headers"]):
            self._refuse_message("its body can't be read")
            raise _Refused
        self._arrived()
        self.scope["state"]["arrived"] = True  # the whole request: reading it needs no time limit
        super().on_message_complete()

    def _watch(self) -> None:
        self._deadline = self.loop.call_later(_SLOWEST, self._too_slow)

    def _arrived(self) -> None:
        self._incoming.arriving = False
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if self._answering():  # the route that reads the body has a limit of its own
            self._watch()
        elif self._incoming.head:
            self._refuse(RequestTimeout(hint=f"The request must arrive within {_SLOWEST} seconds."))
        else:
            self._buffered.close_now()  # there is no request, or it has been answered

    def _refuse(self, problem: Problem) -> None:
        """Send `problem` at once and linger.

        If responses to earlier requests are due, the last of them ends the connection, and `problem` isn't sent.
        """
        self._linger()
        metrics.REQUESTS.labels("other", "none", problem.status).observe(0)
        if self._answering():
            self.cycle.keep_alive = False
            return
        headers = self.scope["headers"] if bool(self.scope) else ()  # None before the first request, whatever its type
        origin = origin_in(headers, self._incoming.head)
        self.transport.write(refusal_bytes(problem, origins=self.app_state.get("origins"), origin=origin))
        self._write_eof()

    def _refuse_message(self, reason: str) -> None:
        """Refuse a message that isn't HTTP. If its head was, the request has begun: end it before it is carried out."""
        if self._in_body:
            if self.cycle.response_started:  # before the body was read
                self.cycle.keep_alive = False
                if self.cycle.response_complete:
                    self._close()
                else:
                    self._linger()
                return
            self._give_up_request()
        self._refuse(BadRequest(hint=f"The request isn't HTTP as RFC 9112 has it: {reason}."))

    def _give_up_request(self) -> None:
        """End the present request as if its client had disconnected."""
        self.cycle.disconnected = self.cycle.response_complete = True
        self.cycle.message_event.set()
        if self.pipeline and self.pipeline[0][0] is self.cycle:
            self.pipeline.popleft()
            self.cycle = self._previous

    def _linger(self) -> None:
        self._arrived()
        super()._linger()
