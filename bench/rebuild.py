"""A benchmark of `daybook rebuild` and `daybook verify`, their speed and memory: `make bench-rebuild`.

Runs the commands as an operator would, on all cores, against a Postgres on the same machine. Fails if a command doesn't
go through all events or is slower than wanted, or if a process takes too much memory.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from bench.load import Author, load, settle
from bench.machine import machine, settings, versions
from db.dsn import connect_arguments
from db.embedded import running
from db.migrate import migrate

Job: TypeAlias = Literal["rebuild", "verify", "rebuild, sound"]
"""A command to measure. `tasks` is empty before `rebuild`, and correct before `rebuild, sound`."""

LEAST: dict[Job, int] = {"rebuild": 150_000, "verify": 100_000}
"""Least rate, in events a second, for a million events."""
MOST = 200_000_000
"""Bytes of memory that each process must stay under."""

_SERVER = {"shared_buffers": "2GB", "max_wal_size": "8GB", "checkpoint_timeout": "30min"}
"""Settings that keep checkpoints and the cache's size out of the figures."""


class Incomplete(Exception):
    """The command failed, or its result isn't that of all events."""


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a log."""

    users: int
    events: int
    """Events of each user."""

    def __str__(self) -> str:
        return f"{self.users:,} | {self.events:,} | {self.users * self.events:,}"


HEAD = """\
| users | events each | events | tasks | command | workers | seconds | **events/s** | parent, MB | largest worker, MB |
|--:|--:|--:|--:|---|--:|--:|--:|--:|--:|"""


@dataclass(frozen=True, slots=True)
class Result:
    """Time and memory of a command. `parent` and `worker` are bytes at their peaks, `worker` that of the largest."""

    size: Size
    tasks: int
    job: Job
    workers: int
    seconds: float
    parent: int
    worker: int

    @property
    def rate(self) -> float:
        """Return the events a second."""
        return self.size.users * self.size.events / self.seconds

    def __str__(self) -> str:
        memory = f"{self.parent / 1e6:.0f} | {self.worker / 1e6:.0f}"
        return (
            f"| {self.size} | {self.tasks:,} | {self.job} | {self.workers} | {self.seconds:.1f} | **{self.rate:,.0f}** "
            f"| {memory} |"
        )


def fill(dsn: str, size: Size) -> None:
    """Create the tables, and write the users' logs, with a process for each core."""
    migrate(dsn)
    shares = [range(first, size.users, _cores()) for first in range(min(_cores(), size.users))]
    with multiprocessing.get_context("spawn").Pool(len(shares)) as pool:
        pool.starmap(_fill, [(dsn, share, size.events) for share in shares])


def _fill(dsn: str, numbers: range, events: int) -> None:
    async def load_all() -> None:
        connection = await asyncpg.connect(**connect_arguments(dsn))
        for number in numbers:
            await load(connection, Author(f"user-{number:06}"), events)
        await connection.close()

    asyncio.run(load_all())


def run(dsn: str, job: Job, size: Size, workers: int) -> Result:
    """Run a command, and measure it from start to end. Raises `Incomplete`."""
    tasks = asyncio.run(_prepare(dsn, job))
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", job.partition(",")[0], "--json", "--workers", str(workers)],
        env={"DATABASE_URL": dsn, "LOG_LEVEL": "WARNING", "PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
        text=True,
    )
    parent = worker = 0
    while process.poll() is None:
        sizes = {pid: _peak(pid) for pid in (process.pid, *_children(process.pid))}
        parent = max(parent, sizes.pop(process.pid))
        worker = max([worker, *sizes.values()])
        time.sleep(0.02)
    seconds = time.perf_counter() - began
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    result: dict[str, Any] = json.loads(process.stdout.read())
    found = result[{"rebuild": "written", "verify": "tasks", "rebuild, sound": "right"}[job]]
    if process.returncode or (result["events"], found) != (size.users * size.events, tasks):
        raise Incomplete(f"{job}: {result}")
    return Result(size, tasks, job, workers, seconds, parent, worker)


