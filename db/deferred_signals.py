"""Signals that wait while something must not be left half done."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def deferred_signals() -> Iterator[None]:
    """Handle SIGINT, SIGTERM and SIGHUP only after the block, unless a handler isn't Python's: it couldn't be put back.

    To block them wouldn't do: that holds for one thread, and another one, such as the log's, would receive them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # handlers run in the main thread, and disturb no other
        return
    waiting: list[int] = []
    signals = [each for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) is not None]
    former = [signal.signal(each, lambda number, _: waiting.append(number)) for each in signals]
    try:
        yield
    finally:
        for each, handler in zip(signals, former, strict=True):
            signal.signal(each, handler)
        for number in waiting:
            signal.raise_signal(number)
