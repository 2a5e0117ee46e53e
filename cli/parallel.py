"""Verify and rebuild on several processes: work units of users go out, results come back."""

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import asyncpg
import orjson

from cli.output import Unwritten
from db.connection import connect
from db.dsn import connect_arguments
from db.errors import FAILED
from db.pool import Connection
from events.integrity import work_units
from events.integrity.work_units import StreamSize as Head
from events.integrity.work_units import WorkUnit

Job: TypeAlias = Literal["verify", "rebuild"]
Result: TypeAlias = dict[str, Any]
"""A `Verified` or a `Rebuilt` as JSON."""

_LONGEST_ANSWER = 2**28
"""Longest answer of a worker, in bytes. A work unit in which nothing is right has much to tell."""


class CutShort(Exception):
    """The early end of a walk. Finished work is right; `after` is the user to go on after, "" for the beginning."""

    def __init__(self, why: str, after: str) -> None:
        super().__init__(why)
        self.after = after


class Report(Protocol):
    """A receiver of results, as they come. Its methods raise `Unwritten`."""

    def begin(self, events: int | None) -> None: ...
    def add(self, result: Result) -> None: ...
    def stopping(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The users to go through: one, a random sample, or all, perhaps only those after a user in key order."""

    user: str | None = None
    sample: int | None = None
    after: str = ""

    def work_units(self, connection: Connection) -> AsyncIterator[WorkUnit]:
        if self.user is not None:
            return work_units.one(connection, self.user)
        if self.sample is not None:
            return work_units.some(connection, self.sample)
        return work_units.everyone(connection, after=self.after)

    async def events(self, connection: Connection) -> int | None:
        """Return the number of events to go through; None if it isn't known beforehand."""
        if self.user is not None or self.sample is not None:
            return None
        return await work_units.total(connection, after=self.after)


class _Failed(Exception):
    """A worker couldn't do its work"""


_FAILURES: tuple[type[Exception], ...] = (_Failed, *FAILED, asyncpg.InterfaceError, ValueError)
"""Errors ending a walk. `InterfaceError`: the connection ended between statements; `ValueError`: too long an answer."""


async def go_through(dsn: str, job: Job, choice: Choice, *, workers: int, report: Report) -> None:
    """Do the job on all chosen users.

    After SIGINT or SIGTERM the work units under way are finished; a second signal stops at once. Raises `CutShort`
    then, and if the database fails meanwhile; `Unwritten`; else the errors of connecting and the first statement.
    """
    connection = await connect(**connect_arguments(dsn))
    try:
        queue = _Queue(choice.work_units(connection), report)
        with _stopped_by_signals(queue):
            report.begin(await choice.events(connection))
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(workers):
                        group.create_task(_work(dsn, job, queue))
            except* asyncpg.UndefinedTableError as none:
                raise none.exceptions[0] from None
            except* Unwritten as unwritten:
                raise unwritten.exceptions[0] from None
            except* _FAILURES as failed:
                raise CutShort(_first(failed), queue.unfinished) from None
            except* asyncio.CancelledError:
                if not queue.stopped:
                    raise
                raise CutShort("Stopped.", queue.unfinished) from None
        if queue.stopped and (left := await queue.left()) is not None:
            raise CutShort("Stopped.", left)
    finally:
        await connection.close()


def _first(errors: BaseExceptionGroup[BaseException]) -> str:
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else str(error) or type(error).__name__


class _Queue:
    """The work units, handed out in order."""

    def __init__(self, work_units: AsyncIterator[WorkUnit], report: Report) -> None:
        self.stopped = False
        self._work_units = work_units
        self._report = report
        self._turn = asyncio.Lock()
        self._under_way: dict[int, WorkUnit] = {}
        self._after = ""

    async def take(self) -> tuple[int, list[Head]] | None:
        async with self._turn:
            unit = None if self.stopped else await anext(self._work_units, None)
            if unit is None:
                return None
            self._after = unit.after
            number = max(self._under_way, default=0) + 1
            self._under_way[number] = unit
            return number, unit.heads

    def finish(self, number: int, result: Result) -> None:
        del self._under_way[number]
        self._report.add(result)

    def stop(self) -> None:
        self.stopped = True
        self._report.stopping()

    @property
    def unfinished(self) -> str:
        """Return the user to go on after if work units were lost."""
        return self._under_way[min(self._under_way)].after if self._under_way else self._after

    async def left(self) -> str | None:
        """Return the user to go on after if all units handed out are finished; `None` if none is left."""
        unit = await anext(self._work_units, None)
        return None if unit is None else unit.after


@contextmanager
def _stopped_by_signals(queue: _Queue) -> Iterator[None]:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def stop() -> None:
        if queue.stopped and task:
            task.cancel()
        elif not queue.stopped:
            queue.stop()

    signals = (signal.SIGINT, signal.SIGTERM)
    for each in signals:
        loop.add_signal_handler(each, stop)
    try:
        yield
    finally:
        for each in signals:
            loop.remove_signal_handler(each)


async def _work(dsn: str, job: Job, queue: _Queue) -> None:
    taken = await queue.take()
    if taken is None:
        return
    async with _worker(dsn, job) as process:
        while taken is not None:
            number, heads = taken
            queue.finish(number, await _ask(process, heads))
            taken = await queue.take()


@asynccontextmanager
async def _worker(dsn: str, job: Job) -> AsyncIterator[Process]:
    """Start a process that ends with its input: we close that, or the kernel does if we are killed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "cli.worker"),
        stdin=PIPE,
        stdout=PIPE,
        limit=_LONGEST_ANSWER,
        start_new_session=True,  # Ctrl-C is for us
    )
    assert process.stdin is not None  # noqa: S101 - it is a pipe
    try:
        process.stdin.write(orjson.dumps({"job": job, "dsn": dsn}) + b"\n")
        yield process
        process.stdin.close()
        await process.wait()
    finally:
        if process.returncode is None:
            process.terminate()  # its transaction is rolled back
            await process.wait()


async def _ask(process: Process, heads: Sequence[Head]) -> Result:
    assert process.stdin is not None  # noqa: S101 - both are pipes
    assert process.stdout is not None  # noqa: S101
    try:
        process.stdin.write(orjson.dumps([list(head) for head in heads]) + b"\n")
        await process.stdin.drain()
    except ConnectionError:
        pass  # it has ended; its last line, or the lack of one, tells the reason
    line = await process.stdout.readline()
    if not line:
        status = await process.wait()
        how = f"signal {-status} ended it" if status < 0 else f"it ended with status {status}"
        raise _Failed(f"{_Failed.__doc__}: {how}.")
    answer: Result = orjson.loads(line)
    if "failed" in answer:
        raise _Failed(answer["failed"])
    return answer