_tasks: dict[str, int] = {}


async def _prepare(dsn: str, job: Job) -> int:
    """Empty the projection if the job is `rebuild`. Return the number of tasks that the log has."""
    connection = await asyncpg.connect(**connect_arguments(dsn))
    try:
        if dsn not in _tasks:
            await settle(connection)
            _tasks[dsn] = await connection.fetchval("SELECT count(*) FROM tasks")
        if job == "rebuild":
            await connection.execute("TRUNCATE tasks")
            await connection.execute("CHECKPOINT")
        return _tasks[dsn]
    finally:
        await connection.close()


def _children(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _peak(pid: int) -> int:
    """Return the peak of a process's memory so far, in bytes; 0 if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    peak = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(peak[0].split()[1]) * 1024 if peak else 0


def _cores() -> int:
    return len(os.sched_getaffinity(0))


async def _about(dsn: str) -> str:
    connection = await asyncpg.connect(**connect_arguments(dsn))
    try:
        tables = await connection.fetch(
            """
            SELECT split_part(relname, '_p', 1) AS name,
                sum(pg_table_size(oid))::bigint AS rows, sum(pg_indexes_size(oid))::bigint AS indexes
            FROM pg_class WHERE relkind = 'r' AND relname ~ '^(events|tasks)_p|^streams$' GROUP BY 1 ORDER BY 1
            """
        )
        sizes = ", ".join(f"{each['name']} {each['rows'] / 1e6:,.0f} + {each['indexes'] / 1e6:,.0f}" for each in tables)
        return (
            f"{machine()}. {await versions(connection)}.\n"
            f"Postgres on the same machine ({await settings(connection)}).\nTables and their indexes, in MB: {sizes}."
        )
    finally:
        await connection.close()


@contextmanager
def database(server: str, size: Size) -> Iterator[str]:
    """Make a database with a log of this size, yield its DSN, and drop it."""
    name = f"bench_{size.users}_{size.events}"

    async def execute(statement: str) -> None:
        connection = await asyncpg.connect(**connect_arguments(server))
        await connection.execute(statement)
        await connection.close()

    asyncio.run(execute(f"CREATE DATABASE {name}"))
    dsn = urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    began = time.perf_counter()
    fill(dsn, size)
    print(f"loaded {size.users * size.events:,} events in {time.perf_counter() - began:.0f} s", file=sys.stderr)
    yield dsn
    asyncio.run(execute(f"DROP DATABASE {name}"))


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-rebuild", description=__doc__)
    parser.add_argument("--users", type=int, default=10_000, help="users of the largest log (%(default)s)")
    parser.add_argument("--events", type=int, default=100, help="events of each user (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which the median counts (%(default)s)")
    arguments = parser.parse_args()
    whole = Size(arguments.users, arguments.events)
    tenth = Size(whole.users // 10, whole.events)
    sizes = [whole, tenth, Size(tenth.users, whole.events * 10), Size(1, whole.users * whole.events // 10)]
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="daybook-bench-") as folder, running(Path(folder), settings=_SERVER) as dsn:
        for size in sizes:
            with database(dsn, size) as filled:
                if size == whole:
                    asyncio.run(_prepare(filled, "verify"))
                    print(f"{asyncio.run(_about(filled))}\n\n{HEAD}", flush=True)
                for job in LEAST:
                    rounds = [run(filled, job, size, _cores()) for _ in range(arguments.rounds if size == whole else 1)]
                    for each in rounds:
                        print(each, flush=True)
                    results += rounds
                if size == whole:
                    print(run(filled, "rebuild, sound", size, _cores()), flush=True)
    print()
    failed = max(max(each.parent, each.worker) for each in results) >= MOST
    for job, least in LEAST.items():
        rate = statistics.median(each.rate for each in results if each.job == job and each.size == whole)
        print(f"{job}: {rate:,.0f} events a second (median), of {least:,} wanted.")
        failed = failed or rate < least
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
