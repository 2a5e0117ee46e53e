"""Path and query parameters (docs/http-api.md, "Lists"; docs/http-api.md, "History")."""

import re
from datetime import date, datetime
from typing import Annotated, Any, Literal, get_args
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastapi import Path
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, StringConstraints

from api import text, times
from api.audit_schemas import EventType
from api.examples import ACCESS_ID, TASK_ID
from api.problems import NotFound
from api.schemas import LARGEST_VERSION
from events.task import Priority
from queries.audit import LAST_SEQ
from queries.tasks import Sort

_OTHERS_WORDS = frozenset({
    "all", "archive", "archived", "batch", "bulk", "clear", "completed", "count", "export", "filter", "import",
    "incomplete", "overdue", "pending", "reorder", "recent", "search", "stats", "statistics", "summary", "tags",
    "today", "trash", "upcoming",
})  # fmt: skip
"""Words that other task services have in place of an id, as routes that don't exist here."""


def _known_elsewhere(value: str) -> str:
    """Return the text of an id, unless it is an id or a route of other task services.

    Raises `NotFound` for those, for every method: they don't exist here. It passes through Pydantic as it is.
    """
    if value.isdecimal() and value.isascii():
        raise NotFound(hint=f"There is no task {value[:_LONGEST_SHOWN]}: ids are UUIDs here.")
    if value.lower() in _OTHERS_WORDS:
        raise NotFound("Not found.", hint=f"There is no route {value} here: /docs lists the routes.")
    return value


_LONGEST_SHOWN = 40
"""Characters of a refused id that a hint shows."""

TaskId = Annotated[UUID, BeforeValidator(_known_elsewhere), Path(description="the task's id", examples=[TASK_ID])]


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


_STATUSES = {"incomplete": "pending", "todo": "pending", "complete": "completed", "done": "completed"}


def _status(value: Any) -> Any:
    value = _lower(value)
    return _STATUSES.get(value, value) if isinstance(value, str) else value


def _truth(value: Any) -> Any:
    if _lower(value) not in ("true", "false"):
        raise ValueError("must be true or false")
    return _lower(value) == "true"


Moment = Annotated[datetime, BeforeValidator(times.read_moment)]

_COLUMNS = get_args(Sort)
_SORT_NAMES = (*_COLUMNS, *(f"-{column}" for column in _COLUMNS))
_OTHERS_NAMES = {
    "created": "created_at",
    "createdat": "created_at",
    "date": "created_at",
    "updated": "updated_at",
    "updatedat": "updated_at",
    "alpha": "title",
    "name": "title",
    "due": "due_date",
    "duedate": "due_date",
    "completedat": "completed_at",
}
_SORT = re.compile(r"(-?)([a-z_]+?)(?:[_:](asc|desc))?")


def _sort(value: str) -> str:
    """Return the column, and its direction if one is named: `title`, `title:desc`. Raises `ValueError`."""
    if match := _SORT.fullmatch(value.lower()):
        minus, name, direction = match.groups()
        column = _OTHERS_NAMES.get(name, name)
        if column in _COLUMNS:
            direction = direction or ("desc" if minus else None)
            return f"{column}:{direction}" if direction else column
    raise ValueError(f"must be {', '.join(_COLUMNS)}, perhaps with a minus before it or _asc or _desc behind it")


SortName = Annotated[str, AfterValidator(_sort), Field(json_schema_extra={"enum": list(_SORT_NAMES)})]
Direction = Annotated[Literal["asc", "desc"], BeforeValidator(_lower)]
Text = Annotated[
    str,
    StringConstraints(max_length=255),
    AfterValidator(text.without_nul),
    Field(json_schema_extra={"pattern": text.WITHOUT_NUL}),
]
MOST_WORDS = 12
"""Largest number of words of a search: each is looked for in all texts."""


def distinct_words(text: str) -> tuple[str, ...]:
    """Split a search into its words, the longest first, without words that are part of another one."""
    words: list[str] = []
    for word in sorted(dict.fromkeys(text.split()), key=len, reverse=True):
        if not any(word in longer for longer in words):
            words.append(word)
    return tuple(words)


def _not_too_many_words(value: str) -> str:
    if len(distinct_words(value)) > MOST_WORDS:
        raise ValueError(f"must have at most {MOST_WORDS} words: leave out those that most tasks have")
    return value


Search = Annotated[Text, AfterValidator(_not_too_many_words)]
_MOST_SKIPPED = 2**31 - 1
_LAST_PAGE = _MOST_SKIPPED // 1000
"""Largest page number: with any page size it skips at most `_MOST_SKIPPED` tasks."""


Actor = Annotated[Text, StringConstraints(min_length=1)]

DueDate = Annotated[
    str,
    BeforeValidator(times.read_due_date, json_schema_input_type=date | datetime),
]


WantedTag = Annotated[
    str,
    StringConstraints(max_length=255, strip_whitespace=True),
    BeforeValidator(text.on_one_line),
    Field(json_schema_extra={"pattern": text.LINE}),
]


def _zone(value: Any) -> Any:
    try:
        return ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        raise ValueError("must be the name of a time zone, such as Europe/Berlin") from None


Zone = Annotated[ZoneInfo, BeforeValidator(_zone, json_schema_input_type=str)]


