"""What is asked, and how: the service and its peer on one Postgres, loaded by turns with the same requests."""

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
from bench.connection import Answer, connect
from bench.kinds import MIXED, Kind, request
from bench.people import Creator, People, Person, populate
from bench.service import Service, free_port, started
from db.dsn import connect_arguments

POOL = 10
"""Connections of each worker, as the service has them unless told otherwise."""
DOOMED = 9_000
"""Tasks that there are to delete in one run."""
WARM_UP = 1.0
"""Seconds before the rounds of each kind of request."""

_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Contender:
    name: str
    service: Service
    dsn: str


def some(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count > 1)}"


@dataclass(frozen=True, slots=True)
class Setup:
    """How the requests of a comparison come."""

    connections: int
    workers: int = 1
    alone: bool = False
    """All are one user's."""

    def __str__(self) -> str:
        who = "one user" if self.alone else "many users"
        return f"{some(self.connections, 'connection')}, {who}, {some(self.workers, 'worker')}"


SETUPS = (Setup(1), Setup(32), Setup(100), Setup(32, alone=True), Setup(32, workers=2))


class Arena:
    """Everything that is asked, and the files of requests for it."""

    def __init__(
        self, folder: Path, secret: str, people: People, *, postmaster: int, rounds: int, seconds: float
    ) -> None:
        self.folder, self.secret, self.people = folder, secret, people
        self.postmaster, self.rounds, self.seconds = postmaster, rounds, seconds
        self._batch = itertools.count()

    async def runs(self, kind: Kind, setup: Setup, contenders: Sequence[Contender]) -> Mapping[str, list[wrk.Load]]:
        """Load the contenders by turns; of each its rounds.

        The processor time is that of the contender's processes and of all of Postgres, since the others are idle. With
        it goes what Postgres puts off (checkpoints, autovacuum), in whose round ever that is done.
        """
        sizes = {each.name: await self._look(kind, setup, each) for each in contenders}
        found: dict[str, list[wrk.Load]] = {each.name: [] for each in contenders}
        for number in range(self.rounds + 1):
            for each in contenders:
                file = await self._requests(kind, setup, each)
                load = await asyncio.to_thread(
                    wrk.run,
                    each.service.port,
                    file,
                    connections=setup.connections,
                    seconds=self.seconds if number else WARM_UP,
                    size=sizes[each.name],
                    once=kind.doomed,
                    processes=(each.service.pid, self.postmaster),
                )
                if number:
                    found[each.name].append(load)
        return found

    def _chosen(self, kind: Kind, setup: Setup) -> Sequence[Person]:
        if setup.alone:
            return self.people.large[:1]
        return self.people.large if kind.large else self.people.many

    async def _requests(self, kind: Kind, setup: Setup, contender: Contender) -> Path:
        if kind.doomed:
            return wrk.write(self.folder / "doomed", await self._doomed(setup, contender))
        file = self.folder / f"{kind.name} {setup.alone}".replace(" ", "-")
        return (
            file
            if file.exists() and not kind.renewed
            else wrk.write(file, list(kind.requests(self._chosen(kind, setup))))
        )

    async def _doomed(self, setup: Setup, contender: Contender) -> list[bytes]:
        """Deletions of tasks that are made for it."""
        batch, users = next(self._batch), 1 if setup.alone else 60
        authors = [Creator(f"doomed-{batch}-{number}") for number in range(users)]
        connection = await asyncpg.connect(**connect_arguments(contender.dsn))
        people = [await populate(connection, author, DOOMED // users, self.secret) for author in authors]
        await connection.close()
        return [
            request(person, "DELETE", f"tasks/{id_}")
            for ids in zip(*(person.tasks for person in people), strict=True)
            for person, id_ in zip(people, ids, strict=True)
        ]

    async def _look(self, kind: Kind, setup: Setup, contender: Contender) -> int:
        """Bytes of an answer that is as it must be. Raises `wrk.Failed`."""
        if kind is MIXED:
            return 0
        requests = await self._requests(kind, setup, contender)
        first = requests.read_bytes().split(b"\n", 1)[1]
        length = int(requests.read_bytes().split(b"\n", 1)[0])
        connection = await connect(contender.service.port)
        answer: Answer = await connection.ask(first[:length])
        connection.close()
        marks = len(re.findall(rb'"created_at"|"seq"', answer.body))
        if (answer.status, marks) != (kind.status, kind.marks):
            raise wrk.Failed(f"{contender.name}, {kind.name}: {answer.status}, {marks} items: {answer.body[:500]!r}")
        return answer.size


@contextmanager
def peer(dsn: str, folder: Path, secret: str, workers: int) -> Iterator[Service]:
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
