"""The load generator of a comparison: candidates on one Postgres get the same requests by turns."""

import asyncio
import itertools
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from bench import wrk
from bench.connection import Response, connect
from bench.kinds import MIXED, Kind, request
from bench.people import Creator, People, Person, populate
from bench.service import Service, free_port, started
from db.dsn import connect_arguments

POOL = 10
"""Database connections of each worker: the service's default."""
DELETIONS = 8_000
"""Tasks that are made for the deletions of each second of a round."""
WARM_UP = 1.0
"""Seconds of load before the rounds of each kind of request."""

_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A system under test: a running service, and the database that it uses."""

    name: str
    service: Service
    dsn: str


def plural(count: int, what: str) -> str:
    """Return number and noun, the noun in the plural if there are several."""
    return f"{count} {what}{'s' * (count > 1)}"


@dataclass(frozen=True, slots=True)
class Setup:
    """The connections, workers and users of a load."""

    connections: int
    workers: int = 1
    one_user: bool = False
    """True if all requests are of the same user."""

    def __str__(self) -> str:
        who = "one user" if self.one_user else "many users"
        return f"{plural(self.connections, 'connection')}, {who}, {plural(self.workers, 'worker')}"


SETUPS = (Setup(1), Setup(32), Setup(100), Setup(32, one_user=True), Setup(32, workers=2))


class LoadGenerator:
    """A load generator: makes files of requests, and has wrk send them to the candidates."""

    def __init__(
        self, folder: Path, secret: str, people: People, *, postmaster: int, rounds: int, seconds: float
    ) -> None:
        self.folder, self.secret, self.people = folder, secret, people
        self.postmaster, self.rounds, self.seconds = postmaster, rounds, seconds
        self._batch = itertools.count()

    async def run(self, kind: Kind, setup: Setup, candidates: Sequence[Candidate]) -> Mapping[str, list[wrk.Load]]:
        """Load the candidates by turns, after a warm-up, and return the rounds of each by its name.

        The processor time is that of the candidate's processes and of all of Postgres, since the others are idle. It
        includes deferred work of Postgres (checkpoints, autovacuum), even if another candidate's round caused it.
        """
        sizes = {each.name: await self._response_size(kind, setup, each) for each in candidates}
        found: dict[str, list[wrk.Load]] = {each.name: [] for each in candidates}
        for number in range(self.rounds + 1):
            seconds = self.seconds if number else WARM_UP
            for each in candidates:
                file = await self._request_file(kind, setup, each, seconds)
                load = await asyncio.to_thread(
                    wrk.run,
                    each.service.port,
                    file,
                    connections=setup.connections,
                    seconds=seconds,
                    size=sizes[each.name],
                    once=kind.deletes,
                    processes=(each.service.pid, self.postmaster),
                )
                if kind.deletes and load.rate * seconds > DELETIONS * seconds - 2 * setup.connections:
                    raise wrk.Failed(f"{each.name} deleted all tasks before the round ended: raise DELETIONS")
                if number:
                    found[each.name].append(load)
        return found

    def _people(self, kind: Kind, setup: Setup) -> Sequence[Person]:
        if setup.one_user:
            return self.people.large[:1]
        return self.people.large[1:] if kind.large else self.people.many

    async def _request_file(self, kind: Kind, setup: Setup, candidate: Candidate, seconds: float) -> Path:
        if kind.deletes:
            return wrk.write(self.folder / "deletions", await self._deletions(setup, candidate, seconds))
        file = self.folder / f"{kind.name} {setup.one_user}".replace(" ", "-")
        return (
            file
            if file.exists() and not kind.renewed
            else wrk.write(file, list(kind.requests(self._people(kind, setup))))
        )

    async def _deletions(self, setup: Setup, candidate: Candidate, seconds: float) -> list[bytes]:
        """Make users with tasks, and the requests that delete these tasks."""
        batch, users = next(self._batch), 1 if setup.one_user else 60
        authors = [Creator(f"delete-{batch}-{number}") for number in range(users)]
        connection = await asyncpg.connect(**connect_arguments(candidate.dsn))
        count = int(DELETIONS * seconds) // users
        people = [await populate(connection, author, count, self.secret) for author in authors]
        await connection.close()
        return [
            request(person, "DELETE", f"tasks/{id_}")
            for ids in zip(*(person.tasks for person in people), strict=True)
            for person, id_ in zip(people, ids, strict=True)
        ]

    async def _response_size(self, kind: Kind, setup: Setup, candidate: Candidate) -> int:
        """Send one request, check its response, and return the size in bytes. Raises `wrk.Failed`.

        Returns 0 for the mixed load, since its responses have different sizes.
        """
        if kind is MIXED:
            return 0
        requests = await self._request_file(kind, setup, candidate, WARM_UP)
        first = requests.read_bytes().split(b"\n", 1)[1]
        length = int(requests.read_bytes().split(b"\n", 1)[0])
        connection = await connect(candidate.service.port)
        response: Response = await connection.send(first[:length])
        connection.close()
        items = len(re.findall(rb'"created_at"|"seq"', response.body))
        if (response.status, items) != (kind.status, kind.items):
            raise wrk.Failed(
                f"{candidate.name}, {kind.name}: {response.status}, {items} items: {response.body[:500]!r}"
            )
        return response.size


@contextmanager
def peer(dsn: str, folder: Path, secret: str, workers: int) -> Iterator[Service]:
    """Run the peer on this database. Raises `Refused` if it doesn't start."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "bench.peers.sqlmodel_tasks:app", "--port", str(port)]
    command += ["--workers", str(workers), "--no-access-log", "--log-level", "warning"]
    variables = {
        "PEER_DATABASE_URL": dsn.replace("postgresql://", "postgresql+asyncpg://"),
        "PEER_SECRET": secret,
        "PEER_POOL_SIZE": str(POOL),
        "PYTHONPATH": str(_ROOT),
    }
    with started(command, Service(0, port, secret), variables, folder, ready="/openapi.json") as service:
        yield service
