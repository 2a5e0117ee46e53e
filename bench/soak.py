"""A soak test at half of the service's maximum throughput: `make soak`.

A closed loop over a hundred connections gives the maximum. An open loop then sends half as many requests a second, at
times that are fixed beforehand. A latency counts from that time on, so a stall counts for every request it delays.
Fails if a response is wrong, the service logs a warning, its memory grows, its latency grows, or the log isn't exactly
the acknowledged writes.
"""

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import jwt
import uvloop

from bench.connection import Connection, NoResponse, connect
from bench.load import Author, load, settle
from bench.machine import cpu_seconds, machine, settings, starved_seconds, versions
from bench.memory import resident
from bench.service import Refused, Service, serving
from bench.visitor import ACTIONS, READS, WRITES, Action, Visitor, WrongResponse, visitor
from db.dsn import connect_arguments
from db.embedded import running
from db.migrate import migrate
from db.roles import grant_service_role

CONNECTIONS = 100
USERS = 500
EVENTS = 300
"""Events of each user when the service starts. They leave some 75 tasks, more than a page."""

_WARM_UP = 10
_MAXIMUM = 15
"""Seconds of the closed loop that warms up, and of the one that measures the maximum."""

PARTS = 10
_SAMPLES = 3
"""Samples of the memory in each part of the run: one every ten seconds of five minutes."""

SLOWER = 1.25
"""Largest ratio of the second half's latency to the first's: the median of the parts' medians, for each action. A
checkpoint, an autovacuum or another load on the machine slows a part or two; a leak slows all that follow."""
GROWTH = 5_000_000
"""Largest growth of the service's memory in the run, in bytes, by the line of least squares through all samples: a
single one may be a peak. In five minutes of 400 requests a second, it is 42 bytes for each."""


@dataclass(slots=True)
class Part:
    """A tenth of the run. Latencies are seconds from when a request was due to its response."""

    latencies: "Mapping[Action, array[float]]" = field(
        default_factory=lambda: {action: array("d") for action in ACTIONS}
    )
    late: int = 0
    """Number of requests that were due while their connection still waited for the previous response."""
    overslept: float = 0.0
    """Largest delay, in seconds, with which the load generator itself sent a request that wasn't late."""
    starved: float = 0.0
    """Share of the time in which the service was ready to run but had no core."""
    sizes: list[int] = field(default_factory=list)
    """Samples of the service's memory, in bytes."""

    def of(self, actions: Iterable[Action]) -> list[float]:
        """Return the latencies of these actions together."""
        return [wait for action in actions for wait in self.latencies[action]]

    def __str__(self) -> str:
        reads, writes = self.of(READS), self.of(WRITES)
        columns = [
            f"{1000 * percentile(latencies, share):.1f}" for latencies in (reads, writes) for share in (0.5, 0.99, 1)
        ]
        count = f"{len(reads):,} | {len(writes):,} | {self.late:,}"
        disturbed = f"{1000 * self.overslept:.1f} | {self.starved:.0%}"
        return f"{count} | {' | '.join(columns)} | {disturbed} | {self.sizes[-1] / 1e6:.1f}"


HEAD = """\
| tenth | reads | writes | late | **read** p50 | p99 | max | **write** p50 | p99 | max | overslept | no core | memory |
|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"""


