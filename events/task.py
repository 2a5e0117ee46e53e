"""A task, the events that can happen to it, and the one function that folds them."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Literal, NamedTuple, TypeAlias, TypedDict, assert_never
from uuid import UUID

Priority: TypeAlias = Literal["low", "medium", "high"]


class Fields(TypedDict, total=False):
    """The fields of a task that a user may set."""

    title: str
    description: str | None
    completed: bool
    priority: Priority | None
    due_date: str | None
    """A date (`2026-12-01`), or a moment as `events.serialization.rfc3339` formats it. As text, they are in order: a
    date comes before the moments of its day."""
    tags: list[str]


FIELDS = tuple(Fields.__annotations__)
"""Names of these fields, in the order in which they are shown."""


class Task(NamedTuple):
    """A task after `version` events. Times are UTC, cut to microseconds. It is a tuple, since a rebuild makes many."""

    user_id: str
    id: UUID
    title: str
    description: str | None
    completed: bool
    priority: Priority | None
    due_date: str | None
    tags: list[str]
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None
    """Time of the event that last completed it; `None` while it isn't completed."""
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
    priority: Priority | None = None
    due_date: str | None = None
    tags: list[str] = field(default_factory=list)


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
    priority: Priority | None = None
    due_date: str | None = None
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class TaskRestored:
    """A restoration to `version`: `after` has the fields that changed, or all if the task had been deleted.

    `created_at` is the task's own, so that the fold needs no event from before a deletion.
    """

    version: int
    created_at: datetime
    before: Fields
    after: Fields


LONGEST_REASON = 500
"""Largest number of characters of an erasure's reason."""


@dataclass(frozen=True, slots=True)
class TaskErased:
    """An erasure of the content of all events of the task. The task is gone, and this is its last event."""

    reason: str | None = None


@dataclass(frozen=True, slots=True)
class UserErased:
    """An erasure of all of a user's content so far. It is about no task: its task id is `NO_TASK`.

    Each task has had its own `TaskErased` before.
    """

    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ErasedContent:
    """The payload of an event without its content, which was erased: only the type is known."""

    type: str


TaskEvent: TypeAlias = (
    TaskCreated | TaskUpdated | TaskToggled | TaskDeleted | TaskRestored | TaskErased | UserErased | ErasedContent
)

NO_TASK = UUID(int=0)
"""Id that stands for no task. No task can have it."""

ENDS = frozenset((TaskDeleted.__name__, TaskErased.__name__))
"""Types of the events after which a task is gone."""

ERASURE_TYPES = (TaskErased.__name__, UserErased.__name__)
"""Types of the events that record an erasure. Their own content is never erased."""


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

    `version` counts the task's own events from 1. `salt` is 16 random bytes, different for each event; it is empty if
    the content was erased.
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


class FoldedEvent(NamedTuple):
    """An event with only the attributes that the fold needs, as a rebuild reads it."""

    user_id: str
    task_id: UUID
    version: int
    at: datetime
    payload: TaskEvent


Foldable: TypeAlias = Event | FoldedEvent
"""An event that can be folded."""


class Erased(Enum):
    """The state of a task whose content was erased: nobody knows any more what it was."""

    ERASED = "erased"


class ContentErased(Exception):
    """A state of the past can't be told, since the content of the task was erased."""


class ImpossibleEvent(Exception):
    """An event that can't follow from the state it is applied to: the log is damaged or was read out of order."""


def evolve(task: Task | None, event: Foldable) -> Task | None:
    """Fold one event into a task; `None` is a task that doesn't exist (not yet, or no more).

    Live writes, rebuild, verify and time travel all use this function and no other.
    Raise `ImpossibleEvent` if the event doesn't fit.
    """
    payload = event.payload
    if isinstance(payload, TaskErased | UserErased):
        if task is not None and event.version != task.version + 1:
            raise _impossible(task, event)
        return None
    if isinstance(payload, TaskCreated):
        if task is not None or event.version != 1:
            raise _impossible(task, event)
        return _task(event, fields(payload), created_at=event.at)
    if isinstance(payload, TaskRestored) and task is None:
        if not payload.after.keys() >= set(FIELDS) or not 0 < payload.version < event.version - 1:
            raise _impossible(task, event)
        return _task(event, payload.after, created_at=payload.created_at)
    if task is None or event.version != task.version + 1 or isinstance(payload, ErasedContent):
        raise _impossible(task, event)
    match payload:
        case TaskUpdated() | TaskRestored():
            return _changed(task, event, payload.after)
        case TaskToggled():
            return _changed(task, event, Fields(completed=payload.completed))
        case TaskDeleted():
            return None
    assert_never(payload)


def evolve_erased(state: Task | Erased | None, event: Foldable) -> Task | Erased | None:
    """Fold one event as `evolve` does, of a log in which content may have been erased."""
    if isinstance(event.payload, ErasedContent):
        return None if event.payload.type in ENDS else Erased.ERASED
    if state is Erased.ERASED:
        return None if type(event.payload).__name__ in ENDS else state
    return evolve(state, event)


def _changed(task: Task, event: Foldable, after: Fields) -> Task:
    user_id, id_, title, description, was_completed, priority, due_date, tags, created_at, _, completed_at, _ = task
    completed = after.get("completed", was_completed)
    return Task(
        user_id,
        id_,
        after.get("title", title),
        after.get("description", description),
        completed,
        after.get("priority", priority),
        after.get("due_date", due_date),
        after.get("tags", tags),
        created_at,
        event.at,
        (completed_at if was_completed else event.at) if completed else None,
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
        priority=made["priority"],
        due_date=made["due_date"],
        tags=made["tags"],
        created_at=created_at,
        updated_at=event.at,
        completed_at=event.at if made["completed"] else None,
        version=event.version,
    )


def fields(of: Task | TaskCreated | TaskDeleted) -> Fields:
    """Return the fields that a user may set, of a task or of a payload that has them all."""
    return Fields(
        title=of.title,
        description=of.description,
        completed=of.completed,
        priority=of.priority,
        due_date=of.due_date,
        tags=of.tags,
    )


def _impossible(task: Task | None, event: Foldable) -> ImpossibleEvent:
    found = "no task" if task is None else f"a task at version {task.version}"
    return ImpossibleEvent(
        f"{type(event.payload).__name__} as version {event.version} of task {event.task_id} can't follow {found}"
    )
