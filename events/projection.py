"""The projector: makes the row of `tasks` from a task, for live writes, rebuild and verify."""

from collections.abc import Sequence
from datetime import datetime
from itertools import product
from operator import methodcaller
from types import NoneType
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from events.search_text import search_text
from events.serialization import writable
from events.task import Priority, Task

_RANKS: dict[Priority, int] = {"low": 1, "medium": 2, "high": 3}


class TaskRow(NamedTuple):
    """A row of `tasks`: the document, and the columns for filters, search and sorting. Named as its columns.

    A rebuild makes, compares and writes such tuples as they are.
    """

    user_id: str
    id: UUID
    version: int
    completed: bool
    priority: int | None
    due_date: str | None
    tags: str | None
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None
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
        rank(task.priority),
        task.due_date,
        "\n".join(("", *task.tags, "")) if task.tags else None,
        task.created_at,
        task.updated_at,
        task.completed_at,
        title_key,
        _with_the_rest(title_key, task),
        task_document(task).decode(),
    )


def rank(priority: Priority | None) -> int | None:
    """Return a number that is larger for a higher priority."""
    return None if priority is None else _RANKS[priority]


def task_search_text(task: Task) -> str:
    """Make the text in which words are searched: title, description and tags, a line each."""
    return _with_the_rest(search_text(task.title), task)


def _with_the_rest(title_key: str, task: Task) -> str:
    more = [task.description, *task.tags] if task.description else task.tags
    return "\n".join([title_key, *map(search_text, more)]) if more else title_key


def task_document(task: Task) -> bytes:
    """Make the task's document: the JSON that clients are sent (docs/http-api.md, "Tasks")."""
    return orjson.dumps(
        {
            "id": str(task.id),
            "user_id": task.user_id,
            "title": task.title,
            "description": task.description,
            "completed": task.completed,
            "priority": task.priority,
            "due_date": task.due_date,
            "tags": task.tags,
            "created_at": writable(task.created_at),
            "updated_at": writable(task.updated_at),
            "completed_at": task.completed_at and writable(task.completed_at),
            "version": task.version,
        },
        option=orjson.OPT_UTC_Z,
    )


_NEWEST_FIELD = b',"priority":'
"""Bytes of every document but those of former forms. Within a text, the quotes would be escaped."""

_ADDED: dict[str, Any] = {"priority": None, "due_date": None, "tags": [], "completed_at": None}
"""Fields that documents of former forms lack, with their values there."""


_place_of_it = methodcaller("rfind", _NEWEST_FIELD)  # from the end, since before it may be a long text


def present_form(document: bytes) -> bytes:
    """Return the document with the fields that one of a former release lacks, until it is written anew."""
    return document if _place_of_it(document) >= 0 else _filled(document)


def joined(documents: Sequence[bytes]) -> bytes:
    """Join documents by commas, each in its `present_form`."""
    return b",".join(map(present_form, documents) if -1 in map(_place_of_it, documents) else documents)


def _filled(document: bytes) -> bytes:
    found = {**_ADDED, **orjson.loads(document)}
    return orjson.dumps({name: found[name] for name in ("id", *filter("id".__ne__, Task._fields))})


def task_of(document: bytes) -> Task:
    """Read a task from its document. Raise `ValueError` if it isn't one that `task_document` can have written.

    One of a former release isn't either: when the task was completed is known from the log only.
    """
    try:
        found = orjson.loads(document)
        task = Task(
            user_id=found["user_id"],
            id=UUID(found["id"]),
            title=found["title"],
            description=found["description"],
            completed=found["completed"],
            priority=found["priority"],
            due_date=found["due_date"],
            tags=found["tags"],
            created_at=datetime.fromisoformat(found["created_at"]),
            updated_at=datetime.fromisoformat(found["updated_at"]),
            completed_at=found["completed_at"] and datetime.fromisoformat(found["completed_at"]),
            version=found["version"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a task's document: {error!r}") from error
    if tuple(map(type, task)) not in _TYPES:
        raise ValueError("not a task's document: a field has another type")
    if task.priority not in _PRIORITIES or (task.tags and {*map(type, task.tags)} != {str}):
        raise ValueError("not a task's document: a priority or tag is none")
    if task.created_at.tzinfo is None or task.updated_at.tzinfo is None:
        raise ValueError("not a task's document: a time has no zone")
    return task


_PRIORITIES = (None, *_RANKS)
_TEXT, _MOMENT = (str, NoneType), (datetime, NoneType)
_TYPES = frozenset(
    product(
        *((str,), (UUID,), (str,), _TEXT, (bool,), _TEXT, _TEXT, (list,)),
        *((datetime,), (datetime,), _MOMENT, (int,)),
    )
)
"""Types of a task's fields, in their order: a row for each combination with null."""
