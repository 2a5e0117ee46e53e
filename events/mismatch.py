"""What isn't as it should be, in a log, in its stream, or between a log and the tasks that are posted from it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias
from uuid import UUID

Value: TypeAlias = str | int | bool | None
"""As JSON has it: a moment as RFC 3339, a hash in hex."""

Table: TypeAlias = Literal["events", "streams", "tasks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """`found` stands where `expected` should; both are `None` where it isn't about one value.

    `table` says which of the three is wrong: `tasks`, which a rebuild mends, or the log itself, which nothing does.
    Of several events that are missing `seq` is the first. The message is a sentence's rest: it goes behind the user.
    """

    table: Table
    user_id: str
    seq: int | None = None
    task_id: UUID | None = None
    field: str | None = None
    found: Value = None
    expected: Value = None
    more: int = 0
    """How many others this one stands for, which aren't told."""
    message: str


class Mismatches:
    """Those of one user, of which the first thousand are kept; of the others, how many there were."""

    _MOST = 1000

    def __init__(self, user_id: str) -> None:
        self._user_id = user_id
        self._kept: list[Mismatch] = []
        self._more = 0

    @property
    def full(self) -> bool:
        return len(self._kept) == self._MOST

    def add(self, found: Iterable[Mismatch]) -> None:
        for each in found:
            if self.full:
                self._more += 1
            else:
                self._kept.append(each)

    def told(self) -> list[Mismatch]:
        if not self._more:
            return self._kept
        told = f"{self._more:,} more differences"
        last = Mismatch(table=self._kept[-1].table, user_id=self._user_id, more=self._more, message=told)
        return [*self._kept, last]
