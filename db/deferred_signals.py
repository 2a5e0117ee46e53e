"""Signals that wait while something must not be left half done."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def deferred_signals() -> Iterator[None]:
    """Handle SIGINT, SIGTERM and SIGHUP only after the block.

    To block them wouldn't do: that holds for one thread, and another one, such as the log's, would receive them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # handlers run in the main thread, and disturb no other
        return
    waiting: list[int] = []
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    former = [signal.signal(each, lambda number, _: waiting.append(number)) for each in signals]
    try:
        yield
    finally:
        for each, handler in zip(signals, former, strict=True):
            signal.signal(each, handler)
        for number in waiting:
            signal.raise_signal(number)
