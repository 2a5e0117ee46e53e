"""A benchmark of the cost of a heavy user to the others: `make bench-heavy`.

Twenty users read and write, at times that are fixed beforehand or each as fast as they are answered. For each route,
their latencies are measured at rest, and then while one user with a long log and many long tasks sends requests to it
from twenty connections. Fails if another user was refused or waited for too long, or the service took too much memory.
"""

import argparse
import asyncio
import http.client
import multiprocessing
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import asyncpg
import jwt
import orjson
import uvloop

from bench.connection import NoResponse, connect
from bench.heavy_user import LONGEST, HeavyUser
from bench.load import Author, load, settle
from bench.machine import machine, settings, versions
from bench.memory import watched
from bench.service import Service, serving
from bench.soak import Line, percentile
from bench.visitor import Visitor, WrongResponse, visitor
from db.dsn import connect_arguments
from db.embedded import running
from db.migrate import migrate

OTHERS = 20
EVENTS_OF_OTHERS = 100
PERIOD = 0.1
"""Seconds between two requests of one of the other users, on average, unless they send without a pause."""
CONNECTIONS = 20
"""Connections of the heavy user. Each is a closed loop: it sends its next request when it has the response."""

BATCH = 100
"""Operations in a batch: the most that are allowed."""

HEAVY = "heavy"
MOST_MEMORY = 250_000_000
"""Largest resident memory of the service, in bytes."""
MOST_WAIT = 5
"""Bound for the others' p99, as a multiple of their median at rest."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request of the heavy user; `path` lies under `/api/{user_id}/`."""

    method: str
    path: str
    body: bytes | None = None
    accept: str = "application/json"


Choose = Callable[[random.Random], Request]


