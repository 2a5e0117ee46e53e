"""A benchmark of write latency while the projection is rebuilt: `make bench-writes`.

Users write all the time and check every response. Meanwhile `tasks` is emptied and rebuilt, repeatedly, or the rebuild
is killed at a random moment. Fails if a write fails, an acknowledged write isn't in the log and the projection in the
end, or `daybook verify` finds a mismatch.
"""

import argparse
import asyncio
import random
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import jwt

from bench.load import Author, load, settle
from bench.service import Service, serving
from db.dsn import connect_arguments
from db.embedded import running
from db.migrate import migrate

Task = dict[str, Any]


class BenchmarkFailed(Exception):
    """A write or a command failed, or an acknowledged write is missing."""


@dataclass(slots=True)
class Writer:
    """A user who sends one write after the other, and checks each response against the earlier ones."""

    client: httpx2.AsyncClient
    user: str
    seed: int
    pause: float = 0.0
    """Seconds from a response to the next write, on average."""
    tasks: dict[str, Task] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    events: int = 0
    latencies: list[tuple[float, float]] = field(default_factory=list)
    """Time when each write was sent, and its latency, in seconds."""

    async def write(self, until: asyncio.Event) -> None:
        """Send writes until the event is set. Raises `BenchmarkFailed` if a response is wrong."""
        chance = random.Random(self.seed)
        while not until.is_set():
            await self._one(chance)
            if self.pause:
                await asyncio.sleep(chance.expovariate(1 / self.pause))

    async def _one(self, chance: random.Random) -> None:
        action = chance.choices(["create", "update", "toggle", "delete", "restore"], [3, 3, 3, 2, 1])[0]
        if action == "restore" and self.deleted:
            id_ = chance.choice(sorted(self.deleted))
            self._took(await self._send("POST", f"/{id_}/restore"), id_, {})
            self.deleted.discard(id_)
        elif action == "create" or not self.tasks:
            title = f"task {chance.random()}"
            task = await self._send("POST", "", {"title": title})
            self._took(task, task["id"], {"title": title, "completed": False, "version": 1})
        else:
            id_ = chance.choice(sorted(self.tasks))
            known = self.tasks[id_]
            due = {**known, "version": known["version"] + 1}
            match action:
                case "update":
                    due["title"] = f"title {chance.random()}"
                    self._took(await self._send("PATCH", f"/{id_}", {"title": due["title"]}), id_, due)
                case "toggle":
                    due["completed"] = not known["completed"]
                    del due["completed_at"]
                    self._took(await self._send("PATCH", f"/{id_}/complete"), id_, due)
                case _:
                    await self._send("DELETE", f"/{id_}")
                    del self.tasks[id_]
                    self.deleted.add(id_)
                    self.events += 1

    def _took(self, response: Task, id_: str, due: Mapping[str, Any]) -> None:
        for name, value in due.items():
            if name != "updated_at" and response[name] != value:
                raise BenchmarkFailed(f"{self.user}: {name} of {id_} is {response[name]!r}, and should be {value!r}")
        self.tasks[id_] = response
        self.events += 1

    async def _send(self, method: str, path: str, body: Task | None = None) -> Task:
        sent = time.perf_counter()
        response = await self.client.request(method, f"/api/{self.user}/tasks{path}", json=body)
        self.latencies.append((sent, time.perf_counter() - sent))
        if not 200 <= response.status_code < 300:
            raise BenchmarkFailed(f"{method} {self.user}{path}: {response.status_code} {response.text}")
        result: Task = response.json() if response.content else {}
        return result

    async def check(self, connection: asyncpg.Connection) -> None:
        """Check that log and projection hold every acknowledged write, and nothing else. Raises `BenchmarkFailed`."""
        events = await connection.fetchval("SELECT count(*) FROM events WHERE user_id = $1", self.user)
        rows = await connection.fetch(
            "SELECT id, document::json ->> 'title' AS title, completed, version FROM tasks WHERE user_id = $1",
            self.user,
        )
        projected = {str(row["id"]): tuple(row)[1:] for row in rows}
        due = {id_: (task["title"], task["completed"], task["version"]) for id_, task in self.tasks.items()}
        if events != self.events or projected != due:
            raise BenchmarkFailed(f"{self.user}: {events} events of {self.events}; tasks {projected} instead of {due}")


def client(url: str, secret: str, user: str) -> httpx2.AsyncClient:
    """Make an HTTP client for one user, with their token."""
    claims = {"sub": user, "exp": datetime.now(UTC) + timedelta(hours=1)}
    token = jwt.encode(claims, secret, algorithm="HS256")
    return httpx2.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30)


