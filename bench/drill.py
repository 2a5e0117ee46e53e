"""A drill for failures of a Citus cluster under load: `make bench-drill`.

The service runs on the cluster that DATABASE_URL names, and users create, toggle and read tasks all the time. In each
round, a server is killed or frozen by the operator's own commands, shards are moved, or the users' rows are deleted and
rebuilt. Fails if a user of another server got an error, a user of the broken one waited for too long or got no
Retry-After, an acknowledged write isn't in the log exactly once, or `daybook verify` finds a mismatch. The users'
events stay in the log.
"""

import argparse
import asyncio
import os
import random
import secrets
import shlex
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx2
import uvloop

from bench.service import Refused, serving
from bench.soak import percentile, verified
from bench.writers import BenchmarkFailed, client, rebuild
from config.errors import CannotRun
from db.connection import connect
from db.distribute import check_distribution
from db.dsn import connect_arguments

PAUSE, AGAIN = 0.05, 0.1
"""Seconds from a response to the user's next request on average, and to the repetition of a refused write."""
WARM_UP, RECOVERY = 3.0, 60.0
"""Seconds before the first fault, and from the end of a fault until each user must have had a write acknowledged."""
LIMIT = {"kill": 2, "freeze": 10}
"""Longest latency for the broken server's users, in seconds, by fault; if the server hangs, DATABASE_TIMEOUT."""
KNOWN, AT_ONCE = 2.0, 1.0
"""Seconds from the first refusal until the hanging server must be known, and the longest latency from then on."""
DONE = (200, 201)


@dataclass(frozen=True, slots=True)
class Request:
    """A request and its outcome. Times are those of `time.perf_counter`."""

    sent: float
    ended: float
    status: int
    """Status of the response, 0 if none came."""
    retry_after: bool = False
    in_doubt: bool = False
    """True for a write without a key that may have been made. Its client isn't told to repeat it."""


@dataclass(slots=True)
class User:
    """A user who sends one request at a time, and keeps every acknowledged write."""

    name: str
    affected: bool
    """True if the user's rows are on the server that is broken."""
    keyed: bool
    """True if each write has an `Idempotency-Key`, and is repeated until it is acknowledged."""
    client: httpx2.AsyncClient
    acknowledged: list[tuple[str, int]] = field(default_factory=list)
    """Task and version of each acknowledged write."""
    requests: list[Request] = field(default_factory=list)

    async def act(self, over: asyncio.Event) -> None:
        """Create, toggle and read tasks until the drill is over."""
        chance = random.Random(self.name)
        while not over.is_set():
            task = chance.choice(self.acknowledged)[0] if self.acknowledged else None
            match chance.choices(("create", "toggle", "get", "list"), (3, 4, 2, 1))[0]:
                case "toggle" if task:
                    await self._write("PATCH", f"/{task}/complete")
                case "get" if task:
                    await self._send("GET", f"/{task}")
                case "list":
                    await self._send("GET", "?limit=20")
                case _:
                    await self._write("POST", "")
            await asyncio.sleep(chance.expovariate(1 / PAUSE))

    async def _write(self, method: str, path: str) -> None:
        key = str(uuid4()) if self.keyed else None
        while True:
            response = await self._send(method, path, key)
            if response and response.status_code in DONE:
                task = response.json()
                self.acknowledged.append((task["id"], task["version"]))
                return
            if key is None or (response and response.status_code != 503):
                return
            await asyncio.sleep(AGAIN)

    async def _send(self, method: str, path: str, key: str | None = None) -> httpx2.Response | None:
        headers = {"Idempotency-Key": key} if key else {}
        body = {"title": "Rehearse a failure"} if method == "POST" else None
        response, sent = None, time.perf_counter()
        with suppress(httpx2.TransportError):
            response = await self.client.request(method, f"/api/{self.name}/tasks{path}", json=body, headers=headers)
        status, told = (response.status_code, "retry-after" in response.headers) if response else (0, False)
        in_doubt = status in (0, 503) and not told and method != "GET" and key is None
        self.requests.append(Request(sent, time.perf_counter(), status, told, in_doubt))
        return response

    async def lost(self, connection: asyncpg.Connection) -> list[str]:
        """Return acknowledged writes that aren't in the log, and events that no write explains, as sentences."""
        rows = await connection.fetch("SELECT task_id, version FROM events WHERE user_id = $1", self.name)
        missing = Counter(self.acknowledged) - Counter((str(task), version) for task, version in rows)
        unknown = len(rows) - len(self.acknowledged)
        in_doubt = sum(each.in_doubt for each in self.requests)
        found = [f"{self.name}: acknowledged, and not in the log: {dict(missing)}"] * bool(missing)
        return found + [f"{self.name}: {unknown} events more than writes"] * (unknown > in_doubt)


