"""A process that verifies or rebuilds work units: a line of JSON in, a line out, until its input ends.

Its input also ends if its parent is killed; it finishes the unit under way, and ends.
"""

import asyncio
import gc
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

import asyncpg
import orjson
import uvloop

from config import logs
from db.connection import connect
from db.dsn import connect_arguments
from db.errors import FAILED
from db.pool import Connection
from events.integrity.rebuild import Rebuilt, rebuild
from events.integrity.verify import Verified, verify
from events.integrity.work_units import StreamSize as Head

Job = Callable[[Connection, Sequence[Head]], Awaitable[Verified | Rebuilt]]
JOBS: Mapping[str, Job] = {"verify": verify, "rebuild": rebuild}


_FAILURES: tuple[type[Exception], ...] = (*FAILED, asyncpg.InterfaceError)
"""Errors that are reported. `InterfaceError`: the connection ended within a transaction."""
_SILENCE = 600
"""Seconds without an answer to a statement after which the server is taken for dead. No statement takes long."""


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group, and ends us by way of our input
    logs.configure("ERROR", "console")  # to standard error; the parent has logged all about the address
    first = orjson.loads(sys.stdin.buffer.readline())
    job = JOBS[first["job"]]
    # A batch's objects are freed by reference counts; a search for cycles among them would find none.
    gc.freeze()
    gc.disable()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            connection = runner.run(connect(**connect_arguments(first["dsn"]), command_timeout=_SILENCE))
            for line in sys.stdin.buffer:
                done = runner.run(_do(job, connection, [Head(*head) for head in orjson.loads(line)]))
                _answer(orjson.dumps(done, default=str))  # asyncpg's UUIDs
                gc.collect()
            runner.run(connection.close())
        except _FAILURES as error:
            _answer(orjson.dumps({"failed": _why(error)}))
            return 1
    return 0


async def _do(job: Job, connection: Connection, heads: Sequence[Head]) -> Verified | Rebuilt:
    return await job(connection, heads)


def _why(error: Exception) -> str:
    if isinstance(error, asyncpg.LockNotAvailableError):
        return (
            "A transaction that is no write of the service holds the stream of one of these users for seconds: "
            "pg_stat_activity shows which."
        )
    return str(error) or type(error).__name__


def _answer(line: bytes) -> None:
    with suppress(BrokenPipeError):  # the parent was killed, so our input ends, too
        sys.stdout.buffer.write(line + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