_WRITERS = 20
_PAUSE = 0.1
"""Seconds from a writer's response to the next write. The machine is idle for a third of the time, so that writers
don't wait for each other."""
_BYSTANDERS = 300
"""Number of users who don't write, with a hundred events each."""


@dataclass(frozen=True, slots=True)
class Latencies:
    """Latencies of writes, in milliseconds."""

    what: str
    writes: int
    median: float
    p99: float
    longest: float

    def __str__(self) -> str:
        return f"| {self.what} | {self.writes:,} | {self.median:.1f} | **{self.p99:.1f}** | {self.longest:.1f} |"


HEAD = """\
| meanwhile | writes | median, ms | **p99, ms** | longest, ms |
|---|--:|--:|--:|--:|"""


def latencies(what: str, writers: list[Writer], since: float) -> Latencies:
    """Summarize the latencies of writes that were sent since then."""
    took = sorted(seconds * 1000 for writer in writers for sent, seconds in writer.latencies if sent >= since)
    return Latencies(what, len(took), took[len(took) // 2], took[len(took) * 99 // 100], took[-1])


async def rebuild(dsn: str, *, kill_after: float | None = None, sharded: bool = False) -> None:
    """Run `daybook rebuild`, and kill it after `kill_after` seconds, if given.

    Raises `BenchmarkFailed` if it fails by itself.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", "rebuild"),
        env={"DATABASE_URL": dsn, "DATABASE_SHARDED": str(sharded).lower()},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    if kill_after is not None:
        await asyncio.sleep(kill_after)
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
    output, _ = await process.communicate()
    if kill_after is None and process.returncode:
        raise BenchmarkFailed(output.decode())


async def empty(connection: asyncpg.Connection, number: int) -> None:
    """Empty the projection by TRUNCATE, or by DELETE if `number` is even."""
    if number % 2:
        await connection.execute("TRUNCATE tasks")
        return
    while True:
        with suppress(asyncpg.DeadlockDetectedError):  # with a statement on several users: one of the two is refused
            await connection.execute("DELETE FROM tasks")
            return


async def measure(dsn: str, service: Service, rounds: int) -> None:
    """Print the latencies of writes at rest, during rebuilds, and during rebuilds that are killed.

    Raises `BenchmarkFailed`.
    """
    connection = await asyncpg.connect(**connect_arguments(dsn))
    for number in range(_BYSTANDERS):
        await load(connection, Author(f"bystander-{number}"), 100)
    await settle(connection)
    url, chance = f"http://127.0.0.1:{service.port}", random.Random(1)
    writers = [
        Writer(client(url, service.secret, f"writer-{number}"), f"writer-{number}", number, _PAUSE)
        for number in range(_WRITERS)
    ]
    over = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for writer in writers:
            group.create_task(writer.write(over))
        await asyncio.sleep(2)
        began = time.perf_counter()
        await asyncio.sleep(10)
        print(latencies("nothing", writers, began), flush=True)
        began = time.perf_counter()
        for _ in range(rounds):
            await rebuild(dsn)
        print(latencies(f"{rounds} rebuilds of a correct projection", writers, began), flush=True)
        began = time.perf_counter()
        for number in range(rounds):
            await empty(connection, number)
            await rebuild(dsn)
        print(latencies(f"{rounds} times emptied and rebuilt", writers, began), flush=True)
        began = time.perf_counter()
        for number in range(rounds):
            await empty(connection, number)
            await rebuild(dsn, kill_after=chance.uniform(0.3, 1.5))
        print(latencies(f"{rounds} times emptied, the rebuild killed", writers, began), flush=True)
        await rebuild(dsn)
        over.set()
    for writer in writers:
        await writer.check(connection)
        await writer.client.aclose()
    verified = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli", "verify", env={"DATABASE_URL": dsn}, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await verified.communicate()
    await connection.close()
    print(f"\n{sum(writer.events for writer in writers):,} acknowledged writes, all there. verify: {output.decode()}")
    if verified.returncode:
        raise BenchmarkFailed(output.decode())


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-writes", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="rebuilds of each kind (%(default)s)")
    rounds: int = parser.parse_args().rounds
    status = 0
    with tempfile.TemporaryDirectory(prefix="daybook-bench-") as name, running(Path(name)) as dsn:
        migrate(dsn)
        with serving(dsn, Path(name)) as service:
            print(HEAD, flush=True)
            try:
                asyncio.run(measure(dsn, service, rounds))
            except* BenchmarkFailed as errors:
                print(errors.exceptions[0], file=sys.stderr)
                status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
