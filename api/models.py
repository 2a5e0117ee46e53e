"""What goes over the wire (contract, sections 1 and 5)."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NotRequired
from uuid import UUID

from fastapi import Path
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, StrictBool, StrictInt, StringConstraints
from typing_extensions import TypedDict  # pydantic needs this one below Python 3.12

from api.examples import TASK_ID
from queries.audit import LAST_SEQ

LARGEST_VERSION = 2**31 - 1

_WHITE_SPACE = r"\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""Unicode's White_Space, which is what pydantic cuts. `\\s` is something else in each regex dialect."""

# What the validators below ask, for the document: in the common part of the dialects that read it.
_NO_NUL = r"^[^\x00]*$"
_NO_NUL_NOT_BLANK = rf"^[^\x00]*[^\x00{_WHITE_SPACE}][^\x00]*$"
_TIMESTAMP = r"^[0-9-]{10}T[0-9:]{8}\.[0-9]{6}Z$"
USER_ID: dict[str, Any] = {"minLength": 1, "maxLength": 255, "pattern": r"^(?!\.{1,2}$)[^/\x00]+$"}
"""`config.settings.USER_ID`, for the document."""


def _storable(text: str) -> str:
    """Postgres text holds every character but NUL (pydantic has refused lone surrogates by then)."""
    if "\0" in text:
        raise ValueError("must not contain the NUL character")
    return text


Title = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=255),
    AfterValidator(_storable),
    Field(
        description="1 to 255 characters after surrounding white space is cut",
        json_schema_extra={"pattern": _NO_NUL_NOT_BLANK},
    ),
]
Description = Annotated[
    str,
    StringConstraints(max_length=5000),
    AfterValidator(_storable),
    Field(description="up to 5,000 characters; null clears it", json_schema_extra={"pattern": _NO_NUL}),
]


class NewTask(BaseModel):
    """A task to create."""

    title: Title
    description: Description | None = None
    completed: StrictBool = Field(default=False, description="false unless given")


class TaskChanges(TypedDict, total=False):
    """What to change of a task. What is left out keeps its value."""

    title: Title
    description: Description | None
    completed: StrictBool


class Completion(TypedDict, total=False):
    """Whether the task is completed; without it, the present state is turned over."""

    completed: StrictBool


class Task(BaseModel):
    """A task as it is answered."""

    id: UUID
    user_id: str = Field(json_schema_extra={**USER_ID})
    title: str = Field(min_length=1, max_length=255)
    description: str | None = Field(max_length=5000)
    completed: bool
    created_at: datetime = Field(
        description="UTC, RFC 3339, always six decimals and Z", json_schema_extra={"pattern": _TIMESTAMP}
    )
    updated_at: datetime = Field(description="grows with every change", json_schema_extra={"pattern": _TIMESTAMP})
    version: int = Field(ge=1, description="starts at 1 and counts the task's events")


