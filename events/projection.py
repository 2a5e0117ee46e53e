"""The projector: makes the row of `tasks` from a task, for live writes, rebuild and verify."""

from datetime import datetime
from types import NoneType
from typing import NamedTuple
from uuid import UUID

import orjson

from events.search_text import search_text
from events.serialization import writable
from events.task import Task


class TaskRow(NamedTuple):
    """A row of `tasks`, in the order of its columns: the document, and the columns for filters, search and sorting.

    A rebuild makes, compares and writes such tuples as they are.
    """

    user_id: str
    id: UUID
    version: int
    completed: bool
    created_at: datetime
    updated_at: datetime
    title_key: str
    search_text: str
    document: str


def project(task: Task) -> TaskRow:
    """Make the row of `tasks` for a task."""
    title_key = search_text(task.title)
    return TaskRow(
        task.user_id,
        task.id,
        task.version,
        task.completed,
        task.created_at,
        task.updated_at,
        title_key,
        _with_description(title_key, task),
        task_document(task).decode(),
    )


def task_search_text(task: Task) -> str:
    """Make the text in which words are searched: title and description, a line each."""
    return _with_description(search_text(task.title), task)


def _with_description(title_key: str, task: Task) -> str:
    return f"{title_key}\n{search_text(task.description)}" if task.description else title_key


def task_document(task: Task) -> bytes:
    """Make the task's document: the JSON that clients are sent (docs/http-api.md, "Tasks")."""
    return orjson.dumps(
        {
            "id": str(task.id),
            "user_id": task.user_id,
            "title": task.title,
            "description": task.description,
            "completed": task.completed,
            "created_at": writable(task.created_at),
            "updated_at": writable(task.updated_at),
            "version": task.version,
        },
        option=orjson.OPT_UTC_Z,
    )


def task_of(document: bytes) -> Task:
    """Read a task from its document. Raise `ValueError` if it isn't one that `task_document` can have written."""
    try:
        found = orjson.loads(document)
        task = Task(
            user_id=found["user_id"],
            id=UUID(found["id"]),
            title=found["title"],
            description=found["description"],
            completed=found["completed"],
            created_at=datetime.fromisoformat(found["created_at"]),
            updated_at=datetime.fromisoformat(found["updated_at"]),
            version=found["version"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a task's document: {error!r}") from error
    types = (type(task.title), type(task.description), type(task.completed), type(task.version))
    if types not in _TYPES or None in (task.created_at.tzinfo, task.updated_at.tzinfo):
        raise ValueError("not a task's document: a field has another type")
    return task


_TYPES = ((str, str, bool, int), (str, NoneType, bool, int))
