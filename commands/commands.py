"""Commands: a user's requests to change a task."""

from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

from commands.precondition import UNCONDITIONAL, Precondition
from events.task import Fields


@dataclass(frozen=True, slots=True, kw_only=True)
class _TaskCommand:
    """The part that all commands have. The precondition is on the task, or of a creation on the list."""

    user_id: str
    task_id: UUID
    precondition: Precondition = UNCONDITIONAL


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateTask(_TaskCommand):
    """A command to create a task with these fields, of which `title` must be given."""

    fields: Fields


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateTask(_TaskCommand):
    """A command to set the given fields. Other fields keep their values."""

    fields: Fields


@dataclass(frozen=True, slots=True, kw_only=True)
class ToggleTask(_TaskCommand):
    """A command to invert `completed`, or to set it if a value is given (which makes a repeat harmless)."""

    completed: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteTask(_TaskCommand):
    """A command to delete a task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreTask(_TaskCommand):
    """A command to restore a task to a version, or without one to its last state, which brings a deleted task back."""

    version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoEvent(_TaskCommand):
    """A command to take back the task's event number `version`: the fields that it changed get their former values."""

    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EraseTask(_TaskCommand):
    """A command to erase the content of a deleted task. If it is `forced`, the task needn't have been deleted."""

    reason: str | None = None
    forced: bool = False


Command: TypeAlias = CreateTask | UpdateTask | ToggleTask | DeleteTask | RestoreTask | UndoEvent | EraseTask
