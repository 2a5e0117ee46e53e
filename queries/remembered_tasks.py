"""Tasks of the past that feeds remember, so that the next events need no fold of all before them."""

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from typing import TypeAlias
from uuid import UUID

from events.task import Task

_TASK = 1000
"""Bytes that a remembered task takes besides its texts."""

_Key: TypeAlias = tuple[UUID, int]


class RememberedTasks:
    """Tasks at versions, by owner: a user whose feeds need them.

    Invariant: together they take `most` bytes or less, about. The owner who has put none for longest is the first to
    lose some, those used longest ago.
    """

    def __init__(self, most: int) -> None:
        self._most, self.size = most, 0
        self._of = OrderedDict[Hashable, OrderedDict[_Key, Task]]()

    def get(self, owner: Hashable, task_id: UUID, version: int, *, keep: bool) -> Task | None:
        """Return a task as it was at a version, if it is remembered; forget it then unless told to keep it."""
        key = (task_id, version)
        if key not in self._of.get(owner, ()):
            return None
        if not keep:
            return self._pop(owner, key)
        self._of[owner].move_to_end(key)
        return self._of[owner][key]

    def put(self, owner: Hashable, tasks: Iterable[Task]) -> None:
        """Remember tasks at their versions."""
        for task in tasks:
            key = (task.id, task.version)
            self.get(owner, *key, keep=False)
            self._of.setdefault(owner, OrderedDict())[key] = task
            self._of.move_to_end(owner)
            self.size += size_of(task)
        while self.size > self._most:
            self._pop_oldest(next(iter(self._of)))

    def trim(self, owner: Hashable, number: int) -> None:
        """Forget all of the owner's but so many, those used last."""
        while len(self._of.get(owner, ())) > number:
            self._pop_oldest(owner)

    def _pop_oldest(self, owner: Hashable) -> None:
        self._pop(owner, next(iter(self._of[owner])))

    def _pop(self, owner: Hashable, key: _Key) -> Task:
        task = self._of[owner].pop(key)
        self.size -= size_of(task)
        if not self._of[owner]:
            del self._of[owner]
        return task


def size_of(task: Task) -> int:
    """Return how many bytes a task takes, or more: texts get a second form, in UTF-8, when they are first written."""
    texts = (*(value for value in task if isinstance(value, str)), *task.tags)
    return _TASK + sum(len(text) if text.isascii() else 8 * len(text) for text in texts)
