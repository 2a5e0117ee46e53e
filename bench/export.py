"""A benchmark of memory and speed of exports: `make bench-export`.

Each row of the table is measured on a service that was just started and warmed up, so no case hides behind the growth
of another. Fails if an export isn't complete, a response isn't 2xx, or one reader costs 30 MB or more.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import asyncpg

from bench.load import Author, load, settle
from bench.machine import machine, settings, versions
from bench.memory import Resident, resident, watched
from bench.service import Refused, Service, serving
from db.dsn import connect_arguments
from db.embedded import running
from db.migrate import migrate
from events.task import Fields

Form: TypeAlias = Literal["ndjson", "csv"]
Order: TypeAlias = Literal["desc", "asc"]
FORMS: tuple[Form, ...] = get_args(Form)
ORDERS: tuple[Order, ...] = get_args(Order)

LIMIT = 30_000_000
"""Bytes of growth that an export to one reader must stay under."""

LONG = "user-long"
_LONG_EVENTS = 2000

_WARM_UP = 1000
"""Events of the user whose lists and exports warm the service up."""
_SLOW = 2_000_000
"""Bytes a second that the slow reader takes."""
_SLOW_SECONDS = 10
"""Seconds for which the slow reader is slow. It then reads the rest as fast as it comes."""
_SLOW_BUFFER = 64 * 1024
_READERS = 4
"""As many exports as are sent to one user at a time."""
_TIMES = 5
_CHUNK = 64 * 1024
_END = {"ndjson": b"\n", "csv": b"\r\n"}
"""Bytes that end a line, and occur nowhere else in it: the log's own texts have only bare line feeds."""


class LongTextAuthor(Author):
    """A user whose events are as large as possible: each update replaces a description of 5,000 characters.

    JSON writes most of the characters with six bytes. One makes Python use four bytes for every character of the text.
    """

    COMMANDS: Mapping[str, int] = {"create": 1, "update": 99}

    def changes(self) -> Fields:
        """Return a new description."""
        return Fields(description=self.description())

    def description(self) -> str:
        """Return a text of 5,000 characters."""
        return chr(self.chance.randrange(1, 8)) * 4999 + "\N{GRINNING FACE}"


class Incomplete(Exception):
    """An export didn't have as many lines as the log has events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A case to measure: `readers` at once export `user`'s log of `events` events, `times` in a row."""

    events: int
    user: str
    form: Form = "ndjson"
    order: Order = "desc"
    readers: int = 1
    times: int = 1
    slow: bool = False

    def __str__(self) -> str:
        how = f"{self.readers} readers at once" if self.readers > 1 else "1 reader"
        how += f", {self.times} times" if self.times > 1 else ""
        how += f", {_SLOW / 1e6:.0f} MB/s for {_SLOW_SECONDS} s" if self.slow else ""
        long = " of the largest" if self.user == LONG else ""
        return f"{self.events:,}{long} | {self.form}, {self.order} | {how}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Memory, bytes and seconds of a case."""

    case: Case
    started: int
    """Bytes of resident memory when the service was ready, before it was warmed up."""
    memory: Resident
    bytes: int
    seconds: float

    def __str__(self) -> str:
        memory = self.memory
        sizes = (self.started, memory.before, memory.peak, memory.after)
        exported = self.case.events * self.case.readers * self.case.times
        return (
            f"| {self.case} | {' | '.join(f'{size / 1e6:.1f}' for size in sizes)} | **{memory.growth / 1e6:.1f}** "
            f"| {self.bytes / 1e6:,.1f} | {self.seconds:.1f} | {exported / self.seconds:,.0f} |"
        )


HEAD = """\
| events | exported as | read by | started | warm | peak | after | **growth** | body | seconds | events/s |
|--:|---|---|--:|--:|--:|--:|--:|--:|--:|--:|"""


def cases(events: int, sizes: list[int]) -> Iterator[Case]:
    """Yield both forms in both orders, slow and concurrent readers, logs of other sizes and of the largest events."""
    user = user_of(events)
    for form in FORMS:
        for order in ORDERS:
            yield Case(user=user, events=events, form=form, order=order)
    yield Case(user=user, events=events, slow=True)
    yield Case(user=user, events=events, readers=_READERS)
    yield Case(user=user, events=events, times=_TIMES)
    for form in FORMS:
        for size in sizes:
            yield Case(user=user_of(size), events=size, form=form)
    for form in FORMS:
        yield Case(user=LONG, events=_LONG_EVENTS, form=form)
    yield Case(user=LONG, events=_LONG_EVENTS, readers=_READERS)


