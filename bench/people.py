"""Users of a comparison, with equal tasks and tokens in the databases of service and peer."""

import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg
import jwt

from bench.load import Author, load, settle
from bench.machine import machine, settings, versions
from db.dsn import connect_arguments
from events.task import Task

USERS, EVENTS = 500, 300
LARGE_USERS, LARGE = 40, 1_000
"""Number of users with a thousand tasks, and of the tasks. The first of them sends the loads of one user."""


class Creator(Author):
    """A user who only creates tasks."""

    COMMANDS: Mapping[str, int] = {"create": 1}


@dataclass(frozen=True, slots=True)
class Person:
    """A user of a comparison, with headers for each request."""

    user: str
    headers: bytes
    tasks: Sequence[str]
    """Ids of the user's tasks."""
    seq: int
    """Number of the user's last event."""


@dataclass(frozen=True, slots=True)
class People:
    """All users of a comparison: `many` with some 75 tasks each, and `large` with a thousand."""

    many: Sequence[Person]
    large: Sequence[Person]


async def populate(connection: asyncpg.Connection, author: Author, count: int, secret: str) -> Person:
    """Load a new user's first `count` events; into a peer's table, only the tasks that they leave."""
    has_log = await connection.fetchval("SELECT to_regclass('streams') IS NOT NULL")
    if has_log:
        seq = (await load(connection, author, count)).seq
    else:
        seq = len(list(author.events(count)))
        names = [name for name in Task._fields if name != "version"]
        records = [tuple(getattr(task, name) for name in names) for task in author.tasks]
        await connection.copy_records_to_table("tasks", records=records, columns=names)
    claims = {"sub": author.user_id, "exp": datetime.now(UTC) + timedelta(days=1)}
    token = jwt.encode(claims, secret, algorithm="HS256")
    headers = f"Host: 127.0.0.1\r\nUser-Agent: bench\r\nAuthorization: Bearer {token}\r\n".encode()
    return Person(author.user_id, headers, [str(task.id) for task in author.tasks], seq)


async def prepare(dsns: Sequence[str], secret: str) -> tuple[People, str]:
    """Load the same users and tasks into each database. Return them, and the lines that describe machine and settings.

    The first database is the service's, the second the peer's.
    """
    connections = [await asyncpg.connect(**connect_arguments(dsn)) for dsn in dsns]
    people = People((), ())
    for connection in connections:
        await connection.execute("SET synchronous_commit TO off")
        people = People(
            [await populate(connection, Author(f"user-{n:04}"), EVENTS, secret) for n in range(USERS)],
            [await populate(connection, Creator(f"large-{n:02}"), LARGE, secret) for n in range(LARGE_USERS)],
        )
        await connection.execute("RESET synchronous_commit")
    await settle(connections[0])
    await connections[1].execute("VACUUM (ANALYZE) tasks")
    about = (
        f"{platform.node()}: {machine()}. {await versions(connections[0])}, {_version_of('wrk', '-v')}.\n"
        f"Postgres: {await settings(connections[0])}."
    )
    for connection in connections:
        await connection.close()
    return people, about


def _version_of(*command: str) -> str:
    return " ".join(subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()[:2])
