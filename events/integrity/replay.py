"""The projection as it should be: the log folded, and compared with the rows of `tasks`."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from events.integrity.mismatch import Mismatch, Value
from events.projection import TaskRow, project
from events.serialization import Json, UnknownEvent, decode, parsed, rfc3339
from events.store.stored_tasks import TaskKey
from events.task import FoldedEvent, ImpossibleEvent, Task, TaskErased, evolve


class ReadRow(Protocol):
    """A row that was read from `tasks`, indexed by column name, and iterated in the order of `TaskRow`'s fields."""

    def __getitem__(self, column: str, /) -> Any: ...
    def __iter__(self) -> Iterator[Any]: ...


class Fold:
    """Tasks folded from their events. `broken` has the tasks with events that can't be folded, and the reason.

    Invariant: no task is in both `tasks` and `broken`, since the events after a task's first bad one are skipped. A
    task with erased content is broken until the event comes that records the erasure.
    """

    def __init__(self) -> None:
        self.tasks: dict[TaskKey, Task] = {}
        self.deleted: dict[TaskKey, int] = {}
        """Version of the last deletion, by task. A restoration leaves it in place."""
        self.erased: dict[TaskKey, int] = {}
        """Number of the first event with erased content, by task."""
        self.broken: dict[TaskKey, Mismatch] = {}

    def take(
        self, user_id: str, seq: int, task_id: UUID, version: int, type_: str, at: datetime, data: Json | None
    ) -> None:
        """Fold one more event; `data` is `None` if they were erased. A task's events must come in order of versions."""
        key = (user_id, task_id)
        if data is None or key in self.erased:
            self._take_erased(key, seq, version, type_, erased=data is None)
            return
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
            self._break(key, seq, f"event {seq} can't be applied: {error}")
            return
        if after is not None:
            self.tasks[key] = after
        else:
            self.tasks.pop(key, None)
            self.deleted[key] = version

    def take_rows(self, rows: Iterable[Iterable[Any]]) -> None:
        """Fold events by their columns in the order of the parameters of `take`, with `data` as stored."""
        for user_id, seq, task_id, version, type_, at, data in rows:
            self.take(user_id, seq, task_id, version, type_, at, data and parsed(data))

    def _take_erased(self, key: TaskKey, seq: int, version: int, type_: str, *, erased: bool) -> None:
        self.tasks.pop(key, None)
        if not erased and type_ == TaskErased.__name__:
            del self.erased[key], self.broken[key]
            self.deleted[key] = version
        elif key not in self.erased:
            self.erased[key] = seq
            self._break(key, seq, f"the content of event {seq} was erased, and no event of its task records that")

    def _break(self, key: TaskKey, seq: int, why: str) -> None:
        user_id, task_id = key
        self.broken[key] = Mismatch(
            table="events", user_id=user_id, seq=seq, task_id=task_id, field="data", message=why
        )

    def all_but(self, last: TaskKey) -> "Fold":
        """Take out and return all tasks but `last`, which may have more events to come."""
        finished = Fold()
        for name in ("tasks", "deleted", "erased", "broken"):
            kept, out = getattr(self, name), getattr(finished, name)
            out.update(kept)
            kept.clear()
            if last in out:
                kept[last] = out.pop(last)
        return finished


@dataclass(frozen=True, slots=True)
class Comparison:
    """The rows of `tasks` compared with those that the log makes: `right` ones, missing, wrong and extra ones.

    `impossible`: folded tasks that no row can hold, since the log has data of the wrong types.
    """

    right: int = 0
    missing: list[TaskRow] = field(default_factory=list)
    wrong: list[tuple[TaskRow, ReadRow]] = field(default_factory=list)
    extra: list[ReadRow] = field(default_factory=list)
    impossible: list[Task] = field(default_factory=list)


def compare(tasks: Mapping[TaskKey, Task], rows: Iterable[ReadRow], *, broken: Iterable[TaskKey] = ()) -> Comparison:
    """Compare rows with the rows that the folded tasks should have. Skip rows of the broken ones."""
    there = {(row["user_id"], row["id"]): row for row in rows}
    right, found = 0, Comparison()
    for key, task in tasks.items():
        row = there.pop(key, None)
        try:
            wanted = project(task)
        except (TypeError, ValueError, AttributeError):
            found.impossible.append(task)
            continue
        if row is None:
            found.missing.append(wanted)
        elif tuple(row) == wanted:
            right += 1
        else:
            found.wrong.append((wanted, row))
    unknown = frozenset(broken)
    found.extra.extend(row for key, row in there.items() if key not in unknown)
    return replace(found, right=right)


def mismatches(found: Comparison) -> Iterable[Mismatch]:
    """Yield a mismatch for each field that differs, each task without a row, and each row without a task."""
    for task in found.impossible:
        yield Mismatch(
            table="events",
            user_id=task.user_id,
            task_id=task.id,
            field="data",
            message=f"the log folds task {task.id} to what tasks can't hold",
        )
    for wanted in found.missing:
        yield Mismatch(
            table="tasks",
            user_id=wanted.user_id,
            task_id=wanted.id,
            field="version",
            expected=wanted.version,
            message=f"task {wanted.id} isn't in tasks; by the log it is at version {wanted.version}",
        )
    for wanted, row in found.wrong:
        for name, value, expected in _differing(row, wanted):
            yield Mismatch(
                table="tasks",
                user_id=wanted.user_id,
                task_id=wanted.id,
                field=name,
                found=_value(value),
                expected=_value(expected),
                message=f"task {wanted.id} has another `{name}` than the log",
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


def _differing(row: ReadRow, wanted: TaskRow) -> Iterator[tuple[str, object, object]]:
    """Yield the name of each column that differs, and its values; for the document, those of its fields if it has any.

    A field of the document that has a column of its name is told once.
    """
    for column, expected in wanted._asdict().items():
        if row[column] == expected:
            continue
        if column != "document":
            yield column, row[column], expected
            continue
        found: Any = parsed(row[column].encode())
        found, due = found if isinstance(found, dict) else {}, parsed(wanted.document.encode())
        names = [name for name in due if name in found and found[name] != due[name]]
        if found.keys() != due.keys() or not names:
            yield column, row[column], expected
        for name in names:
            if name not in TaskRow._fields or row[name] == getattr(wanted, name):
                yield name, found[name], due[name]


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
