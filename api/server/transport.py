"""A transport that joins small writes, and leaves closing to the protocol.

Invariants: bytes leave in the order in which they were written. While the connection is open, none are held back past
the present turn of the loop, and none when it is closed by `write_eof` or `close_now`.
"""

import asyncio
from collections.abc import Callable
from typing import Any

_WORTH_JOINING = 32 * 1024
"""Bytes; longer writes are neither copied nor held back. A page of 50 tasks goes out with its head."""


class BufferedTransport:
    """A wrapper of a transport that joins small writes, and leaves it to `close` when to close.

    `close_now` closes at once. The writes of one turn of the loop, usually the head and the body of a response, go out
    in one system call: a second one takes longer than joining them.
    """

    def __init__(
        self, transport: asyncio.Transport, close: Callable[[], None], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._transport, self._loop = transport, loop
        self.close = close
        self.is_closing = transport.is_closing
        self._held = b""

    def write(self, data: bytes) -> None:
        if len(self._held) + len(data) > _WORTH_JOINING:
            self.flush()
            if not self.is_closing():
                self._transport.write(data)
        elif self._held:
            self._held += data
        else:
            self._held = data
            self._loop.call_soon(self.flush)

    def write_eof(self) -> None:
        self.flush()
        self._transport.write_eof()

    def close_now(self) -> None:
        self.flush()
        self._transport.close()

    def detach(self) -> None:
        """Drop the reference to the protocol, once the connection has ended."""
        self.close = self._transport.close

    def flush(self) -> None:
        if self._held and not self.is_closing():
            self._transport.write(self._held)
        self._held = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
