"""Mismatches: faults in a log or an export of it, in its stream, or between a log and its tasks in the projection."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias
from uuid import UUID

Value: TypeAlias = str | int | bool | None
"""A value in JSON: a time as RFC 3339, a hash in hex."""

Table: TypeAlias = Literal["events", "streams", "tasks"]

Kind: TypeAlias = Literal["changed", "removed", "added", "reordered", "rewritten", "unreadable"]
"""Kinds of damage. `removed`: it is missing. `rewritten`: this event or one before, with all later hashes.

`unreadable`: it is no event. Only exports have the last four.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """A fault: a value `found` instead of `expected`, both `None` if it isn't about one value.

    `table` is the one that is wrong: `tasks`, which a rebuild repairs, or the log itself, which nothing repairs. If
    several events are missing, `seq` is the first one's. The message is the rest of a sentence that begins with the
    user, or with the line of an export.
    """

    table: Table = "events"
    kind: Kind | None = None
    """`None` if it isn't about an event's place in the chain."""
    user_id: str
    """Empty if it is about an export, and no event of it says the user."""
    seq: int | None = None
    line: int | None = None
    """Line of an export, from 1: that of the event, or of the one found instead. `None`: after the end, or no export"""
    task_id: UUID | None = None
    field: str | None = None
    found: Value = None
    expected: Value = None
    more: int = 0
    """Number of further mismatches that this one stands for."""
    message: str


class Mismatches:
    """The mismatches of one user: the first thousand, and the number of the others."""

    _MOST = 1000

    def __init__(self, user_id: str) -> None:
        self._user_id = user_id
        self._kept: list[Mismatch] = []
        self._more = 0

    def add(self, found: Iterable[Mismatch]) -> None:
        for each in found:
            if len(self._kept) == self._MOST:
                self._more += 1
            else:
                self._kept.append(each)

    def listed(self) -> list[Mismatch]:
        if not self._more:
            return self._kept
        message = f"{self._more:,} more mismatches"
        last = Mismatch(table=self._kept[-1].table, user_id=self._user_id, more=self._more, message=message)
        return [*self._kept, last]
