"""Logs of any length, made by the code that writes live, and loaded by COPY."""

import random
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import asyncpg
import orjson

from commands.commands import Command, CreateTask, DeleteTask, RestoreTask, ToggleTask, UpdateTask
from commands.decider import TaskState, decide, moment
from db.dsn import connect_arguments
from db.pool import Connection
from events import hash_chain
from events.projection import TaskRow, project
from events.serialization import encode, header, meta
from events.store.append import RecordedEvent
from events.task import Event, Fields, Metadata, Task, evolve

BEGINNING = datetime(2025, 1, 1, tzinfo=UTC)
_APART = 30
"""Seconds from one event to the next, on average: a million events make a year."""
_LATELY = 40
"""Average distance of a command's task from the newest one, in tasks."""

_KEYED = 0.3
"""Share of requests with an idempotency key."""

_VERBS = (
    "Buy", "Call", "Book", "Fix", "Send", "Write", "Read", "Plan", "Pay", "Clean", "Review", "Order", "Return",
    "Ask for", "Prepare", "Cancel",
)  # fmt: skip
_THINGS = (
    "oat milk", "the dentist", "train tickets", "the kitchen tap", "the invoice", "a letter to Zoë", "chapter four",
    "the trip to São Paulo", "the electricity bill", "the garage", "the pull request", "new running shoes",
    "the library books", "a second offer", "slides for Monday", "the gym contract", "Müller's cake", "日本語の宿題",
)  # fmt: skip
_TAILS = (
    "", "", "", "before Friday", "with Anna", "(urgent)", "for the office", "as agreed on the phone", "again", "☕",
)  # fmt: skip
_SENTENCES = (
    "The number is on the back of the card.",
    "Don't forget the receipt, they asked for it last time.",
    "Anna said it could wait until next week, but it would be better done before she leaves.",
    "See the mail of Tuesday.",
    "Costs about 40 €, which is fine.",
    "If they are closed, try the shop across the street; it is open until eight.",
    '"As soon as possible" was what he wrote.',
    "Needs two people and a ladder.",
)
_AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
    "node",
)


class Author:
    """A user with random events: the seed and the id decide all of them."""

    COMMANDS: Mapping[str, int] = {"create": 30, "update": 28, "toggle": 27, "delete": 10, "restore": 5}
    """Commands, with their weights."""

    def __init__(self, user_id: str, *, seed: int = 1) -> None:
        self.user_id = user_id
        self.chance = random.Random(f"{seed} {user_id}")
        self._now = BEGINNING
        # By task, oldest first: the state to decide the next command on. `then` is the task before its last event.
        self._living: dict[UUID, TaskState] = {}
        self._deleted: dict[UUID, TaskState] = {}

    @property
    def tasks(self) -> Iterator[Task]:
        """Yield the tasks that aren't deleted by now."""
        return (known.task for known in self._living.values() if known.task)

    def events(self, count: int) -> Iterator[Event]:
        """Make and yield the next `count` events."""
        while count:
            self._now += timedelta(seconds=self.chance.expovariate(1 / _APART))
            event = self._do(self._command())
            if event:
                yield event
                count -= 1

    def _do(self, command: Command) -> Event | None:
        id_ = command.task_id
        found = self._living.get(id_) or self._deleted.get(id_) or TaskState()
        payload = decide(command, found)
        if payload is None:
            return None
        event = Event(
            id=self._uuid7(),
            user_id=self.user_id,
            task_id=id_,
            version=found.version + 1,
            at=moment(self._now, found.at),
            actor=self.user_id,
            payload=payload,
            metadata=self._metadata(),
            salt=self.chance.randbytes(16),
        )
        task = evolve(found.task, event)
        there, gone = (self._living, self._deleted) if task else (self._deleted, self._living)
        gone.pop(id_, None)
        there[id_] = TaskState(task=task, version=event.version, at=event.at, last=task or found.task, then=found.task)
        return event

    def _command(self) -> Command:
        chosen = self.chance.choices(list(self.COMMANDS), list(self.COMMANDS.values()))[0]
        user = self.user_id
        if chosen == "restore" and (id_ := self._some(self._deleted)) and self.chance.random() < 0.8:
            return RestoreTask(user_id=user, task_id=id_)
        if chosen == "create" or not (id_ := self._some(self._living)):
            return CreateTask(user_id=user, task_id=self._uuid7(), fields=self._fields())
        match chosen:
            case "toggle":
                return ToggleTask(user_id=user, task_id=id_)
            case "delete":
                return DeleteTask(user_id=user, task_id=id_)
            case "restore" if then := self._living[id_].then:
                return RestoreTask(user_id=user, task_id=id_, version=then.version)
            case _:
                return UpdateTask(user_id=user, task_id=id_, fields=self.changes())

    def _some(self, tasks: dict[UUID, TaskState]) -> UUID | None:
        back = min(int(self.chance.expovariate(1 / _LATELY)), len(tasks) - 1)
        return next(islice(reversed(tasks), back, None)) if tasks else None

    def changes(self) -> Fields:
        """Return new values of one field, or of all, as from a form."""
        match self.chance.choices(["title", "description", "whole form"], [3, 4, 3])[0]:
            case "title":
                return Fields(title=self._title())
            case "description":
                return Fields(description=self.description())
            case _:
                return self._fields()

    def _fields(self) -> Fields:
        return Fields(title=self._title(), description=self.description(), completed=self.chance.random() < 0.03)

    def _title(self) -> str:
        words = (self.chance.choice(_VERBS), self.chance.choice(_THINGS), self.chance.choice(_TAILS))
        return " ".join(words).strip()

    def description(self) -> str | None:
        """Return a description of 120 characters on average: sentences, a list, now and then a long text, or none."""
        length, between = self.chance.choices(
            [(0, ""), (1, " "), (3, " "), (8, "\n- "), (60, "\n\n")], [35, 30, 24, 10, 1]
        )[0]
        return between.join(self.chance.choices(_SENTENCES, k=length)) or None

    def _metadata(self) -> Metadata:
        keyed = self.chance.random() < _KEYED
        return Metadata(
            request_id=self._uuid7().hex,
            client_address=f"198.51.100.{self.chance.randrange(1, 255)}",
            client_agent=self.chance.choice(_AGENTS),
            idempotency_key=str(self._uuid7()) if keyed else None,
            fingerprint=self.chance.randbytes(32) if keyed else None,
        )

    def _uuid7(self) -> UUID:
        """Make a UUIDv7 (RFC 9562, section 5.7) of this author's clock and chance."""
        milliseconds = int(self._now.timestamp() * 1000)
        value = milliseconds << 80 | 7 << 76 | self.chance.getrandbits(12) << 64
        return UUID(int=value | 0b10 << 62 | self.chance.getrandbits(62))


