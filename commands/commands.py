"""Commands: a user's requests to change a task."""

from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

from commands.precondition import UNCONDITIONAL, Precondition
from events.task import Fields


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateTask:
    """A command to create a task with these fields, of which `title` must be given."""

    user_id: str
    task_id: UUID
    fields: Fields
    precondition: Precondition = UNCONDITIONAL


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateTask:
    """A command to set the given fields. Other fields keep their values."""

    user_id: str
    task_id: UUID
    fields: Fields
    precondition: Precondition = UNCONDITIONAL


@dataclass(frozen=True, slots=True, kw_only=True)
class ToggleTask:
    """A command to invert `completed`, or to set it if a value is given (which makes a repeat harmless)."""

    user_id: str
    task_id: UUID
    completed: bool | None = None
    precondition: Precondition = UNCONDITIONAL


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteTask:
    user_id: str
    task_id: UUID
    precondition: Precondition = UNCONDITIONAL


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreTask:
    """A command to restore a task to a version, or without one to its last state, which brings a deleted task back."""

    user_id: str
    task_id: UUID
    version: int | None = None
    precondition: Precondition = UNCONDITIONAL


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoEvent:
    """A command to take back the task's event number `version`: the fields that it changed get their former values."""

    user_id: str
    task_id: UUID
    version: int
    precondition: Precondition = UNCONDITIONAL


@dataclass(frozen=True, slots=True, kw_only=True)
class EraseTask:
    """A command to erase the content of a deleted task. If it is `forced`, the task needn't have been deleted."""

    user_id: str
    task_id: UUID
    reason: str | None = None
    forced: bool = False
    precondition: Precondition = UNCONDITIONAL


Command: TypeAlias = CreateTask | UpdateTask | ToggleTask | DeleteTask | RestoreTask | UndoEvent | EraseTask
