"""A worker ends with the process that started it."""

import asyncio
import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Orphaned(Exception):
    """The supervisor was gone before the worker could start."""


@contextmanager
def ended_with_its_supervisor() -> Iterator[None]:
    """As one of several workers: stop, as by SIGTERM, when the supervisor is gone. Killed, it can't say so, and nobody
    else would stop a worker that keeps the port."""
    supervisor = multiprocessing.parent_process()
    if supervisor is None:
        yield
        return
    if not supervisor.is_alive():
        raise Orphaned("the process that started this worker has ended")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches everybody; the supervisor says when to stop
    loop = asyncio.get_running_loop()

    def stop() -> None:
        loop.remove_reader(supervisor.sentinel)
        signal.raise_signal(signal.SIGTERM)

    loop.add_reader(supervisor.sentinel, stop)
    try:
        yield
    finally:
        loop.remove_reader(supervisor.sentinel)