def recorded_events(events: Iterable[Event]) -> Iterator[RecordedEvent]:
    """Number and hash a user's events, from the first one on."""
    last = hash_chain.GENESIS
    for seq, event in enumerate(events, 1):
        last = hash_chain.link(
            last, hash_chain.digest(header(event), encode(event.payload), meta(event.metadata), event.salt)
        )
        yield RecordedEvent(seq, last, event)


_EVENTS = (
    *("user_id", "seq", "hash", "id", "task_id", "version", "type", "at", "actor", "data"),
    *("request_id", "client_address", "client_agent", "idempotency_key", "fingerprint", "salt"),
)
_STREAMS = ("user_id", "seq", "hash")


def _row(each: RecordedEvent) -> tuple[Any, ...]:
    event, metadata = each.event, each.event.metadata
    return (
        *(event.user_id, each.seq, each.hash, event.id, event.task_id, event.version, type(event.payload).__name__),
        *(
            event.at,
            event.actor,
            orjson.dumps(encode(event.payload)).decode(),
            metadata.request_id,
            metadata.client_address,
        ),
        *(metadata.client_agent, metadata.idempotency_key, metadata.fingerprint, event.salt),
    )


async def load(connection: Connection, author: Author, count: int) -> RecordedEvent:
    """Write a new user's first `count` events (at least one) with stream and tasks, and return the last event.

    Runs in one transaction. Only the tasks are held in memory. Raises `ValueError` if `count` is 0.
    """
    last: RecordedEvent | None = None

    def rows() -> Iterator[tuple[Any, ...]]:
        nonlocal last
        for last in recorded_events(author.events(count)):
            yield _row(last)

    async with connection.transaction():
        await connection.copy_records_to_table("events", records=rows(), columns=_EVENTS)
        if last is None:
            raise ValueError("a log has at least one event")
        await connection.copy_records_to_table("tasks", records=map(project, author.tasks), columns=TaskRow._fields)
        await connection.copy_records_to_table(
            "streams", records=[(author.user_id, last.seq, last.hash)], columns=_STREAMS
        )
    return last


async def new_database(dsn: str, name: str) -> str:
    """Create a database on this server, and return its DSN."""
    connection = await asyncpg.connect(**connect_arguments(dsn))
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))


async def settle(connection: Connection) -> None:
    """Vacuum, analyze and checkpoint now, so that the server doesn't during a measurement."""
    await connection.execute("VACUUM (ANALYZE) events, tasks, streams")
    await connection.execute("CHECKPOINT")
