"""What isn't as it should be, in a log, in its journal, or between a log and the tasks that are posted from it."""

from dataclasses import dataclass
from typing import Literal, TypeAlias
from uuid import UUID

Value: TypeAlias = str | int | bool | None
"""As JSON has it: a moment as RFC 3339, a hash in hex."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """`found` stands where `expected` should; both are `None` where it isn't about one value.

    `table` says which of the three is wrong: `tasks`, which a rebuild mends, or the log itself, which nothing does.
    Of several events that are missing `seq` is the first. The message is a sentence's rest: it goes behind the user.
    """

    table: Literal["events", "journals", "tasks"]
    user_id: str
    seq: int | None = None
    task_id: UUID | None = None
    field: str | None = None
    found: Value = None
    expected: Value = None
    message: str
