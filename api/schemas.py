"""Models of requests and responses (docs/http-api.md, "Tasks"; docs/http-api.md, "History")."""

from datetime import date, datetime
from typing import Annotated, Any, Literal, NotRequired, TypeAlias, get_args
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    StrictBool,
    StrictInt,
    StringConstraints,
)
from typing_extensions import TypedDict

from api import text, times
from events.task import LONGEST_REASON, NO_TASK, Priority

LARGEST_VERSION = 2**31 - 1

TIMESTAMP = r"^[0-9-]{10}T[0-9:]{8}\.[0-9]{6}Z$"
Timestamp = Annotated[
    datetime,
    Field(description="UTC, RFC 3339, always six decimals and Z", json_schema_extra={"pattern": TIMESTAMP}),
]
USER_ID_SCHEMA: dict[str, Any] = {"minLength": 1, "maxLength": 255, "pattern": r"^(?!\.{1,2}$)[^/\x00]+$"}
"""JSON Schema of a user id: `config.settings.USER_ID` for the OpenAPI document."""


Title = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=255),
    AfterValidator(text.visible),
    BeforeValidator(text.without_controls),
    Field(
        description="1 to 255 characters after surrounding white space is cut, one of them visible; control characters "
        "only as tabs and line ends",
        json_schema_extra={"pattern": text.VISIBLE},
    ),
]
Description = Annotated[
    str,
    StringConstraints(max_length=5000),
    BeforeValidator(text.without_controls),
    Field(
        description="up to 5,000 characters; control characters only as tabs and line ends; null clears it",
        json_schema_extra={"pattern": text.WITHOUT_CONTROLS},
    ),
]


def _in_lower_case(value: Any) -> Any:
    return value.lower() or None if isinstance(value, str) else value


def _none_is_empty(value: Any) -> Any:
    return [] if value is None else value


def _distinct(tags: list[str]) -> list[str]:
    return list(dict.fromkeys(tags))


GivenPriority = Annotated[
    Priority | None,
    BeforeValidator(_in_lower_case),
    Field(
        description="in any case; null, or empty text, clears it",
        json_schema_extra={"enum": [*get_args(Priority), None]},
    ),
]
GivenDueDate = Annotated[
    str | None,
    BeforeValidator(times.read_due_date, json_schema_input_type=date | datetime | None),
    Field(description="a date, or a time with its offset from UTC; null, or empty text, clears it"),
]
Tag = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=50),
    AfterValidator(text.visible),
    BeforeValidator(text.on_one_line),
    Field(json_schema_extra={"pattern": text.VISIBLE_LINE}),
]
GivenTags = Annotated[
    list[Tag],
    FailFast(),  # there may be hundreds of thousands
    BeforeValidator(_none_is_empty, json_schema_input_type=Annotated[list[Tag], Field(max_length=20)] | None),
    AfterValidator(_distinct),
    Field(
        max_length=20,
        description="up to 20 texts of 1 to 50 characters, on one line each, in this order; one that "
        "is given twice counts once; null clears them",
    ),
]


def _none_is_number(value: Any) -> Any:
    """Return None for a number: clients of backends with integer ids send one, which isn't taken."""
    return None if isinstance(value, int | float) and not isinstance(value, bool) else value


def _some_task(id_: UUID | None) -> UUID | None:
    if id_ == NO_TASK:
        raise ValueError("must not be the nil UUID")
    return id_


GivenId = Annotated[
    UUID | None,
    AfterValidator(_some_task),
    BeforeValidator(_none_is_number, json_schema_input_type=UUID | float | None),
    Field(description="the task's id, if the client makes it: a UUID; a number is ignored"),
]


class NewTask(BaseModel):
    """A task to create."""

    title: Title
    description: Description | None = None
    completed: StrictBool = Field(default=False, description="false unless given")
    priority: GivenPriority = None
    due_date: GivenDueDate = None
    tags: GivenTags = Field(default_factory=list)
    id: GivenId = None


class TaskChanges(TypedDict, total=False):
    """Changes of a task. A field that is left out keeps its value."""

    title: Title
    description: Description | None
    completed: StrictBool
    priority: GivenPriority
    due_date: GivenDueDate
    tags: GivenTags


class Completion(TypedDict, total=False):
    """The state to set; without it, the present one is turned over."""

    completed: StrictBool


class Task(BaseModel):
    """A task as it is answered."""

    id: UUID
    user_id: str = Field(json_schema_extra={**USER_ID_SCHEMA})
    title: str = Field(min_length=1, max_length=255)
    description: str | None = Field(max_length=5000)
    completed: bool
    priority: Priority | None
    due_date: str | None = Field(description="a date, or a time in UTC with six decimals and Z")
    tags: list[str] = Field(max_length=20)
    created_at: Timestamp
    updated_at: Timestamp = Field(description="grows with every change")
    completed_at: datetime | None = Field(
        description="when it was last completed; null while it isn't", json_schema_extra={"pattern": TIMESTAMP}
    )
    version: int = Field(ge=1, description="starts at 1 and counts the task's events")


