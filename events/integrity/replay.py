"""The projection as it should be: the log folded, and compared with the rows of `tasks`."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeAlias
from uuid import UUID

from events.integrity.mismatch import Mismatch, Value
from events.serialization import Json, UnknownEvent, decode, rfc3339
from events.task import FoldedEvent, ImpossibleEvent, Task, evolve

TaskKey: TypeAlias = tuple[str, UUID]
"""User id and task id."""


class TaskRow(Protocol):
    """A row of `tasks`, indexed by column name, and iterated in the order of `Task`'s fields."""

    def __getitem__(self, column: str, /) -> Any: ...
    def __iter__(self) -> Iterator[Any]: ...


class Fold:
    """Tasks folded from their events. `broken` has the tasks with events that can't be folded, and the reason.

    Invariant: no task is in both `tasks` and `broken`, since the events after a task's first bad one are skipped.
    """

    def __init__(self) -> None:
        self.tasks: dict[TaskKey, Task] = {}
        self.deleted: dict[TaskKey, int] = {}
        """Version of the last deletion, by task. A restoration leaves it in place."""
        self.broken: dict[TaskKey, Mismatch] = {}

    def take(self, user_id: str, seq: int, task_id: UUID, version: int, type_: str, at: datetime, data: Json) -> None:
        """Fold one more event. A task's events must come in order of their versions."""
        key = (user_id, task_id)
        task = self.tasks.get(key)
        if task is None and key in self.broken:
            return
        try:
            if task is None and version != self.deleted.get(key, 0) + 1:
                raise ImpossibleEvent(f"it is version {version} of task {task_id}, and the one before is missing")
            if at.tzinfo is None:  # asyncpg's infinity has no time zone
                raise ImpossibleEvent("its time is an infinity")
            after = evolve(task, FoldedEvent(user_id, task_id, version, at, decode(type_, data)))
        except (
            ImpossibleEvent,
            UnknownEvent,
            TypeError,
            ValueError,
            AttributeError,
        ) as error:  # the last three: data of the wrong types
            self.tasks.pop(key, None)
            self.broken[key] = Mismatch(
                table="events",
                user_id=user_id,
                seq=seq,
                task_id=task_id,
                field="data",
                message=f"event {seq} can't be applied: {error}",
            )
            return
        if after is not None:
            self.tasks[key] = after
        else:
            del self.tasks[key]
            self.deleted[key] = version

    def all_but(self, last: TaskKey) -> "Fold":
        """Take out and return all tasks but `last`, which may have more events to come."""
        finished = Fold()
        for name in ("tasks", "deleted", "broken"):
            kept, out = getattr(self, name), getattr(finished, name)
            out.update(kept)
            kept.clear()
            if last in out:
                kept[last] = out.pop(last)
        return finished


@dataclass(frozen=True, slots=True)
class Comparison:
    """The rows of `tasks` compared with the folded tasks: `right` ones, tasks without a row, rows without a task."""

    right: int
    missing: list[Task]
    wrong: list[tuple[Task, TaskRow]]
    extra: list[TaskRow]


def compare(tasks: Mapping[TaskKey, Task], rows: Iterable[TaskRow], *, broken: Iterable[TaskKey] = ()) -> Comparison:
    """Compare rows, with their columns in `Task`'s order, with the folded tasks. Skip rows of the broken ones."""
    due = dict(tasks)
    unknown = frozenset(broken)
    right, wrong, extra = 0, list[tuple[Task, TaskRow]](), list[TaskRow]()
    for row in rows:
        key = (row["user_id"], row["id"])
        task = due.pop(key, None)
        if task is None:
            if key not in unknown:
                extra.append(row)
        elif tuple(row) == task:
            right += 1
        else:
            wrong.append((task, row))
    return Comparison(right, list(due.values()), wrong, extra)


def mismatches(found: Comparison) -> Iterable[Mismatch]:
    """Yield a mismatch for each field that differs, each task without a row, and each row without a task."""
    for task in found.missing:
        yield Mismatch(
            table="tasks",
            user_id=task.user_id,
            task_id=task.id,
            field="version",
            expected=task.version,
            message=f"task {task.id} isn't in tasks; by the log it is at version {task.version}",
        )
    for task, row in found.wrong:
        for column, wanted in task._asdict().items():
            value, expected = _value(row[column]), _value(wanted)
            if value != expected:
                yield Mismatch(
                    table="tasks",
                    user_id=task.user_id,
                    task_id=task.id,
                    field=column,
                    found=value,
                    expected=expected,
                    message=f"task {task.id} has another `{column}` than the log",
                )
    for row in found.extra:
        yield Mismatch(
            table="tasks",
            user_id=row["user_id"],
            task_id=row["id"],
            field="version",
            found=row["version"],
            message=f"task {row['id']} is in tasks; by the log there is none",
        )


def _value(value: Any) -> Value:
    """Turn a column's value into JSON's types; cut long text, so that it can still be recognised."""
    if isinstance(value, datetime):
        return rfc3339(value)
    if value is None or isinstance(value, bool | int):
        return value
    text = str(value)
    return text if len(text) <= _ENOUGH else f"{text[:_ENOUGH]}…"


_ENOUGH = 200
"""Largest number of characters of a value in a mismatch."""
