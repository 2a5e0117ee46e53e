"""What goes over the wire (contract, section 1)."""

from datetime import datetime
from typing import Annotated, Any, Literal, NotRequired
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, StrictBool, StringConstraints
from typing_extensions import TypedDict  # pydantic needs this one below Python 3.12

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
        description="from the `Link` header of the page before, as it is; bound to its filter and order",
        examples=[
            "W1tudWxsLFtdLCJjcmVhdGVkX2F0IiwiZGVzYyJdLCIyMDI2LTExLTIwVDE5OjI0OjQ5LjA3NjM2OVoiLCIwMTlhOWUzYzVmM2E3YzIxOWQ1MjNkMGM1ZjBlOGExMSJd"
        ],
    )
