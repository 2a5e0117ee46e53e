"""uvicorn's HTTP/1.1 protocol, with connections that end so that the client can read the last response to its end.

Invariants: all that was written is flushed before the connection is closed, or closed for our side. While a client
sends, the connection isn't closed but lingers, as in nginx and Apache: further input is read and discarded, never
parsed. If it were left unread, the kernel would reset the connection, and the client might never see the response.
After `connection_lost` no timer and no other object refers to the protocol.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from api.server.transport import BufferedTransport

_LINGER = 2
"""Seconds of silence before a lingering connection is closed; at most five times as many in all, after the response."""
_SLOWEST_READER = 30
"""Seconds in which a client must read some of a response that waits for it."""


class GracefulProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a graceful close. A subclass discards all input once `_lingering` is set."""

    _in_body = False
    """True from the end of a request's head to the end of its body."""
    _running: RequestResponseCycle | None = None
    """Cycle of the request that is being answered; later requests in the pipeline wait."""
    _unread: asyncio.TimerHandle | None = None
    _lingering: "Lingering | None" = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        self._buffered = BufferedTransport(transport, self._close, self.loop)
        super().connection_made(cast("asyncio.Transport", self._buffered))

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop every timer and every reference back to this object, so that the last reference to it frees it.

        uvicorn keeps its keep-alive timer if the connection was reset, and with it the connection's memory.
        """
        self._has_read()
        if self._lingering:
            self._lingering.cancel()
            self._lingering = None
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        if self._running and not self._running.response_complete:  # uvicorn notifies only a pipeline's last request
            self._running.disconnected = True
            self._running.message_event.set()
        for cycle, _ in self.pipeline:  # they never start, and would keep their callback for ever
            cycle.on_response = _nothing
        self.pipeline.clear()
        self._buffered.detach()

    def eof_received(self) -> None:
        self._buffered.flush()  # the transport closes itself now, unless it has something to send
        super().eof_received()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._in_body = True

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def shutdown(self) -> None:
        """End the connection once its request is answered, and tell a response that has no end of its own.

        Cut it off if its client isn't reading: its end would wait for the client.
        """
        super().shutdown()
        if self._running and not self._running.response_complete:
            state = self._running.scope["state"]
            state["stopping"] = True  # for a response that begins later
            if "on_shutdown" in state:
                state["on_shutdown"]()
                if self._unread:
                    self.transport.abort()

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

    def _answering(self) -> bool:
        return bool(self.cycle) and not self.cycle.response_complete  # None before the first request, whatever its type

    def _close(self) -> None:
        """Close as uvicorn intends to: the answer is complete, but the client may still be sending."""
        if self._lingering:
            return  # it closes the connection soon
        if self._in_body and not self.transport.is_closing():
            self._linger()
            self._write_eof()
        else:
            self._buffered.close_now()

    def _write_eof(self) -> None:
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _linger(self) -> None:
        """Discard the client's further input, and close the connection once it is silent."""
        self.flow.resume_reading()
        self._lingering = Lingering(self.loop, answering=self._answering, close=self._buffered.close_now)


class Lingering:
    """The wait for a client's silence.

    Invariant: a timer runs until `close` or `cancel` is called, and `close` isn't called while a response is due.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, answering: Callable[[], bool], close: Callable[[], None]
    ) -> None:
        self._loop, self._answering, self._close = loop, answering, close
        self._silent = True
        self._more = 4
        self._timer = loop.call_later(_LINGER, self._end)

    def discard(self) -> None:
        """Discard a piece of input, after which the client isn't silent."""
        self._silent = False

    def cancel(self) -> None:
        """End without closing: the connection has been lost."""
        self._timer.cancel()

    def _end(self) -> None:
        if not self._answering():
            if self._silent or not self._more:
                self._close()
                return
            self._silent = True
            self._more -= 1
        self._timer = self._loop.call_later(_LINGER, self._end)


def _nothing() -> None:
    """Do nothing: the callback of a request that is never answered, or that ends by itself."""