@dataclass(frozen=True, slots=True)
class Line:
    """A connection that users share."""

    connection: Connection
    visitors: Sequence[Visitor]
    chance: random.Random

    async def send_one(self) -> Action:
        """Send a random request of a random user, and return its action. Raises `WrongResponse` or `NoResponse`."""
        action = self.chance.choices(list(ACTIONS), list(ACTIONS.values()))[0]
        await self.chance.choice(self.visitors).act(action, self.connection, self.chance)
        return action


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The results of a run. Memory is in bytes; `service_busy` and `load_busy` are shares of one core."""

    seconds: int
    maximum: float
    """Requests a second in the closed loop."""
    started: int
    warm: int
    end: int
    service_busy: float
    load_busy: float
    parts: Sequence[Part]

    @property
    def growth(self) -> float:
        """Return the memory's growth from beginning to end, in bytes, by the line of least squares."""
        sizes = [size for part in self.parts for size in part.sizes]
        return statistics.linear_regression(range(len(sizes)), sizes).slope * (len(sizes) - 1)

    @property
    def slower(self) -> dict[Action, float]:
        """Return the second half's latency divided by the first's, by action: a slow one can't hide behind others."""
        return {
            action: _ratio_of_halves([percentile(part.latencies[action], 0.5) for part in self.parts])
            for action in ACTIONS
        }

    @property
    def faults(self) -> list[str]:
        """Return the reasons for which the run fails, as sentences."""
        slower = [
            f"{action} became slower: {ratio:.2f}" for action, ratio in self.slower.items() if not ratio <= SLOWER
        ]
        return slower + [f"memory grew by {self.growth / 1e6:.1f} MB"] * (self.growth > GROWTH)

    def __str__(self) -> str:
        writes, requests = (sum(len(part.of(actions)) for part in self.parts) for actions in (WRITES, ACTIONS))
        ratios = ", ".join(f"{action} {ratio:.2f}" for action, ratio in self.slower.items())
        return (
            f"Maximum: {self.maximum:,.0f} requests a second ({CONNECTIONS} connections, closed loop, {_MAXIMUM} s).\n"
            f"Soak: {requests / self.seconds:,.0f} a second for {self.seconds} s: {requests:,} requests, "
            f"{writes:,} of them writes, and no error.\n"
            f"p50, second half to first: {ratios} (of {SLOWER} allowed).\n"
            f"Resident: {self.started / 1e6:.1f} MB when it was ready, {self.warm / 1e6:.1f} when the soak began, "
            f"{self.end / 1e6:.1f} at its end; "
            f"growth by least squares {self.growth / 1e6:+.1f} MB (of {GROWTH / 1e6:.0f} allowed).\n"
            f"Of one core, the service took {self.service_busy:.0%}, its load {self.load_busy:.0%}."
        )


def percentile(latencies: Sequence[float], share: float) -> float:
    """Return the latency that this share (0 to 1) of all requests had at most; NaN if there is none."""
    return sorted(latencies)[min(int(len(latencies) * share), len(latencies) - 1)] if latencies else float("nan")


def _ratio_of_halves(medians: Sequence[float]) -> float:
    """Return the second half's median divided by the first's."""
    half = len(medians) // 2
    return statistics.median(medians[half:]) / statistics.median(medians[:half])


async def prepare(dsn: str, service: Service) -> tuple[list[Visitor], str]:
    """Load the users' logs. Return the users, and the lines that describe machine and settings."""
    connection = await asyncpg.connect(**connect_arguments(dsn))
    until = datetime.now(UTC) + timedelta(days=1)
    visitors = []
    for number in range(USERS):
        author = Author(f"user-{number:04}")
        last = await load(connection, author, EVENTS)
        token = jwt.encode({"sub": author.user_id, "exp": until}, service.secret, algorithm="HS256")
        visitors.append(visitor(author.user_id, token, last.seq, author.tasks))
    await settle(connection)
    about = (
        f"{machine()}. {await versions(connection)}.\n"
        f"One worker; {USERS} users with {EVENTS} events each; Postgres on the same machine "
        f"({await settings(connection)}). Times in ms, sizes in MB (1,000,000 bytes)."
    )
    await connection.close()
    return visitors, about


async def closed_loop(lines: Sequence[Line], seconds: float) -> float:
    """Return the requests a second if each line sends its next request when it has the response."""
    began = time.perf_counter()

    async def send(line: Line) -> int:
        count = 0
        while time.perf_counter() < began + seconds:
            await line.send_one()
            count += 1
        return count

    async with asyncio.TaskGroup() as group:
        sending = [group.create_task(send(line)) for line in lines]
    return sum(each.result() for each in sending) / (time.perf_counter() - began)


async def open_loop(lines: Sequence[Line], service: Service, rate: float, seconds: int) -> list[Part]:
    """Send `rate` requests a second at times that don't depend on the responses, and return the parts.

    The lines take turns, so that none idles for the five seconds after which the service closes a connection.
    """
    parts = [Part() for _ in range(PARTS)]
    due = list(_arrivals(rate, seconds))
    began = time.perf_counter() + 0.1
    async with asyncio.TaskGroup() as group:
        for number, line in enumerate(lines):
            group.create_task(_on_time(line, due[number :: len(lines)], began, seconds, parts))
        group.create_task(_sample(service.pid, began, seconds, parts))
    return parts


def _arrivals(rate: float, seconds: int) -> Iterator[float]:
    """Yield the times when requests are due, in seconds from the beginning, as a Poisson process."""
    chance = random.Random(1)
    moment = chance.expovariate(rate)
    while moment < seconds:
        yield moment
        moment += chance.expovariate(rate)


