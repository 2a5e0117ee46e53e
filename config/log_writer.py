"""A log handler that writes in a thread: a reader that stops reading stops nothing else."""

import logging
import os
import select
import threading
from collections import deque
from contextlib import suppress

_MOST_WAITING = 4 * 1024 * 1024
"""Largest number of characters that wait to be written; lines past it are dropped."""
_FLUSH_SECONDS = 1


class WriterThreadHandler(logging.Handler):
    """A handler that writes lines to a file descriptor from a thread of its own.

    Invariants: lines keep their order, and only so many characters wait. Lines past the bound are dropped and counted;
    a line in their place gives the number.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._waiting: deque[str] = deque()
        self._size = 0
        self._dropped = 0
        self._writing = self._closed = False
        self._changed = threading.Condition()
        threading.Thread(target=self._write_all, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record) + "\n"
        except Exception:  # noqa: BLE001 - as the standard library's handlers do
            self.handleError(record)
            return
        with self._changed:
            if self._dropped or self._size + len(line) > _MOST_WAITING:  # none after a dropped one: in order
                self._dropped += 1
                self._changed.notify_all()
                return
            self._size += len(line)
            self._waiting.append(line)
            if not self._writing:
                self._changed.notify_all()

    def flush(self) -> None:
        """Wait until all lines are written, for a second at most: there may be no reader any more."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._waiting or self._writing), _FLUSH_SECONDS)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        super().close()

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()  # wakes `flush`
                self._changed.wait_for(lambda: self._waiting or self._dropped or self._closed)
                if not (self._waiting or self._dropped):
                    return
                lines, self._waiting, self._size = self._waiting, deque(), 0
                dropped, self._dropped = self._dropped, 0
                self._writing = True
            self._write("".join(lines))
            if dropped:
                self._write(self.format(_note(dropped)) + "\n")

    def _write(self, text: str) -> None:
        data = memoryview(text.encode(errors="backslashreplace"))
        with suppress(OSError):  # nothing depends on standard error
            while data:
                try:
                    data = data[os.write(self._descriptor, data) :]
                except BlockingIOError:  # another process that has it open made it non-blocking
                    select.select((), (self._descriptor,), ())


def flush() -> None:
    """Wait until all lines are written, for a second at most."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, WriterThreadHandler):  # other handlers' streams aren't ours to flush
            handler.flush()


def _note(dropped: int) -> logging.LogRecord:
    text = f"log lines dropped: {dropped}, while nobody read them"
    return logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, None, None)