def measure(dsn: str, case: Case, folder: Path) -> Result:
    """Start a service, and measure one case on it. Raises `Refused` or `Incomplete`."""
    with serving(dsn, folder) as service, ThreadPoolExecutor(case.readers) as readers:
        started = resident(service.pid)
        _warm_up(service)
        received = 0
        with watched(service.pid) as memory:
            began = time.perf_counter()
            for _ in range(case.times):
                received += sum(readers.map(lambda _: export(service, case), range(case.readers)))
            seconds = time.perf_counter() - began
    return Result(case=case, started=started, memory=memory, bytes=received, seconds=seconds)


def export(service: Service, case: Case) -> int:
    """Read one export to its end, and return its bytes. Raises `Refused` or `Incomplete`."""
    end = _END[case.form]
    lines = received = 0
    last = b""
    began = time.perf_counter()
    path = f"/api/{case.user}/audit?format={case.form}&order={case.order}"
    with service.get(path, user=case.user, buffer=_SLOW_BUFFER if case.slow else None) as response:
        while piece := response.read(_CHUNK):
            received += len(piece)
            lines += (last + piece).count(end)
            last = piece[-1:] if len(end) > 1 else b""
            if (
                case.slow
                and (early := received / _SLOW - (time.perf_counter() - began)) > 0
                and (received < _SLOW * _SLOW_SECONDS)
            ):
                time.sleep(early)
    events = lines - (case.form == "csv")  # without the header
    if events != case.events:
        raise Incomplete(f"{case}: {events:,} lines were read")
    return received


def _warm_up(service: Service) -> None:
    user = user_of(_WARM_UP)
    for form in FORMS:
        export(service, Case(user=user, events=_WARM_UP, form=form))
    for path in ("tasks", "tasks?limit=100", "audit", "audit/head"):
        service.get(f"/api/{user}/{path}", user=user).read()


def user_of(events: int) -> str:
    """Return the user whose log has this number of events."""
    return f"user-{events}"


async def prepare(dsn: str, sizes: set[int]) -> str:
    """Load the logs, and return the lines that describe machine and settings."""
    connection = await asyncpg.connect(**connect_arguments(dsn))
    try:
        for size in sorted(sizes):
            began = time.perf_counter()
            await load(connection, Author(user_of(size)), size)
            _say(f"loaded {size:,} events in {time.perf_counter() - began:.0f} s")
        await load(connection, LongTextAuthor(LONG), _LONG_EVENTS)
        await settle(connection)
        return (
            f"{machine()}. {await versions(connection)}.\n"
            f"One worker; Postgres on the same machine ({await settings(connection)}). Sizes in MB (1,000,000 bytes)."
        )
    finally:
        await connection.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-export", description=__doc__)
    parser.add_argument("--events", type=int, default=100_000, help="events of the exported log (%(default)s)")
    parser.add_argument("--sizes", type=int, nargs="*", help="events of other logs (a tenth and ten times as many)")
    arguments = parser.parse_args()
    events: int = arguments.events
    sizes: list[int] = [events // 10, events * 10] if arguments.sizes is None else arguments.sizes
    sizes = [size for size in sizes if size not in (0, events)]
    results = []
    with tempfile.TemporaryDirectory(prefix="daybook-bench-") as name, running(Path(name)) as dsn:
        migrate(dsn)
        about = asyncio.run(prepare(dsn, {_WARM_UP, events, *sizes}))
        with serving(dsn, Path(name)):
            pass  # compiles the code: else the first service would take more memory than the others
        print(f"{about}\n\n{HEAD}", flush=True)
        for case in cases(events, sizes):
            try:
                result = measure(dsn, case, Path(name))
            except (Refused, Incomplete, OSError) as error:
                _say(f"{case}: {error}")
                return 1
            print(result, flush=True)
            results.append(result)
    most = max(result.memory.growth for result in results if result.case.readers == 1)
    print(f"\nThe highest cost of one reader: {most / 1e6:.1f} MB, of less than {LIMIT / 1e6:.0f} MB allowed.")
    return 0 if most < LIMIT else 1


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
