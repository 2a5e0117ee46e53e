"""Decider: pure, so that every rule can be tested without a database.

Refusal
├── TaskNotFound      there is no such task among this user's
├── TaskExists        there is, or was, one already
├── VersionMismatch   the command's precondition doesn't hold
├── NotDeleted        the task must be deleted before it is erased
├── NotRestorable     the task was not there at that version
├── ErasedForGood     the content that the command needs was erased
└── ChangedSince      what an event changed isn't any more as the event left it
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, assert_never, cast

from commands.commands import (
    Command,
    CreateTask,
    DeleteTask,
    EraseTask,
    RestoreTask,
    ToggleTask,
    UndoEvent,
    UpdateTask,
)
from commands.precondition import EntityTag, Precondition
from events.hash_chain import Head
from events.task import (
    FIELDS,
    NO_TASK,
    Fields,
    Task,
    TaskCreated,
    TaskDeleted,
    TaskErased,
    TaskEvent,
    TaskRestored,
    TaskToggled,
    TaskUpdated,
    fields,
)


class Refusal(Exception):
    """The command can't be carried out: in this state, it would be refused again."""


class TaskNotFound(Refusal):
    """This user has no task with this id."""


class TaskExists(Refusal):
    """This user already has, or had, a task with this id."""


class VersionMismatch(Refusal):
    """The command's precondition doesn't hold; `current` is the tag of the state that there is."""

    def __init__(self, current: EntityTag, precondition: Precondition, *, of: str = "The task is at version") -> None:
        again = "again, after a restore from a backup" if precondition.is_of_another_log(current) else "by now"
        super().__init__(f"{of} {current.number} {again}: look at it, then repeat the change.")
        self.current = current


class NotDeleted(Refusal):
    """A task is erased only after it was deleted, so that nobody loses one by a single mistake."""


class NotRestorable(Refusal):
    """There is no task at this version to go back to."""


class ErasedForGood(Refusal):
    """The content that the command would bring back was erased."""


class ChangedSince(Refusal):
    """Later events have changed the event's fields too, these `fields`, or the task as a whole."""

    def __init__(self, why: str, changed: Sequence[str]) -> None:
        super().__init__(why)
        self.fields = changed


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskState:
    """The state that a command is decided on.

    `version`, `hash` and `at` are those of the task's last event (0, empty, `None`: the task never existed).
    """

    task: Task | None = None
    version: int = 0
    hash: bytes = b""
    at: datetime | None = None
    last: Task | None = None
    """For a restoration or an undo: the task, or if it is deleted, the task as it was before its last deletion."""
    then: Task | None = None
    """For a restoration to a version or an undo: the task as it was at the version asked for."""
    before: Task | None = None
    """For an undo: the task as it was before that version."""
    erased: bool = False
    """Is true if the task's content was erased, or its last event says so."""


def decide(command: Command, known: TaskState) -> TaskEvent | None:
    """Decide on the event that `command` causes in the state `known`; `None` if nothing changes. Raise a `Refusal`."""
    task = known.task
    if isinstance(command, CreateTask):
        if known.version:
            raise TaskExists(f"There is, or was, a task {command.task_id} already.")
        return TaskCreated(**command.fields)
    if not known.version or (command.task_id == NO_TASK and not isinstance(command, UndoEvent)):
        raise TaskNotFound(f"There is no task {command.task_id}.")
    if task is None and not isinstance(command, RestoreTask | UndoEvent | EraseTask):
        raise TaskNotFound(f"There is no task {command.task_id}.")
    if known.erased and isinstance(command, RestoreTask | UndoEvent):
        raise ErasedForGood(f"The content of task {command.task_id} was erased: nothing of it can be brought back.")
    if known.erased and isinstance(command, EraseTask):
        return None  # whatever its precondition: an erasure that was interrupted is gone on with by the same request
    current = EntityTag(known.version, known.hash)
    if not command.precondition.holds(current, exists=task is not None):
        raise VersionMismatch(current, command.precondition)
    if isinstance(command, RestoreTask):
        return _restored(command, known)
    if isinstance(command, UndoEvent):
        return _undone(known)
    if isinstance(command, EraseTask):
        return _erased(command, known)
    assert task is not None  # noqa: S101 - as was just seen
    match command:
        case UpdateTask():
            before, after = _difference(task, command.fields)
            return TaskUpdated(before, after) if after else None
        case ToggleTask():
            completed = not task.completed if command.completed is None else command.completed
            return TaskToggled(completed) if completed != task.completed else None
        case DeleteTask():
            return TaskDeleted(**fields(task))
    assert_never(command)


def check_list(precondition: Precondition, head: Head) -> None:
    """Check a precondition on the list, which is a creation's or a batch's. Raise `VersionMismatch`."""
    current = EntityTag(head.seq, head.hash)
    if not precondition.holds(current, exists=True):
        raise VersionMismatch(current, precondition, of="The list is at event")


def _restored(command: RestoreTask, known: TaskState) -> TaskRestored | None:
    then = known.last if command.version is None else known.then
    if then is None:
        deleted = command.version is not None and command.version <= known.version
        raise NotRestorable(
            f"Version {command.version} is the task's deletion: restore the one before it."
            if deleted
            else f"Version {command.version} doesn't exist: the task has versions 1 to {known.version}."
        )
    if known.task is None:
        return TaskRestored(then.version, then.created_at, {}, fields(then))
    before, after = _difference(known.task, fields(then))
    return TaskRestored(then.version, then.created_at, before, after) if after else None


def _erased(command: EraseTask, known: TaskState) -> TaskErased:
    if known.task is not None and not command.forced:
        raise NotDeleted(f"Task {command.task_id} is there: delete it before it is erased.")
    return TaskErased(command.reason)


def _undone(known: TaskState) -> TaskEvent:
    """Return the event that takes back the one between `before` and `then`. Raise `ChangedSince`.

    A deletion leaves the fields as they were, and so does a later one.
    """
    before, after, task = known.before, known.then, known.task
    was, made, now = (_fields(each) for each in (before, after or before, known.last))
    changed = [name for name in FIELDS if before is None or after is None or was[name] != made[name]]
    if (task is None) != (after is None):
        raise ChangedSince(f"The task was {'deleted' if task is None else 'brought back'} since.", ())
    if since := [name for name in changed if now[name] != made[name]]:
        raise ChangedSince(f"Later events have changed {', '.join(since)}.", since)
    if task is None:
        assert before is not None  # noqa: S101 - no event leads from no task to none
        return TaskRestored(before.version, before.created_at, {}, fields(before))
    if before is None:
        return TaskDeleted(**fields(task))
    if changed == ["completed"]:
        return TaskToggled(before.completed)
    return TaskUpdated(*_difference(task, cast("Fields", {name: was[name] for name in changed})))


def _fields(task: Task | None) -> Mapping[str, Any]:
    return {} if task is None else fields(task)


def _difference(task: Task, wanted: Fields) -> tuple[Fields, Fields]:
    """Return the values that `wanted` would change, as they are and as they would be."""
    present: Mapping[str, Any] = fields(task)
    changed = [name for name, value in wanted.items() if value != present[name]]
    return cast("Fields", {name: present[name] for name in changed}), cast(
        "Fields", {name: value for name, value in wanted.items() if name in changed}
    )


def moment(now: datetime, last: datetime | None) -> datetime:
    """Return the time of a new event: `now`, but always after the task's `last` one, however the clocks are set."""
    return now if last is None else max(now, last + timedelta(microseconds=1))
