"""What goes over the wire (contract, section 1)."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    with_config,
)
from typing_extensions import TypedDict  # pydantic needs this one below Python 3.12


def _storable(text: str) -> str:
    """Postgres text holds every character but NUL (pydantic has refused lone surrogates by then)."""
    if "\0" in text:
        raise ValueError("must not contain the NUL character")
    return text


Title = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=255),
    AfterValidator(_storable),
    Field(description="1 to 255 characters after surrounding white space is cut"),
]
Description = Annotated[
    str,
    StringConstraints(max_length=5000),
    AfterValidator(_storable),
    Field(description="up to 5,000 characters; null clears it"),
]


class NewTask(BaseModel):
    """A task to create."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"title": "Buy milk", "description": "2 litres"}]})

    title: Title
    description: Description | None = None
    completed: StrictBool = False


@with_config(
    ConfigDict(json_schema_extra={"examples": [{"title": "Buy oat milk"}, {"description": None, "completed": True}]})
)
class TaskChanges(TypedDict, total=False):
    """What to change of a task. What is left out keeps its value."""

    title: Title
    description: Description | None
    completed: StrictBool


@with_config(ConfigDict(json_schema_extra={"examples": [{"completed": True}]}))
class Completion(TypedDict, total=False):
    """Whether the task is completed; without it, the present state is turned over."""

    completed: StrictBool


class Task(BaseModel):
    """A task as it is answered."""

    model_config = ConfigDict(
        title="Task",
        json_schema_extra={
            "examples": [
                {
                    "id": "019a9e3c-5f3a-7c21-9d52-3d0c5f0e8a11",
                    "user_id": "demo",
                    "title": "Buy milk",
                    "description": "2 litres",
                    "completed": False,
                    "created_at": "2026-11-20T19:24:49.076369Z",
                    "updated_at": "2026-11-20T19:24:49.076369Z",
                    "version": 1,
                }
            ]
        },
    )

    id: UUID
    user_id: str
    title: str
    description: str | None
    completed: bool
    created_at: datetime = Field(description="UTC, RFC 3339, always six decimals and Z")
    updated_at: datetime = Field(description="grows with every change")
    version: int = Field(description="starts at 1 and counts the task's events")


class FieldError(BaseModel):
    """One field at fault."""

    field: str
    message: str
    type: str


class ProblemDetails(BaseModel):
    """Every error answer (RFC 9457)."""

    type: str = Field(examples=["/problems/task-not-found"])
    title: str = Field(examples=["Task not found"])
    status: int = Field(examples=[404])
    detail: str = Field(description="what is wrong and what to do, for people")
    error: str = Field(description="the same text as `detail`")
    request_id: str
    errors: list[FieldError] | None = Field(default=None, description="the fields at fault, where fields are")


class Health(BaseModel):
    """Whether requests can be served."""

    status: Literal["healthy", "unhealthy"]
    database: Literal["reachable", "unreachable"]
    version: str = Field(examples=["0.1.0"])


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
Text = Annotated[str, StringConstraints(max_length=255), AfterValidator(_storable)]


class ListParameters(BaseModel):
    """How to list tasks. Parameters that aren't known are ignored."""

    status: Annotated[Literal["all", "pending", "completed"], BeforeValidator(_status)] = Field(
        default="all", description="in any case; `incomplete` and `complete` are understood too"
    )
    completed: Annotated[bool | None, BeforeValidator(_truth)] = Field(
        default=None, description="the same as `status`, as a boolean: give one of the two"
    )
    q: Text | None = Field(default=None, description="words, all of which must occur in title or description")
    search: Text | None = Field(default=None, description="another name for `q`")
    sort: Annotated[SortName, BeforeValidator(_lower)] = Field(
        default="created_at", description="a leading `-` means descending"
    )
    order: Annotated[Literal["asc", "desc"] | None, BeforeValidator(_lower)] = Field(
        default=None, description="default: newest first for times, A to Z for titles"
    )
    limit: int = Field(default=1000, ge=1, le=1000)
    offset: int | None = Field(default=None, ge=0, le=2**31 - 1)
    cursor: str | None = Field(default=None, description="from the `Link` header of the page before")
