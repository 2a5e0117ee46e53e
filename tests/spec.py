"""Tests of decide and evolve without a database: given events, when a command, then events."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypedDict, cast
from uuid import UUID

import pytest

from commands.commands import Command, RestoreTask, UndoEvent
from commands.decider import TaskState, decide
from events.task import Event, Metadata, Task, TaskCreated, TaskEvent, evolve

USER = "ann"
TASK = UUID("019a9e3c-5f3a-7c21-9d52-3d0c5f0e8a11")
MILK = TaskCreated("Buy milk", None, False)
DAWN = datetime(2026, 11, 20, 6, 0, tzinfo=UTC)


class Ids(TypedDict):
    user_id: str
    task_id: UUID


def event(payload: TaskEvent, version: int, *, user_id: str = USER, task_id: UUID = TASK) -> Event:
    """Make an event of this payload; one second passes with each version."""
    return Event(
        id=UUID(int=version),
        user_id=user_id,
        task_id=task_id,
        version=version,
        at=DAWN + timedelta(seconds=version),
        actor=user_id,
        payload=payload,
        metadata=Metadata(request_id=f"request-{version}"),
        salt=bytes(16),
    )


def hash_at(version: int) -> bytes:
    """Give the hash of the event that made this version; of 0, of none."""
    return bytes([version]) * 32 if version else b""


def fold(*facts: TaskEvent) -> Task | None:
    task = None
    for version, payload in enumerate(facts, 1):
        task = evolve(task, event(payload, version))
    return task


MILK_TASK = cast("Task", evolve(None, event(MILK, 1)))


@dataclass(frozen=True)
class given:  # noqa: N801 - reads as a sentence
    facts: tuple[TaskEvent, ...]

    def __init__(self, *facts: TaskEvent) -> None:
        object.__setattr__(self, "facts", facts)

    def when(self, command: Command) -> "_When":
        return _When(self.facts, command)


@dataclass(frozen=True)
class _When:
    facts: tuple[TaskEvent, ...]
    command: Command

    def then(self, *facts: TaskEvent) -> None:
        payload = self._decide()
        assert (() if payload is None else (payload,)) == facts

    def then_raises(self, error: type[Exception], match: str | None = None) -> None:
        with pytest.raises(error, match=match):
            self._decide()

    def _decide(self) -> TaskEvent | None:
        states = [fold(*self.facts[:number]) for number in range(len(self.facts) + 1)]
        then, before = None, None
        if isinstance(self.command, UndoEvent):
            before, then = states[self.command.version - 1 : self.command.version + 1]
        if isinstance(self.command, RestoreTask):
            version = self.command.version
            then = states[version] if version is not None and version < len(states) else None
        return decide(
            self.command,
            TaskState(
                task=states[-1],
                version=len(self.facts),
                hash=hash_at(len(self.facts)),
                at=DAWN + timedelta(seconds=len(self.facts)) if self.facts else None,
                last=next((task for task in reversed(states) if task is not None), None),
                then=then,
                before=before,
            ),
        )