def routes(ids: Sequence[str], moment: datetime) -> Mapping[str, Choose]:
    """Return for each route, by name, a function that chooses a request to it."""
    past = quote(moment.isoformat())
    ten = "+".join(f"wor{number}" for number in range(10))

    def fixed(path: str, accept: str = "application/json") -> Choose:
        return lambda _: Request("GET", path, accept=accept)

    def of_task(method: str, suffix: str = "", body: bytes | None = None) -> Choose:
        return lambda chance: Request(method, f"tasks/{chance.choice(ids)}{suffix}", body)

    def batch(title: str, description: str) -> Choose:
        created = {"op": "create", "title": title, "description": description}
        body = orjson.dumps({"operations": [created] * BATCH})
        return lambda _: Request("POST", "batch", body)

    return {
        "list": fixed("tasks"),
        "list, 1,000": fixed("tasks?limit=1000"),
        "list, long texts": fixed("tasks?order=asc"),
        "list, by title": fixed("tasks?sort=title&limit=50"),
        "list, far": fixed("tasks?offset=19000&limit=50"),
        "search": fixed("tasks?q=never-found"),
        "search, ten words": fixed(f"tasks?q={ten}"),
        "past list": fixed(f"tasks?as_of={past}&limit=50"),
        "past list, 1,000": fixed(f"tasks?as_of={past}&limit=1000"),
        "past search": fixed(f"tasks?as_of={past}&q=never-found"),
        "counts": fixed("tasks/stats"),
        "changes": fixed("tasks/changes"),
        "get": of_task("GET"),
        "get, past": of_task("GET", f"?as_of={past}"),
        "get, version": of_task("GET", "?version=1"),
        "audit": fixed("audit"),
        "audit, 1,000": fixed("audit?limit=1000"),
        "audit, one type": fixed("audit?type=TaskDeleted"),
        "export": fixed("audit", "application/x-ndjson"),
        "export as CSV": fixed("audit", "text/csv"),
        "head": fixed("audit/head"),
        "history": of_task("GET", "/history"),
        "create": lambda _: Request("POST", "tasks", b'{"title": "one more"}'),
        "create, long": lambda _: Request("POST", "tasks", b'{"title": "long", "description": "%b"}' % (b"x" * 5000)),
        "put": lambda chance: of_task("PUT", "", b'{"title": "%d"}' % chance.randrange(10**9))(chance),
        "patch": lambda chance: of_task("PATCH", "", b'{"title": "%d"}' % chance.randrange(10**9))(chance),
        "complete": of_task("PATCH", "/complete"),
        "delete": of_task("DELETE"),
        "restore": of_task("POST", "/restore"),
        "restore a version": of_task("POST", "/restore", b'{"version": 1}'),
        "undo": lambda _: Request("POST", "undo"),
        "batch": batch("one more", ""),
        "batch, long": batch("long", LONGEST * "x"),
        "batch, accents": batch("accents", LONGEST // 2 * "\u0300" + LONGEST // 2 * "\u0327"),
        "dry run": lambda _: Request("POST", "restore", orjson.dumps({"as_of": moment, "dry_run": True})),
    }


def _yield_processor() -> None:
    """Give this process the lowest priority, among those of its session and among sessions (Linux, autogroups).

    Else the heavy user's client would take processor time from the other users' client, of the same session.
    """
    os.nice(19)
    if os.getsid(0) != os.getpid():
        os.setsid()
    with suppress(FileNotFoundError):  # a kernel without autogroups
        Path("/proc/self/autogroup").write_text("19")


def closed_loop(port: int, token: str, name: str, ids: Sequence[str], moment: datetime, seconds: float) -> Counter[str]:
    """Send a route's requests from `CONNECTIONS` threads, each a closed loop, and count the responses by status.

    Runs in a process of its own. It leaves the processor to the service, as a client on another machine would.
    """
    _yield_processor()
    choose = routes(ids, moment)[name]
    end = time.monotonic() + seconds
    found: Counter[str] = Counter()

    def send(number: int) -> None:
        chance = random.Random(number)
        buffer = bytearray(65536)
        while time.monotonic() < end:
            request = choose(chance)
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            headers = {"Authorization": f"Bearer {token}", "Accept": request.accept, "Connection": "close"}
            if request.body:
                headers["Content-Type"] = "application/json"
            try:
                connection.request(request.method, f"/api/{HEAVY}/{request.path}", request.body, headers)
                with connection.getresponse() as response:
                    while response.readinto(buffer) and time.monotonic() < end:
                        pass
                found[str(response.status)] += 1
            except (OSError, http.client.HTTPException) as error:
                found[type(error).__name__] += 1
            finally:
                connection.close()

    threads = [threading.Thread(target=send, args=(number,)) for number in range(CONNECTIONS)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return found


@dataclass(slots=True)
class Others:
    """The other users' latencies, in seconds from when a request was due, and their refusals.

    Without a pause, a request is due when the one before it is answered.
    """

    latencies: list[float] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        figures = " | ".join(f"{1000 * percentile(self.latencies, share):.1f}" for share in (0.5, 0.99, 1))
        return f"{len(self.latencies):,} | {figures} | {sum(self.refused.values())}"


async def others(lines: Sequence[Line], until: asyncio.Event, *, pause: bool) -> Others:
    """Send the other users' requests until the event is set."""
    found = Others()

    async def send(line: Line) -> None:
        due = time.perf_counter() + line.chance.random() * PERIOD
        while not until.is_set():
            if not pause:
                due = time.perf_counter()
            elif (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            try:
                await line.send_one()
                found.latencies.append(time.perf_counter() - due)
            except (WrongResponse, NoResponse) as error:
                found.refused[str(error)[:200]] += 1
                return
            due = max(due + line.chance.expovariate(1 / PERIOD), time.perf_counter() - 1)

    async with asyncio.TaskGroup() as group:
        for line in lines:
            group.create_task(send(line))
    return found


async def prepare(
    dsn: str, service: Service, events: int, long_tasks: int, *, pause: bool
) -> tuple[list[Visitor], list[str], datetime, str]:
    """Load all logs.

    Return the other users, the ids of the heavy user's tasks, a moment in the middle of the heavy user's log, and the
    lines that describe machine and settings.
    """
    connection = await asyncpg.connect(**connect_arguments(dsn))
    heavy = HeavyUser(HEAVY, long_tasks=long_tasks)
    await load(connection, heavy, events)
    moment: datetime = await connection.fetchval(
        "SELECT at FROM events WHERE user_id = $1 AND seq = $2", HEAVY, events * 3 // 4
    )
    visitors = []
    for number in range(OTHERS):
        author = Author(f"user-{number:02}")
        last = await load(connection, author, EVENTS_OF_OTHERS)
        visitors.append(visitor(author.user_id, _token(service, author.user_id), last.seq, author.tasks))
    await settle(connection)
    ids = [str(task.id) for task in heavy.tasks]
    random.Random(1).shuffle(ids)
    about = (
        f"{machine()}. {await versions(connection)} ({await settings(connection)}).\n"
        f"One user with {events:,} events and {len(ids):,} tasks, {long_tasks:,} of them with 5,000 characters, "
        f"{CONNECTIONS} requests at once; "
        f"{OTHERS} others with {EVENTS_OF_OTHERS} events each, "
        + (f"{OTHERS / PERIOD:,.0f} requests a second." if pause else "each without a pause.")
    )
    await connection.close()
    return visitors, ids, moment, about


def _token(service: Service, user: str) -> str:
    until = datetime.now(UTC) + timedelta(days=1)
    return jwt.encode({"sub": user, "exp": until}, service.secret, algorithm="HS256")


async def measure(
    service: Service, visitors: Sequence[Visitor], seconds: float, attack: "Attack | None", *, pause: bool
) -> Others:
    """Measure the other users for some seconds, at rest or while the heavy user sends requests."""
    lines = [Line(await connect(service.port), [each], random.Random()) for each in visitors]
    until = asyncio.Event()
    try:
        working = asyncio.create_task(others(lines, until, pause=pause))
        await (asyncio.sleep(seconds) if attack is None else attack(seconds))
        until.set()
        return await working
    finally:
        for line in lines:
            line.connection.close()


@dataclass(frozen=True, slots=True)
class Attack:
    """The heavy user's requests to one route; `found` counts their responses by status."""

    service: Service
    pool: ProcessPoolExecutor
    name: str
    ids: Sequence[str]
    moment: datetime
    found: Counter[str] = field(default_factory=Counter)

    async def __call__(self, seconds: float) -> None:
        """Send the requests from the other process."""
        arguments = (self.service.port, _token(self.service, HEAVY), self.name, self.ids, self.moment, seconds)
        self.found.update(await asyncio.get_running_loop().run_in_executor(self.pool, closed_loop, *arguments))


async def run(
    service: Service, dsn: str, events: int, long_tasks: int, seconds: float, only: str, *, pause: bool
) -> list[str]:
    """Measure all routes, print them, and return the faults."""
    visitors, ids, moment, about = await prepare(dsn, service, events, long_tasks, pause=pause)
    print(about, flush=True)
    await measure(service, visitors, seconds, None, pause=pause)  # warm up
    print("\n| heavy user | their answers | at rest: p50 | p99 | others' requests | p50 | p99 | max | refused ", end="")
    print("| p99 / rest | MB |\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    faults = []
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        for name in routes(ids, moment):
            if only not in name:
                continue
            # directly before, as the machine's speed changes
            rest = (await measure(service, visitors, seconds, None, pause=pause)).latencies
            median = percentile(rest, 0.5)
            attack = Attack(service, pool, name, ids[:200], moment)
            with watched(service.pid) as memory:
                met = await measure(service, visitors, seconds, attack, pause=pause)
            ratio = percentile(met.latencies, 0.99) / median
            responses = ", ".join(f"{count} x {status}" for status, count in sorted(attack.found.items()))
            before = f"{1000 * median:.1f} | {1000 * percentile(rest, 0.99):.1f}"
            print(f"| {name} | {responses} | {before} | {met} | {ratio:.1f} | {memory.peak / 1e6:.0f} |", flush=True)
            faults += [f"{name}: another user was refused: {why}" for why in met.refused]
            faults += [f"{name}: others waited for {ratio:.1f} times their median at rest"] * (not ratio < MOST_WAIT)
            faults += [f"{name}: {memory.peak / 1e6:.0f} MB"] * (memory.peak > MOST_MEMORY)
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-heavy", description=__doc__)
    parser.add_argument("--events", type=int, default=300_000, help="events of the heavy user (%(default)s)")
    parser.add_argument("--long-tasks", type=int, default=20_000, help="long tasks of the heavy user (%(default)s)")
    parser.add_argument("--seconds", type=float, default=5, help="seconds for each route (%(default)s)")
    parser.add_argument("--only", default="", help="routes whose name contains this")
    parser.add_argument("--no-pause", action="store_true", help="have the others send as fast as they are answered")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="daybook-bench-") as name, running(Path(name)) as dsn:
        migrate(dsn)
        with serving(dsn, Path(name)) as service:
            measuring = run(
                service,
                dsn,
                chosen.events,
                chosen.long_tasks,
                chosen.seconds,
                chosen.only,
                pause=not chosen.no_pause,
            )
            faults = uvloop.run(measuring)
    for fault in faults:
        print(f"FAILED: {fault}", file=sys.stderr)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