@dataclass(frozen=True, slots=True)
class Round:
    """The requests of one fault, from its beginning until each user had a write acknowledged again.

    `affected` holds requests that the broken server's users sent before `over`, when the mending began. `back` is the
    number of seconds from the end of the mending until every user had a write acknowledged.
    """

    fault: str
    began: float
    over: float
    affected: Sequence[Request]
    others: Sequence[Request]
    back: float

    @property
    def refused(self) -> Sequence[Request]:
        """Return the affected requests that got a 503."""
        return [each for each in self.affected if each.status == 503]

    @property
    def first(self) -> float:
        """Return the time of the first 503, infinity if there was none."""
        return min((each.ended for each in self.refused), default=float("inf"))

    @property
    def later(self) -> float:
        """Return the longest latency of requests sent once the server must have been known to hang."""
        return latency(each for each in self.affected if each.sent >= self.first + KNOWN)

    @property
    def errors(self) -> Counter[int]:
        """Count the other users' responses that aren't allowed, by status. While rows are missing, a 404 is."""
        expected = (*DONE, 404) if self.fault == "rebuild" else DONE
        return Counter(each.status for each in self.others if each.status not in expected)

    @property
    def violations(self) -> list[str]:
        """Return the guarantees that the service broke in this round, as sentences."""
        found = [f"other users got {dict(self.errors)}"] * bool(self.errors)
        if self.fault not in LIMIT:
            return found
        wrong = {each.status for each in self.affected} - {*DONE, 503}
        untold = sum(not (each.retry_after or each.in_doubt) for each in self.refused)
        found += [f"the server's users got {wrong}"] * bool(wrong)
        found += [f"{untold} times 503 had no Retry-After"] * bool(untold)
        found += ["no request was refused: does --break stop the server?"] * (not self.refused)
        found += [f"a response took {latency(self.affected):.2f} s"] * (latency(self.affected) > LIMIT[self.fault])
        late = self.fault == "freeze" and self.later > AT_ONCE
        return found + [f"later, a response took {self.later:.2f} s"] * late

    def __str__(self) -> str:
        statuses = sorted(Counter(each.status for each in self.affected).items())
        told = sum(each.retry_after for each in self.refused) / max(len(self.refused), 1)
        cells = [f"{self.over - self.began:.1f}", ", ".join(f"{status}: {count}" for status, count in statuses)]
        latencies = [self.first - self.began, latency(self.refused, 0.5), latency(self.affected), self.later, self.back]
        cells += [f"{told:.1%}", *(f"{each:.2f}" for each in latencies)] if self.affected else [""] * 6
        cells += [f"{len(self.others):,}", f"**{self.errors.total()}**"]
        cells += [f"{latency(self.others, 0.5):.3f}", f"{latency(self.others):.2f}"]
        return " | ".join(cells)


HEAD = """\
| round | s | its users' statuses | with Retry-After | first 503, s | p50 of 503, s | longest, s | later, s | back, s \
| others' requests | errors | p50, s | longest, s |
|--:|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"""