class ListParameters(BaseModel):
    """How to list tasks. Parameters that aren't known are ignored."""

    status: Annotated[Literal["all", "pending", "completed"], BeforeValidator(_status)] = Field(
        default="all",
        description="in any case; `incomplete`, `todo`, `complete` and `done` are understood too",
        examples=["pending"],
    )
    completed: Annotated[bool | None, BeforeValidator(_truth)] = Field(
        default=None, description="the same as `status`, as a boolean: give one of the two", examples=[False]
    )
    priority: Annotated[Priority | None, BeforeValidator(_lower)] = Field(
        default=None, description="in any case", examples=["high"]
    )
    tag: Annotated[list[WantedTag], Field(max_length=20)] = Field(
        default_factory=list, description="repeatable: tasks that have all of these tags", examples=[["home"]]
    )
    due_before: DueDate | None = Field(
        default=None, description="a date or a time: tasks due before it", examples=["2026-12-08"]
    )
    due_after: DueDate | None = Field(
        default=None, description="a date or a time: tasks due then or later", examples=["2026-12-01"]
    )
    overdue: Annotated[bool | None, BeforeValidator(_truth)] = Field(
        default=None,
        description="whether a task isn't completed and its due date is over: a date when its day has ended in the "
        "zone `tz`, a time at once",
        examples=[True],
    )
    tz: Zone | None = Field(
        default=None, description="time zone for `overdue`, UTC unless given", examples=["Europe/Berlin"]
    )
    q: Search | None = Field(
        default=None,
        description=f"words, up to {MOST_WORDS}, all of which must occur in title, description or tags",
        examples=["oat milk"],
    )
    search: Search | None = Field(default=None, description="another name for `q`", examples=["oat milk"])
    sort: SortName | None = Field(
        default=None,
        description="`created_at` unless given; a leading `-` means descending. `created`, `date`, `updated`, `name` "
        "and `alpha` are understood too, and `_asc`, `_desc`, `:asc` or `:desc` behind a name",
        examples=["-updated_at"],
    )
    sort_by: SortName | None = Field(default=None, description="another name for `sort`", examples=["title"])
    order: Direction | None = Field(
        default=None,
        description="default: A to Z for titles, soonest first for due dates, else latest or highest first; goes "
        "before a direction in `sort`",
        examples=["desc"],
    )
    sort_order: Direction | None = Field(default=None, description="another name for `order`", examples=["desc"])
    limit: int | None = Field(
        default=None, ge=1, le=1000, description="the longest page wanted, 1000 unless given", examples=[100]
    )
    offset: int | None = Field(
        default=None,
        ge=0,
        le=_MOST_SKIPPED,
        description="how many to skip; `cursor` is faster, and exact",
        examples=[100],
    )
    skip: int | None = Field(
        default=None, ge=0, le=_MOST_SKIPPED, description="another name for `offset`", examples=[100]
    )
    page: int | None = Field(
        default=None, ge=1, le=_LAST_PAGE, description="the number of the page wanted, from 1", examples=[2]
    )
    page_size: int | None = Field(
        default=None, ge=1, le=1000, description="tasks on a page; with `page`, 50 unless given", examples=[50]
    )
    per_page: int | None = Field(default=None, ge=1, le=1000, description="another name for `page_size`", examples=[50])
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


class StatsParameters(BaseModel):
    """How to count tasks."""

    tz: Zone | None = Field(
        default=None, description="time zone in which a day ends, UTC unless given", examples=["Europe/Berlin"]
    )


class SyncParameters(BaseModel):
    """From where on to sync."""

    since: str | None = Field(
        default=None,
        description="`next` of the answer before, as it is; without it, all tasks",
        examples=["AAAAAAAAAAIPO7LZSo58VQ"],
        json_schema_extra={"pattern": "^([A-Za-z0-9_-]{22}|[A-Za-z0-9_-]{43})$"},
    )
    limit: int = Field(default=1000, ge=1, le=1000, description="the longest page wanted, in events", examples=[100])


class CompletionParameters(BaseModel):
    """Parameters of `/complete`, in place of a body."""

    completed: Annotated[bool | None, BeforeValidator(_truth)] = Field(
        default=None, description="the same as in the body, for clients that send none", examples=[True]
    )


class RestorationParameters(BaseModel):
    """Parameters of `/restore`, in place of a body."""

    version: int | None = Field(
        default=None,
        ge=1,
        le=LARGEST_VERSION,
        description="the same as in the body, for clients that send none",
        examples=[1],
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


class FeedParameters(BaseModel):
    """Beginning of a feed."""

    after: int | None = Field(
        default=None,
        ge=0,
        le=LAST_SEQ,
        description="events with a greater `seq`, 0 for all; without it, from now on. `Last-Event-ID` goes before it",
        examples=[0],
    )


class AccessParameters(BaseModel):
    """Which reads by auditors to show. Parameters that aren't known are ignored."""

    before: UUID | None = Field(
        default=None, description="only reads before the one with this id", examples=[ACCESS_ID]
    )
    limit: int = Field(default=100, ge=1, le=1000, description="the longest page wanted", examples=[100])


class AuditParameters(BaseModel):
    """Which events to show, and how. Parameters that aren't known are ignored."""

    task_id: UUID | None = Field(default=None, description="only this task's", examples=[TASK_ID])
    type: Annotated[list[EventType], Field(max_length=20)] = Field(
        default=[], description="only these types; repeatable", examples=[["TaskDeleted"]]
    )
    actor: Annotated[list[Actor], Field(max_length=20)] = Field(
        default=[], description="only what these did: the user, or who acted for them; repeatable", examples=[["demo"]]
    )
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