async def _on_time(line: Line, due: Sequence[float], began: float, seconds: int, parts: Sequence[Part]) -> None:
    for moment in due:
        part = parts[int(moment / seconds * len(parts))]
        early = began + moment - time.perf_counter()
        if early > 0:
            await asyncio.sleep(early)
            part.overslept = max(part.overslept, time.perf_counter() - began - moment)
        else:
            part.late += 1
        action = await line.send_one()
        part.latencies[action].append(time.perf_counter() - began - moment)


async def _sample(pid: int, began: float, seconds: int, parts: Sequence[Part]) -> None:
    starved = starved_seconds(pid)
    samples = [part for part in parts for _ in range(_SAMPLES)]
    for number, part in enumerate(samples, 1):
        await asyncio.sleep(began + number * seconds / len(samples) - time.perf_counter())
        part.sizes.append(resident(pid))
        if len(part.sizes) == _SAMPLES:
            part.starved = (starved_seconds(pid) - starved) / (seconds / len(parts))
            starved = starved_seconds(pid)
            _say(f"{number * seconds / len(samples):.0f} s: {part.sizes[-1] / 1e6:.1f} MB")


async def soak(service: Service, visitors: Sequence[Visitor], seconds: int) -> Run:
    """Warm up, measure the maximum, and run the soak. Raises `WrongResponse` or `NoResponse`, in a group."""
    started = resident(service.pid)
    lines = [
        Line(await connect(service.port), visitors[number::CONNECTIONS], random.Random(number))
        for number in range(CONNECTIONS)
    ]
    try:
        await closed_loop(lines, _WARM_UP)
        maximum = await closed_loop(lines, _MAXIMUM)
        _say(f"at most {maximum:,.0f} requests a second; now half of that for {seconds} s")
        warm = resident(service.pid)
        before = time.perf_counter(), cpu_seconds(service.pid), time.process_time()
        parts = await open_loop(lines, service, maximum / 2, seconds)
        after = time.perf_counter(), cpu_seconds(service.pid), time.process_time()
    finally:
        for line in lines:
            line.connection.close()
    took, service_busy, load_busy = (end - begin for begin, end in zip(before, after, strict=True))
    return Run(
        seconds=seconds,
        maximum=maximum,
        started=started,
        warm=warm,
        end=resident(service.pid),
        service_busy=service_busy / took,
        load_busy=load_busy / took,
        parts=parts,
    )


def verified(dsn: str, *, sharded: bool = False) -> dict[str, Any]:
    """Run `daybook verify` and return its report."""
    process = subprocess.run(
        [sys.executable, "-m", "cli", "verify", "--json"],
        env={"DATABASE_URL": dsn, "DATABASE_SHARDED": str(sharded).lower(), "LOG_LEVEL": "WARNING"},
        stdout=subprocess.PIPE,
        check=False,
    )
    found: dict[str, Any] = json.loads(process.stdout)
    return found


def _wrong_counts(found: dict[str, Any], visitors: Sequence[Visitor]) -> list[str]:
    """Compare the report's events and tasks with the acknowledged ones, and return differences and mismatches."""
    due = {"events": sum(each.seq for each in visitors), "tasks": sum(len(each.tasks) for each in visitors)}
    counts = [f"{found[what]:,} {what} are there, not {count:,}" for what, count in due.items() if found[what] != count]
    return counts + [f"verify: {found['mismatches']}"] * (not found["clean"])


def main() -> int:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--seconds", type=int, default=300, help="length of the soak (%(default)s)")
    seconds: int = parser.parse_args().seconds
    with tempfile.TemporaryDirectory(prefix="daybook-bench-") as name, running(Path(name)) as dsn:
        migrate(dsn)
        faults: list[str] = []
        try:
            login = f"postgresql://soak:a-password@{dsn.partition('@')[2]}"
            asyncio.run(grant_service_role(dsn, login))
            with serving(login, Path(name)) as service:
                visitors, about = uvloop.run(prepare(dsn, service))
                print(f"{about}\n\n{HEAD}", flush=True)
                run = uvloop.run(soak(service, visitors, seconds))
            for number, part in enumerate(run.parts, 1):
                print(f"| {number} | {part} |")
            found = verified(dsn)
            print(f"\n{run}\nverify: {found['events']:,} events, {found['tasks']:,} tasks, clean: {found['clean']}.")
            faults += run.faults + _wrong_counts(found, visitors)
        except* (WrongResponse, NoResponse, Refused) as errors:
            faults += map(str, errors.exceptions)
        if logged := (Path(name) / "service.log").read_text():
            faults.append(f"the service logged\n{logged}")
    for fault in faults:
        _say(f"FAILED: {fault}")
    return int(bool(faults))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
