"""Verify and rebuild on several processes: users over a `ProcessPoolExecutor`."""

import asyncio
import multiprocessing
import signal
import traceback
from asyncio import Future
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import asyncpg

from cli import worker
from cli.children import starting_children
from cli.output import Unwritten
from cli.worker import Job, Result
from db.connection import connect
from db.dsn import connect_arguments
from db.errors import FAILED_OR_CLOSED
from db.pool import Connection
from db.session import SEE_SHARDS
from events.integrity import work_units
from events.integrity.work_units import WorkUnit


class CutShort(Exception):
    """The early end of a job. Finished work is right; `after` is the user to go on after, "" for the beginning."""

    def __init__(self, why: str, after: str) -> None:
        super().__init__(why)
        self.after = after


class Receiver(Protocol):
    """A receiver of results, as they come. Its methods raise `Unwritten`."""

    def begin(self, events: int | None) -> None: ...
    def add(self, result: Result) -> None: ...
    def stopping(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The users to go through: one, a random sample, or all, perhaps only those after a user in key order.

    `sharded`: the database is distributed by user, so the users of a work unit are on one shard.
    """

    user: str | None = None
    sample: int | None = None
    after: str = ""
    sharded: bool = False

    def work_units(self, connection: Connection) -> AsyncIterator[WorkUnit]:
        if self.user is not None:
            return work_units.one(connection, self.user)
        if self.sample is not None:
            units = work_units.some(connection, self.sample)
        else:
            units = work_units.everyone(connection, after=self.after)
        return work_units.by_shard(connection, units) if self.sharded else units

    async def events(self, connection: Connection) -> int | None:
        """Return the number of events to go through; None if it isn't known beforehand."""
        if self.user is not None or self.sample is not None:
            return None
        return await work_units.total(connection, after=self.after)


async def go_through(dsn: str, job: Job, choice: Choice, *, workers: int, report: Receiver) -> None:
    """Do the job on all chosen users.

    After SIGINT or SIGTERM the work units under way are finished; a second signal stops at once. Raises `CutShort`
    then, and if a worker or the database fails meanwhile; `Unwritten`; else the errors of connecting and the first
    statement. Once it has returned after a signal, later ones are ignored, so that the caller can tell what was done.
    """
    connection = await connect(**connect_arguments(dsn))
    under_way = _UnderWay(job, dsn, report)
    with _stopped_by_signals(report) as stop:
        try:
            try:
                if choice.sharded:
                    await connection.execute(SEE_SHARDS)
                report.begin(await choice.events(connection))
                await _share_out(choice.work_units(connection), workers, under_way, stop)
            finally:
                await connection.close()
        except asyncio.CancelledError:
            if not stop.is_set():
                raise
            raise CutShort("Stopped.", under_way.after) from None


async def _share_out(units: AsyncIterator[WorkUnit], workers: int, under_way: "_UnderWay", stop: asyncio.Event) -> None:
    try:
        with _pool(workers) as pool:
            async for unit in units:
                await under_way.finish(down_to=workers - 1)
                if stop.is_set():
                    await under_way.finish()
                    raise CutShort("Stopped.", unit.after)
                under_way.submit(pool, unit)
            await under_way.finish()
    except (CutShort, Unwritten, asyncpg.UndefinedTableError):
        raise
    except Exception as error:  # noqa: BLE001 - the user to go on after is told, whatever it was
        if not isinstance(error, (BrokenProcessPool, *FAILED_OR_CLOSED)):  # unforeseen
            traceback.print_exception(error)
        raise CutShort(_why(error), under_way.after) from None


class _UnderWay:
    """The work units that workers have: few, so that memory stays constant and a stop doesn't take long."""

    def __init__(self, job: Job, dsn: str, report: Receiver) -> None:
        self._job = job
        self._dsn = dsn
        self._report = report
        self._units: dict[Future[Result], WorkUnit] = {}
        self._last = ""

    def submit(self, pool: ProcessPoolExecutor, unit: WorkUnit) -> None:
        with starting_children():
            future = asyncio.get_running_loop().run_in_executor(
                pool, worker.run_unit, self._job, self._dsn, unit.streams
            )
        # Else asyncio would log the errors that nobody asks for after the first one.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._units[future] = unit
        self._last = unit.after

    async def finish(self, *, down_to: int = 0) -> None:
        """Report results as they come, until only `down_to` work units are left. Raises the workers' errors."""
        while len(self._units) > down_to:
            done, _ = await asyncio.wait(self._units, return_when=asyncio.FIRST_COMPLETED)
            for future in sorted(done, key=lambda each: each.exception() is not None):  # results before errors
                self._report.add(future.result())
                del self._units[future]

    @property
    def after(self) -> str:
        """Return the user to go on after if the work units under way are lost."""
        return next((unit.after for unit in self._units.values()), self._last)


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Provide worker processes, which are killed if the block fails: their transactions are rolled back."""
    with starting_children():  # the resource tracker is one
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), worker.start)
    with pool:
        try:
            yield pool
        except BaseException:
            for child in multiprocessing.active_children():
                child.kill()
            raise


@contextmanager
def _stopped_by_signals(report: Receiver) -> Iterator[asyncio.Event]:
    """Set an event at the first SIGINT or SIGTERM within the block; cancel the task at the second.

    If there was one, later signals are ignored after the block, too; else the former handlers are put back.
    """
    loop, task, stop, over = asyncio.get_running_loop(), asyncio.current_task(), asyncio.Event(), False
    came = False

    def handle() -> None:
        if over or task is None:
            return
        if stop.is_set():
            task.cancel()
        else:
            stop.set()
            report.stopping()

    def receive(*_: object) -> None:
        nonlocal came
        came = True
        if not over:
            loop.call_soon_threadsafe(handle)

    # Not `loop.add_signal_handler`, which can't put the former handlers back.
    signals = [each for each in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(each) is not None]
    former = {each: signal.signal(each, receive) for each in signals}
    try:
        yield stop
    finally:
        over = True
        if not came:
            for each, handler in former.items():
                signal.signal(each, handler)


def _why(error: Exception) -> str:
    if isinstance(error, BrokenProcessPool):
        return "A worker process has ended before its work: perhaps the system killed it, for want of memory."
    if isinstance(error, asyncpg.LockNotAvailableError):
        return (
            "A transaction that is no write of the service holds the stream of one of these users for seconds: "
            "pg_stat_activity shows which."
        )
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return f"{error}: only the owner of the tables may rebuild; set DATABASE_URL_DIRECT to its login."
    return str(error) or type(error).__name__