def _whole(value: Any) -> Any:
    """1.0 is a whole number in JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Restoration(TypedDict, total=False):
    """Which version to go back to; without it, the last one at which the task was there."""

    version: Annotated[
        StrictInt,
        Field(ge=1, le=LARGEST_VERSION, description="as in the history; not that of a deletion"),
        BeforeValidator(_whole),
    ]


EventType = Literal["TaskCreated", "TaskUpdated", "TaskToggled", "TaskDeleted", "TaskRestored"]
_FROM = Field(description="null where there was none")
_TO = Field(description="null where there is none now, or the task was deleted")
TextChange = TypedDict("TextChange", {"from": Annotated[str | None, _FROM], "to": Annotated[str | None, _TO]})
FlagChange = TypedDict("FlagChange", {"from": Annotated[bool | None, _FROM], "to": Annotated[bool | None, _TO]})


class Changes(TypedDict, total=False):
    """The fields that changed; all of them where a task was created, deleted or brought back."""

    title: TextChange
    description: TextChange
    completed: FlagChange


_HASH = "^[0-9a-f]{64}$"


class Client(BaseModel):
    """Where a request came from."""

    address: str | None
    agent: str | None = Field(description="its `User-Agent`")


class AuditEvent(BaseModel):
    """One thing that happened."""

    seq: int = Field(ge=1, description="its number in the user's log, which has no gaps")
    id: UUID
    type: EventType
    task_id: UUID
    version: int = Field(ge=1, description="its number in the task's history; the version it made")
    at: datetime = Field(
        description="UTC, RFC 3339, always six decimals and Z", json_schema_extra={"pattern": _TIMESTAMP}
    )
    actor: str = Field(description="the user who did it")
    request_id: str | None = Field(description="as in the answer's `X-Request-ID` then")
    client: Client
    changes: Changes
    hash: str = Field(description="the chain up to and with this event", json_schema_extra={"pattern": _HASH})


class ExportedEvent(AuditEvent):
    """The same, with all that it takes to compute the hash again: a line of an export."""

    user_id: str
    idempotency_key: str | None
    fingerprint: str | None = Field(description="of the request with that key: SHA-256 of method, path and body")
    salt: str = Field(json_schema_extra={"pattern": "^[0-9a-f]{32}$"})
    data: dict[str, Any] = Field(description="as it is stored, which is what was hashed")


class Head(BaseModel):
    """The end of a user's log. Keep it: with it, nobody can rewrite what was before, and go unnoticed."""

    seq: int = Field(ge=0, description="how many events there are")
    hash: str = Field(
        description="of the last one; empty where there is none", json_schema_extra={"pattern": f"^$|{_HASH}"}
    )
    at: datetime | None = Field(json_schema_extra={"pattern": _TIMESTAMP})


TaskId = Annotated[UUID, Path(description="the task's id", examples=[TASK_ID])]


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
    detail: Annotated[str, Field(description="what is wrong and what to do, for people")]
    error: Annotated[str, Field(description="the same text as `detail`")]
    request_id: Annotated[str, Field(description="as in `X-Request-ID`")]
    errors: NotRequired[Annotated[list[FieldError], Field(min_length=1, description="where fields are at fault")]]


class Health(BaseModel):
    """Whether requests can be served."""

    status: Literal["healthy", "unhealthy"]
    database: Literal["reachable", "unreachable"]
    version: str


class Alive(BaseModel):
    """The process runs."""

    status: Literal["alive"]


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _status(value: Any) -> Any:
    value = _lower(value)
    return {"incomplete": "pending", "complete": "completed"}.get(value, value) if isinstance(value, str) else value


def _truth(value: Any) -> Any:
    if _lower(value) not in ("true", "false"):
        raise ValueError("must be true or false")
    return _lower(value) == "true"


_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d+)?([Zz]|[ +-]\d\d:\d\d)", re.ASCII)


def _moment(value: Any) -> Any:
    """Any offset; what is finer than a microsecond is cut off. A plus that came as a space is one."""
    try:
        date, time, fraction, zone = _RFC3339.fullmatch(value).groups()  # type: ignore[union-attr] # no match: caught below
        moment = datetime.fromisoformat(f"{date}T{time}{(fraction or '')[:7]}{zone.upper().replace(' ', '+')}")
        return moment.astimezone(UTC)
    except (AttributeError, ValueError, OverflowError):
        raise ValueError("must be a time with its offset, as in RFC 3339: 2026-11-20T19:24:49.076369Z") from None


Moment = Annotated[datetime, BeforeValidator(_moment)]

SortName = Literal["created_at", "updated_at", "title", "-created_at", "-updated_at", "-title"]
Text = Annotated[
    str,
    StringConstraints(max_length=255),
    AfterValidator(_storable),
    Field(json_schema_extra={"pattern": _NO_NUL}),
]


