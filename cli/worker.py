"""The part of verify and rebuild that runs in worker processes."""

import asyncio
import atexit
import gc
import multiprocessing
import os
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import cache
from typing import Any, Literal, TypeAlias

import uvloop

from config import logs
from db.connection import connect
from db.dsn import connect_arguments
from db.pool import Connection
from db.session import SEE_SHARDS
from events.integrity.rebuild import Rebuilt, rebuild
from events.integrity.verify import Verified, verify
from events.integrity.work_units import StreamSize

Job: TypeAlias = Literal["verify", "rebuild"]
Result: TypeAlias = Verified | Rebuilt

_JOBS: Mapping[Job, Callable[[Connection, Sequence[StreamSize]], Coroutine[Any, Any, Result]]] = {
    "verify": verify,
    "rebuild": rebuild,
}
_COMMAND_SECONDS = 600
"""Seconds without an answer to a statement after which the server is taken for dead. No statement takes long."""


def start() -> None:
    """Prepare this process for its work units."""
    os.setsid()  # a terminal that is closed is the parent's affair
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logs.configure("ERROR", "console")  # the parent has logged all about the address
    # A batch's objects are freed by reference counts; a search for cycles among them would find none.
    gc.freeze()
    gc.disable()


def _end_with_parent() -> None:
    """End this process at once when its parent ends: a parent that was killed can't stop it."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)  # the transaction under way is rolled back


def run_unit(job: Job, dsn: str, streams: Sequence[StreamSize]) -> Result:
    """Do the job on these users, over the connection of this process."""
    runner, connection = _connected(dsn)
    result = runner.run(_JOBS[job](connection, streams))
    gc.collect()
    return result


@cache
def _connected(dsn: str) -> tuple[asyncio.Runner, Connection]:
    """Connect, once in the life of this process."""
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    connection = runner.run(connect(**connect_arguments(dsn), command_timeout=_COMMAND_SECONDS))
    runner.run(connection.execute(SEE_SHARDS))
    atexit.register(lambda: runner.run(connection.close()))
    return runner, connection
