"""The end of a worker together with the process that started it."""

import asyncio
import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Orphaned(Exception):
    """Error of a worker that finds its supervisor gone before it could start."""


@contextmanager
def ended_with_its_supervisor() -> Iterator[None]:
    """Stop this process, as by SIGTERM, when its supervisor ends; do nothing if it isn't one of several workers.

    A killed supervisor can't stop its workers, which would keep the port. Raises `Orphaned` if it has ended already.
    """
    supervisor = multiprocessing.parent_process()
    if supervisor is None:
        yield
        return
    if not supervisor.is_alive():
        raise Orphaned("the process that started this worker has ended")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the supervisor decides when to stop
    loop = asyncio.get_running_loop()

    def stop() -> None:
        loop.remove_reader(supervisor.sentinel)
        signal.raise_signal(signal.SIGTERM)

    loop.add_reader(supervisor.sentinel, stop)
    try:
        yield
    finally:
        loop.remove_reader(supervisor.sentinel)