class DeletedTask(BaseModel):
    """A task that is gone."""

    id: UUID
    version: int = Field(ge=2, description="of its deletion")
    seq: int = Field(ge=2, description="the number of its deletion in the user's log")


class Sync(BaseModel):
    """Changes that a client's copy lacks, or a page of them."""

    tasks: list[Task] = Field(description="the tasks that are new or have changed, as they are now")
    deleted: list[DeletedTask]
    next: str = Field(description="the token for `since` of the next request; it never expires")
    more: bool = Field(description="whether there is more already")


class ByPriority(BaseModel):
    """How many tasks have each priority."""

    low: int
    medium: int
    high: int
    none: int


class Stats(BaseModel):
    """How many tasks there are."""

    total: int
    pending: int
    completed: int
    overdue: int = Field(description="pending, with a due date that is over")
    by_priority: ByPriority
    by_tag: dict[str, int] = Field(description="the thousand most frequent tags, and how many tasks have each")


def _whole(value: Any) -> Any:
    """Return a whole float as an int: 1.0 is a whole number in JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Restoration(TypedDict, total=False):
    """Which version to go back to; without it, the last one at which the task was there."""

    version: Annotated[
        StrictInt,
        Field(ge=1, le=LARGEST_VERSION, description="as in the history; not that of a deletion"),
        BeforeValidator(_whole),
    ]


class RestorationOfAll(BaseModel):
    """The moment to go back to. An unknown field is refused: a misspelled `dry_run` would put everything back."""

    model_config = ConfigDict(extra="forbid")

    as_of: Annotated[datetime, BeforeValidator(times.read_moment)] = Field(description="RFC 3339, with its offset")
    dry_run: StrictBool = Field(default=False, description="whether only to tell what would change")


class RestoredTask(BaseModel):
    """A task that is put back."""

    task_id: UUID
    title: str = Field(description="as it was at the moment; of a task that is deleted, as it is now")
    type: Literal["TaskRestored", "TaskDeleted"]
    fields: list[str] = Field(description="that change; all of a task that comes back")
    seq: int | None = Field(description="the number of its event; null of a dry run")


class RestoredTasks(BaseModel):
    """The changes that were made, or would be."""

    dry_run: bool
    changes: list[RestoredTask]


class Undo(TypedDict, total=False):
    """Which event to take back; without it, the last one."""

    seq: Annotated[
        StrictInt,
        Field(ge=1, le=2**63 - 1, description="its number in the user's log"),
        BeforeValidator(_whole),
    ]


Reason = Annotated[
    str,
    StringConstraints(max_length=LONGEST_REASON),
    BeforeValidator(text.without_controls),
    Field(
        description="why, for the log, which keeps it for ever: up to 500 characters, and nothing personal",
        json_schema_extra={"pattern": text.WITHOUT_CONTROLS},
    ),
]


class Erasure(TypedDict, total=False):
    """Why a task's content is erased."""

    reason: Reason | None


class ErasureOfAll(BaseModel):
    """The confirmation that all of a user's content is to be erased. An unknown field is refused."""

    model_config = ConfigDict(extra="forbid")

    confirm: str = Field(description="the user's id, as the path has it")
    reason: Reason | None = None


_FROM = Field(description="null where there was none")
_TO = Field(description="null where there is none now, or the task was deleted")
TextChange = TypedDict("TextChange", {"from": Annotated[str | None, _FROM], "to": Annotated[str | None, _TO]})
FlagChange = TypedDict("FlagChange", {"from": Annotated[bool | None, _FROM], "to": Annotated[bool | None, _TO]})
TagsChange = TypedDict(
    "TagsChange", {"from": Annotated[list[str] | None, _FROM], "to": Annotated[list[str] | None, _TO]}
)


class Changes(TypedDict, total=False):
    """The fields that changed. Where a task was created, deleted or brought back: all that aren't empty, but title,
    description and completed always."""

    title: TextChange
    description: TextChange
    completed: FlagChange
    priority: TextChange
    due_date: TextChange
    tags: TagsChange


class FieldError(TypedDict):
    """One field at fault."""

    field: str
    message: str
    type: str


class ProblemDetails(TypedDict):
    """Every error answer (RFC 9457)."""

    type: Annotated[str, Field(pattern="^/problems/[a-z-]+$", description="tells the problems apart, for programs")]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: Annotated[str, Field(description="what is wrong, in a sentence for the person at the screen")]
    error: Annotated[str, Field(description="the same text as `detail`")]
    message: Annotated[str, Field(description="the same text as `detail`")]
    request_id: Annotated[str, Field(description="as in `X-Request-ID`")]
    hint: NotRequired[Annotated[str, Field(description="what was wrong with the request, for developers")]]
    errors: NotRequired[Annotated[list[FieldError], Field(min_length=1, description="where fields are at fault")]]


DatabaseState: TypeAlias = Literal["reachable", "read-only", "unreachable"]


class Health(BaseModel):
    """The readiness to serve requests."""

    status: Literal["healthy", "unhealthy"]
    database: DatabaseState
    version: str


class Alive(BaseModel):
    """The process runs."""

    status: Literal["alive"]
