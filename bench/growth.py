"""A benchmark of request latency as the log grows: `make bench-growth`.

Loads logs of a hundred thousand, a million and five million events into databases of one server, by the code that
writes live. A service for each gets the same requests, by turns and one at a time, so that only the size of the tables
differs. In the end `daybook verify` checks all. Fails if it finds a mismatch, a response is wrong, or a median is more
than 1.25 times that of the smallest log.
"""

import argparse
import asyncio
import itertools
import multiprocessing
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, TypeAlias

import asyncpg
import jwt
import uvloop

from bench.connection import NoResponse, connect
from bench.load import Author, load, new_database, settle
from bench.machine import machine, settings, versions
from bench.service import Service, serving
from bench.soak import verified
from bench.visitor import Visitor, WrongResponse, visitor
from db.dsn import connect_arguments
from db.embedded import running
from db.migrate import migrate

Action: TypeAlias = Literal["create or delete", "get", "list", "audit"]
HEADINGS: Mapping[Action, str] = {
    "create or delete": "create",
    "get": "get",
    "list": "list page of 50",
    "audit": "audit page of 50",
}
SIZES = (100_000, 1_000_000, 5_000_000)
EVENTS, PEOPLE = 500, 100
"""Events of each user, and the number of users who send requests."""
MOST = 1.25
"""Largest ratio of a median to that of the first size."""
_ROUNDS, _EACH = 10, 200
"""Rounds, and requests of each kind in a round."""

_SERVER = {"shared_buffers": "2GB", "max_wal_size": "8GB", "checkpoint_timeout": "30min"}
"""Settings that keep checkpoints and the cache's size out of the figures."""


def fill(dsn: str, users: int) -> None:
    """Create the tables, and write the users' logs in two processes."""
    migrate(dsn)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.starmap(_fill, [(dsn, range(first, users, 2)) for first in range(2)])
    uvloop.run(_settled(dsn))


def _fill(dsn: str, numbers: range) -> None:
    async def load_all() -> None:
        connection = await asyncpg.connect(**connect_arguments(dsn))
        await connection.execute("SET synchronous_commit TO off")
        for number in numbers:
            await load(connection, Author(f"user-{number:06}"), EVENTS)
        await connection.close()

    asyncio.run(load_all())


async def _settled(dsn: str) -> None:
    connection = await asyncpg.connect(**connect_arguments(dsn))
    await settle(connection)
    await connection.close()


async def about(dsn: str) -> str:
    """Return the lines that describe machine and settings."""
    connection = await asyncpg.connect(**connect_arguments(dsn))
    text = f"{machine()}. {await versions(connection)}.\nPostgres: {await settings(connection)}."
    await connection.close()
    return text


def visitors(service: Service, numbers: Sequence[int]) -> list[Visitor]:
    """Make visitors for these users. Their tasks are generated again, not read."""
    until = datetime.now(UTC) + timedelta(days=1)
    found = []
    for number in numbers:
        author = Author(f"user-{number:06}")
        seq = len(list(author.events(EVENTS)))
        token = jwt.encode({"sub": author.user_id, "exp": until}, service.secret, algorithm="HS256")
        found.append(visitor(author.user_id, token, seq, author.tasks))
    return found


class System:
    """A system under test: a service with a log of its own size, its users, and the medians of the rounds."""

    def __init__(self, service: Service, users: int) -> None:
        self.service = service
        people = visitors(service, random.Random(users).sample(range(users), PEOPLE))
        self.people = itertools.cycle(people)
        self.chance = random.Random(1)
        self.medians: dict[Action, list[float]] = {action: [] for action in HEADINGS}

    async def round(self, action: Action) -> float:
        """Send the requests of a round, one after the other, and return their median latency in ms."""
        connection = await connect(self.service.port)
        latencies = []
        for _ in range(_EACH):
            person = next(self.people)
            person.usual = len(person.tasks)  # with no more than usual, the user creates one
            began = time.perf_counter()
            await person.act(action, connection, self.chance)
            latencies.append((time.perf_counter() - began) * 1000)
        connection.close()
        return statistics.median(latencies)


async def measure(systems: Sequence[System]) -> None:
    """Run all rounds, by turns over the systems, after one to warm up."""
    for number in range(_ROUNDS + 1):
        for action in HEADINGS:
            for system in systems:
                median = await system.round(action)
                if number:  # the first warms up
                    system.medians[action].append(median)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-growth", description=__doc__)
    parser.add_argument("--most", type=int, default=SIZES[-1], help="largest log, in events (%(default)s)")
    sizes = [size for size in SIZES if size <= parser.parse_args().most]
    faults: list[str] = []
    with (
        tempfile.TemporaryDirectory(prefix="daybook-bench-") as name,
        running(Path(name), settings=_SERVER) as dsn,
        ExitStack() as stack,
    ):
        dsns = {size: asyncio.run(new_database(dsn, f"events_{size}")) for size in sizes}
        print(uvloop.run(about(dsn)), flush=True)
        for size, each in dsns.items():
            fill(each, size // EVENTS)
        systems: dict[int, System] = {}
        for size, each in dsns.items():
            (Path(name) / f"service-{size}").mkdir()
            service = stack.enter_context(serving(each, Path(name) / f"service-{size}"))
            systems[size] = System(service, size // EVENTS)
        try:
            uvloop.run(measure(list(systems.values())))
        except (WrongResponse, NoResponse) as error:
            print(f"FAILED: {error}", file=sys.stderr)
            return 1
        print(
            f"Medians in ms of {_ROUNDS} rounds by turns, one connection, one worker; {EVENTS} events of each user.\n"
        )
        print("| events | " + " | ".join(HEADINGS.values()) + " |\n|--:|" + "--:|" * len(HEADINGS))
        first = systems[sizes[0]].medians
        for size, system in systems.items():
            ratios = {action: _ratio(of_rounds, first[action]) for action, of_rounds in system.medians.items()}
            cells = [
                f"{statistics.median(system.medians[action]):.2f} (**{ratios[action]:.2f}**)" for action in HEADINGS
            ]
            print(f"| {size:,} | {' | '.join(cells)} |", flush=True)
            faults += [
                f"{HEADINGS[action]} at {size:,}: {ratio:.2f}" for action, ratio in ratios.items() if ratio > MOST
            ]
        print()
        for size, each in dsns.items():
            report = verified(each)
            print(
                f"verify: {report['events']:,} events, {report['tasks']:,} tasks, clean: {report['clean']}.", flush=True
            )
            faults += [f"verify at {size:,}: {report['mismatches']}"] * (not report["clean"])
    for fault in faults:
        print(f"FAILED: {fault}", file=sys.stderr)
    return int(bool(faults))


def _ratio(later: Sequence[float], first: Sequence[float]) -> float:
    """Return the median ratio of neighbouring rounds."""
    return statistics.median(a / b for a, b in zip(later, first, strict=True))


if __name__ == "__main__":
    sys.exit(main())
