"""What a user may ask of a task, and what comes of it: pure, so that every rule can be tested without a database."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias, assert_never
from uuid import UUID

from events.task import Fact, Fields, Task, TaskCreated, TaskDeleted, TaskToggled, TaskUpdated


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateTask:
    user_id: str
    task_id: UUID
    title: str
    description: str | None = None
    completed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateTask:
    """Set the fields that are given; what is left out keeps its value."""

    user_id: str
    task_id: UUID
    fields: Fields


@dataclass(frozen=True, slots=True, kw_only=True)
class ToggleTask:
    """Turn `completed` over, or set it where a value is given (which makes a repeat harmless)."""

    user_id: str
    task_id: UUID
    completed: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteTask:
    user_id: str
    task_id: UUID


Command: TypeAlias = CreateTask | UpdateTask | ToggleTask | DeleteTask


class TaskNotFound(Exception):
    """This user has no task with this id."""


class TaskExists(Exception):
    """This user already has a task with this id."""


def decide(command: Command, task: Task | None) -> Fact | None:
    """What happens when `command` meets `task`; `None`: nothing changes. Raises `TaskNotFound` or `TaskExists`."""
    if isinstance(command, CreateTask):
        if task is not None:
            raise TaskExists(f"There is a task {command.task_id} already.")
        return TaskCreated(command.title, command.description, command.completed)
    if task is None:
        raise TaskNotFound(f"There is no task {command.task_id}.")
    match command:
        case UpdateTask():
            before, after = _difference(task, command.fields)
            return TaskUpdated(before, after) if after else None
        case ToggleTask():
            completed = not task.completed if command.completed is None else command.completed
            return TaskToggled(completed) if completed != task.completed else None
        case DeleteTask():
            return TaskDeleted(task.title, task.description, task.completed)
    assert_never(command)


def _difference(task: Task, wanted: Fields) -> tuple[Fields, Fields]:
    """The values that `wanted` would change, as they are and as they would be."""
    before, after = Fields(), Fields()
    if "title" in wanted and wanted["title"] != task.title:
        before["title"], after["title"] = task.title, wanted["title"]
    if "description" in wanted and wanted["description"] != task.description:
        before["description"], after["description"] = task.description, wanted["description"]
    if "completed" in wanted and wanted["completed"] != task.completed:
        before["completed"], after["completed"] = task.completed, wanted["completed"]
    return before, after


def moment(now: datetime, task: Task | None) -> datetime:
    """When the event happens: now, but always after the task's last change, however the clocks were set."""
    return now if task is None else max(now, task.updated_at + timedelta(microseconds=1))
