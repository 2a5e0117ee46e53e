"""The start of child processes by `multiprocessing`."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

_SAFE_PATH = "PYTHONSAFEPATH"


@contextmanager
def starting_children() -> Iterator[None]:
    """Block SIGINT, so that children started meanwhile never receive it (we do, afterwards), and keep the working
    folder off their path: until a child has its parent's path, it would take modules of Python's own from there.
    """
    safe_path = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"
    resource_tracker.ensure_running()  # if it started with the first child, it would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if safe_path is None:
            del os.environ[_SAFE_PATH]
        else:
            os.environ[_SAFE_PATH] = safe_path