class ListParameters(BaseModel):
    """How to list tasks. Parameters that aren't known are ignored."""

    status: Annotated[Literal["all", "pending", "completed"], BeforeValidator(_status)] = Field(
        default="all", description="in any case; `incomplete` and `complete` are understood too", examples=["pending"]
    )
    completed: Annotated[bool | None, BeforeValidator(_truth)] = Field(
        default=None, description="the same as `status`, as a boolean: give one of the two", examples=[False]
    )
    q: Text | None = Field(
        default=None, description="words, all of which must occur in title or description", examples=["oat milk"]
    )
    search: Text | None = Field(default=None, description="another name for `q`", examples=["oat milk"])
    sort: Annotated[SortName, BeforeValidator(_lower)] = Field(
        default="created_at", description="a leading `-` means descending", examples=["-updated_at"]
    )
    order: Annotated[Literal["asc", "desc"] | None, BeforeValidator(_lower)] = Field(
        default=None, description="default: newest first for times, A to Z for titles", examples=["desc"]
    )
    limit: int = Field(default=1000, ge=1, le=1000, description="the longest page wanted", examples=[100])
    offset: int | None = Field(
        default=None, ge=0, le=2**31 - 1, description="how many to skip; `cursor` is faster, and exact", examples=[100]
    )
    cursor: str | None = Field(
        default=None,
        description="from the `Link` header of the page before, as it is; bound to its filter, order and `as_of`",
        examples=[
            "W1tudWxsLFtdLCJjcmVhdGVkX2F0IiwiZGVzYyJdLCIyMDI2LTExLTIwVDE5OjI0OjQ5LjA3NjM2OVoiLCIwMTlhOWUzYzVmM2E3YzIxOWQ1MjNkMGM1ZjBlOGExMSJd"
        ],
    )
    as_of: Moment | None = Field(
        default=None,
        description="as the list was at this moment, from the log; RFC 3339",
        examples=["2026-11-20T19:30:00Z"],
    )


class PastParameters(BaseModel):
    """Which past of a task to show."""

    as_of: Moment | None = Field(
        default=None,
        description="as the task was at this moment, from the log; RFC 3339",
        examples=["2026-11-20T19:30:00Z"],
    )
    version: int | None = Field(
        default=None, ge=1, le=LARGEST_VERSION, description="as this version of the task was", examples=[1]
    )


class HistoryParameters(BaseModel):
    """Which part of a task's history to show."""

    after: int = Field(default=0, ge=0, le=LAST_SEQ, description="only events with a greater `seq`", examples=[0])
    limit: int = Field(default=1000, ge=1, le=1000, description="the longest page wanted", examples=[100])


class AuditParameters(BaseModel):
    """Which events to show, and how. Parameters that aren't known are ignored."""

    task_id: UUID | None = Field(default=None, description="only this task's", examples=[TASK_ID])
    type: list[EventType] = Field(default=[], description="only these types; repeatable", examples=[["TaskDeleted"]])
    since: Moment | None = Field(
        default=None, description="only events at or after this time; RFC 3339", examples=["2026-11-20T00:00:00Z"]
    )
    until: Moment | None = Field(
        default=None, description="only events before this time; RFC 3339", examples=["2026-11-21T00:00:00Z"]
    )
    after: int = Field(default=0, ge=0, le=LAST_SEQ, description="only events with a greater `seq`", examples=[0])
    before: int | None = Field(
        default=None, ge=0, le=LAST_SEQ, description="only events with a smaller `seq`", examples=[101]
    )
    order: Annotated[Literal["asc", "desc"], BeforeValidator(_lower)] = Field(
        default="desc", description="by `seq`: newest first unless `asc`", examples=["asc"]
    )
    limit: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="the longest page wanted, 100 unless given; an export has no limit unless given",
        examples=[100],
    )
    format: Annotated[Literal["json", "ndjson", "csv"] | None, BeforeValidator(_lower)] = Field(
        default=None,
        description="a page as `json`, or the whole selection as `ndjson` or `csv`; goes before `Accept`",
        examples=["ndjson"],
    )
