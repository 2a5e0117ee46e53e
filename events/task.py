"""A task, the events that can happen to it, and the one function that folds them."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol, TypeAlias, TypedDict, assert_never
from uuid import UUID


class Fields(TypedDict, total=False):
    """The fields of a task that a user may set."""

    title: str
    description: str | None
    completed: bool


FIELDS = tuple(Fields.__annotations__)
"""Names of these fields, in the order in which they are shown."""


class Task(NamedTuple):
    """A task after `version` events. Times are UTC, cut to microseconds.

    It is a tuple in the order of the columns of `tasks`, since a rebuild makes, compares and writes nearly one per
    event.
    """

    user_id: str
    id: UUID
    title: str
    description: str | None
    completed: bool
    created_at: datetime
    updated_at: datetime
    version: int


class Snapshot(NamedTuple):
    """A task, and the hash of the event that left it so (32 bytes)."""

    task: Task
    hash: bytes


@dataclass(frozen=True, slots=True)
class TaskCreated:
    title: str
    description: str | None = None
    completed: bool = False


@dataclass(frozen=True, slots=True)
class TaskUpdated:
    """An update: only the fields that changed, with equal keys in `before` and `after`."""

    before: Fields
    after: Fields


@dataclass(frozen=True, slots=True)
class TaskToggled:
    """A change of `completed` to this value, from its opposite."""

    completed: bool


@dataclass(frozen=True, slots=True)
class TaskDeleted:
    """A deletion. It keeps the task as it last was, so that it can be shown and restored."""

    title: str
    description: str | None = None
    completed: bool = False


@dataclass(frozen=True, slots=True)
class TaskRestored:
    """A restoration to `version`: `after` has the fields that changed, or all if the task had been deleted.

    `created_at` is the task's own, so that the fold needs no event from before a deletion.
    """

    version: int
    created_at: datetime
    before: Fields
    after: Fields


TaskEvent: TypeAlias = TaskCreated | TaskUpdated | TaskToggled | TaskDeleted | TaskRestored


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """The known facts about the request that a command came with. The fold needs none of them."""

    request_id: str | None = None
    client_address: str | None = None
    client_agent: str | None = None
    idempotency_key: str | None = None
    fingerprint: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A payload with its task, time, actor and metadata. The append gives it `seq` and `hash`, its place in the log.

    `version` counts the task's own events from 1. `salt` is 16 random bytes, different for each event.
    """

    id: UUID
    user_id: str
    task_id: UUID
    version: int
    at: datetime
    actor: str
    payload: TaskEvent
    metadata: Metadata
    salt: bytes


class Foldable(Protocol):
    """The attributes of an event that the fold needs."""

    @property
    def user_id(self) -> str: ...
    @property
    def task_id(self) -> UUID: ...
    @property
    def version(self) -> int: ...
    @property
    def at(self) -> datetime: ...
    @property
    def payload(self) -> TaskEvent: ...


class FoldedEvent(NamedTuple):
    """An event with only the attributes that the fold needs, as a rebuild reads it."""

    user_id: str
    task_id: UUID
    version: int
    at: datetime
    payload: TaskEvent


class ImpossibleEvent(Exception):
    """An event that can't follow from the state it is applied to: the log is damaged or was read out of order."""


def evolve(task: Task | None, event: Foldable) -> Task | None:
    """Fold one event into a task; `None` is a task that doesn't exist (not yet, or no more).

    Live writes, rebuild, verify and time travel all use this function and no other.
    Raise `ImpossibleEvent` if the event doesn't fit.
    """
    payload = event.payload
    if isinstance(payload, TaskCreated):
        if task is not None or event.version != 1:
            raise _impossible(task, event)
        return _task(event, fields(payload), created_at=event.at)
    if isinstance(payload, TaskRestored) and task is None:
        if not payload.after.keys() >= set(FIELDS) or not 0 < payload.version < event.version - 1:
            raise _impossible(task, event)
        return _task(event, payload.after, created_at=payload.created_at)
    if task is None or event.version != task.version + 1:
        raise _impossible(task, event)
    match payload:
        case TaskUpdated() | TaskRestored():
            return _changed(task, event, payload.after)
        case TaskToggled():
            return _changed(task, event, Fields(completed=payload.completed))
        case TaskDeleted():
            return None
    assert_never(payload)


def _changed(task: Task, event: Foldable, after: Fields) -> Task:
    user_id, id_, title, description, completed, created_at, _, _ = task
    return Task(
        user_id,
        id_,
        after.get("title", title),
        after.get("description", description),
        after.get("completed", completed),
        created_at,
        event.at,
        event.version,
    )


def _task(event: Foldable, made: Fields, *, created_at: datetime) -> Task:
    """Make a task from an event that creates or restores it; `made` must have all the fields."""
    return Task(
        id=event.task_id,
        user_id=event.user_id,
        title=made["title"],
        description=made["description"],
        completed=made["completed"],
        created_at=created_at,
        updated_at=event.at,
        version=event.version,
    )


def fields(of: Task | TaskCreated | TaskDeleted) -> Fields:
    """Return the fields that a user may set, of a task or of a payload that has them all."""
    return Fields(title=of.title, description=of.description, completed=of.completed)


def _impossible(task: Task | None, event: Foldable) -> ImpossibleEvent:
    found = "no task" if task is None else f"a task at version {task.version}"
    return ImpossibleEvent(
        f"{type(event.payload).__name__} as version {event.version} of task {event.task_id} can't follow {found}"
    )
