"""Who uses the services that are compared: the same users, tasks and tokens in each one's database."""

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
"""Users whose list has a thousand tasks; the first of them is who is alone in `one user`."""


class Creator(Author):
    """One who only creates tasks."""

    COMMANDS: Mapping[str, int] = {"create": 1}


@dataclass(frozen=True, slots=True)
class Person:
    user: str
    headers: bytes
    tasks: Sequence[str]
    """The ids of those that are there."""
    seq: int


@dataclass(frozen=True, slots=True)
class People:
    """`many` have some 75 tasks each, `large` a thousand."""

    many: Sequence[Person]
    large: Sequence[Person]


async def populate(connection: asyncpg.Connection, author: Author, count: int, secret: str) -> Person:
    """A new user, in the service's tables or the peer's."""
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
    """The same users and tasks in each database; and what it all runs on."""
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