def latency(requests: Iterable[Request], share: float = 1) -> float:
    """Return the latency, in seconds, that this share of the requests took at most; NaN if there is no request."""
    return percentile([each.ended - each.sent for each in requests], share)


SERVERS = """
SELECT name, (nodename, nodeport) = ($2::text, $3::text::int) FROM unnest($1::text[]) AS name
JOIN pg_dist_placement ON shardid = get_shard_id_for_distribution_column('streams', name)
JOIN pg_dist_node USING (groupid) WHERE noderole = 'primary' ORDER BY name
"""


async def names(connection: asyncpg.Connection, count: int, server: Sequence[str]) -> list[tuple[str, bool, bool]]:
    """Choose names of users: if there is a server, half of them are on it. Every second user sends keys.

    Return name, affected and keyed of each. Raises `BenchmarkFailed` if too few names fit.
    """
    some = [f"drill-{secrets.token_hex(4)}" for _ in range(count * 20)]
    rows = [tuple(row) for row in await connection.fetch(SERVERS, some, *server)]
    there = [row for row in rows if row[1]][: count // 2]
    elsewhere = [row for row in rows if not row[1]][: count - len(there)]
    if len(there + elsewhere) < count or bool(server[0]) != bool(there):
        raise BenchmarkFailed("too few shards are on that server, or on the others")
    return [(name, affected, number % 2 == 0) for number, (name, affected) in enumerate(there + elsewhere)]


@dataclass(frozen=True, slots=True)
class Drill:
    """A fault that is repeated, and the users under it. The connection is that of the tables' owner."""

    options: argparse.Namespace
    owner: str
    connection: asyncpg.Connection
    users: Sequence[User]

    async def run(self) -> list[str]:
        """Run and print all rounds; return their violations. Raises `BenchmarkFailed` if a fault can't be caused."""
        broken: list[str] = []
        over = asyncio.Event()
        print(f"\n{HEAD}", flush=True)
        async with asyncio.TaskGroup() as group:
            for user in self.users:
                group.create_task(user.act(over))
            try:
                await asyncio.sleep(WARM_UP)
                await self._all_write()
                for number in range(1, self.options.rounds + 1):
                    each = await self._round(number)
                    print(f"| {number} | {each} |", flush=True)
                    broken += [f"round {number}: {violation}" for violation in each.violations]
            finally:
                over.set()
        return broken

    async def _round(self, number: int) -> Round:
        fault, began = self.options.fault, time.perf_counter()
        if fault in LIMIT:
            over = await self._break()
        else:
            await (self._move(keeps=number % 2 == 1) if fault == "move" else self._rebuild())
            over = time.perf_counter()
        back = await self._all_write()
        seen: dict[bool, list[Request]] = {True: [], False: []}
        for user in self.users:
            seen[user.affected] += [each for each in user.requests if each.ended >= began]
        return Round(fault, began, over, [each for each in seen[True] if each.sent < over], seen[False], back)

    async def _break(self) -> float:
        """Break the server and mend it. Return the time when the mending began."""
        try:
            await _command(self.options.break_command)
            await asyncio.sleep(self.options.seconds)
        finally:
            over = time.perf_counter()
            await _command(self.options.mend_command)
        return over

    async def _all_write(self) -> float:
        """Wait until each user has had a write acknowledged, and return the seconds. Raises `BenchmarkFailed`."""
        began, before = time.perf_counter(), {user.name: len(user.acknowledged) for user in self.users}
        while any(len(user.acknowledged) == before[user.name] for user in self.users):
            if time.perf_counter() > began + RECOVERY:
                raise BenchmarkFailed(f"not every user could write {RECOVERY:.0f} s later")
            await asyncio.sleep(0.01)
        return time.perf_counter() - began

    async def _move(self, *, keeps: bool) -> None:
        """Have Citus move shards onto the server, which is added if it is missing, or move all of them away from it."""
        fetch, server = self.connection.fetchval, self.options.server
        await fetch("SELECT citus_add_node($1, $2::text::int)", *server)
        await fetch("SELECT citus_set_node_property($1, $2::text::int, 'shouldhaveshards', $3)", *server, keeps)
        job = await fetch("SELECT citus_rebalance_start()")
        await fetch("SELECT citus_rebalance_wait()")
        state = await fetch("SELECT state::text FROM pg_dist_background_job WHERE job_id = $1", job)
        if state != "finished":
            raise BenchmarkFailed(f"the rebalance is {state or 'not needed'}")

    async def _rebuild(self) -> None:
        """Delete the users' rows of `tasks`, and rebuild all."""
        for user in self.users:
            await self.connection.execute("DELETE FROM tasks WHERE user_id = $1", user.name)
        await rebuild(self.owner, sharded=True)

    async def check_log(self) -> list[str]:
        """Return lost writes and mismatches, as sentences, once all users have stopped."""
        lost = [await user.lost(self.connection) for user in self.users]
        state = verified(self.owner, sharded=True)
        count = sum(len(user.acknowledged) for user in self.users)
        print(f"\n{count:,} acknowledged writes. verify: {state['events']:,} events, clean: {state['clean']}.")
        return [each for found in lost for each in found] + [f"verify: {state['mismatches']}"] * (not state["clean"])


async def _command(line: str) -> None:
    process = await asyncio.create_subprocess_exec(*shlex.split(line), stdin=asyncio.subprocess.DEVNULL)
    if status := await process.wait():
        raise BenchmarkFailed(f"{line}: status {status}")


async def rehearse(options: argparse.Namespace, dsn: str, owner: str, folder: Path) -> list[str]:
    """Start the service, run the drill, check the log, and return every violation."""
    print(await check_distribution(owner))
    connection = await connect(**connect_arguments(owner))
    try:
        chosen = await names(connection, options.users, options.server if options.fault in LIMIT else ("", "0"))
        with serving(dsn, folder, settings={"DATABASE_SHARDED": "true", "DATABASE_URL_DIRECT": owner}) as service:
            url = f"http://127.0.0.1:{service.port}"
            users = [User(*each, client(url, service.secret, each[0])) for each in chosen]
            drill = Drill(options, owner, connection, users)
            broken = await drill.run()
            for user in users:
                await user.client.aclose()
        return broken + await drill.check_log()
    finally:
        await connection.close()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make bench-drill", description=__doc__)
    parser.add_argument("fault", choices=("kill", "freeze", "move", "rebuild"))
    parser.add_argument("--rounds", type=int, default=3, help="rounds (%(default)s)")
    parser.add_argument("--users", type=int, default=24, help="users, half of them on the broken server (%(default)s)")
    parser.add_argument("--seconds", type=float, default=15, help="time from --break to --mend (%(default)s)")
    parser.add_argument("--server", nargs=2, metavar=("HOST", "PORT"), help="the worker, as the coordinator knows it")
    parser.add_argument(
        "--break", dest="break_command", metavar="COMMAND", help="command that kills or freezes the worker"
    )
    parser.add_argument("--mend", dest="mend_command", metavar="COMMAND", help="command that starts or thaws it")
    options = parser.parse_args(arguments)
    dsn = os.environ.get("DATABASE_URL", "")
    needed = [options.server, options.break_command, options.mend_command]
    if not dsn or not all({"kill": needed, "freeze": needed, "move": needed[:1]}.get(options.fault, [])):
        parser.error("DATABASE_URL must be set; kill and freeze need --server, --break and --mend, move needs --server")
    broken: list[str] = []
    with tempfile.TemporaryDirectory(prefix="daybook-bench-") as folder:
        try:
            broken += uvloop.run(rehearse(options, dsn, os.environ.get("DATABASE_URL_DIRECT", dsn), Path(folder)))
        except* (BenchmarkFailed, Refused, CannotRun) as errors:
            broken += map(str, errors.exceptions)
    for each in broken:
        print(f"FAILED: {each}", file=sys.stderr)
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
