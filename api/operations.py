"""Operations of a batch, and their results: models and examples (docs/http-api.md, "Batches")."""

from typing import (
    Annotated,
    Any,
    Literal,
    Required,  # pydantic needs these below Python 3.12
    TypeAlias,
)
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from api.entity_tags import TAGS_PATTERN, entity_tags
from api.examples import CHANGED_TASK, TASK_ID, Named
from api.faults import FAULTS
from api.schemas import LARGEST_VERSION, Completion, NewTask, ProblemDetails, Restoration, Task, TaskChanges


def _tag(value: Any) -> Any:
    """Return the text of an entity tag; a number is a version."""
    whole = value.is_integer() if isinstance(value, float) else type(value) is int
    text = str(int(value)) if whole else value
    if not isinstance(text, str) or (text != "*" and not entity_tags(text)):
        raise ValueError("must be a version, an ETag, or *")
    return text


_Version = Annotated[int, Field(ge=0, le=LARGEST_VERSION)]
IfMatch = Annotated[
    str,
    BeforeValidator(_tag, json_schema_input_type=_Version | Annotated[str, Field(pattern=TAGS_PATTERN)]),
    Field(description="the task's `version` or ETag: with another one, the operation is refused"),
]


class CreateOperation(NewTask):
    """Create a task."""

    op: Literal["create"]


class UpdateOperation(TaskChanges, total=False):
    """Change a task."""

    op: Required[Literal["update"]]
    id: Required[UUID]
    if_match: IfMatch


def _changes_something(operation: UpdateOperation) -> UpdateOperation:
    if not operation.keys() & TaskChanges.__annotations__.keys():
        fields = ", ".join(TaskChanges.__annotations__)
        raise PydanticCustomError("no_known_field", "{names}", {"names": f"it names no field to change: {fields}"})
    return operation


_NO_OTHERS = ConfigDict(extra="forbid")
"""Refuses unknown fields: where all known ones may be left out, a misspelled one would do something else."""


class CompleteOperation(Completion, total=False):
    """Complete a task, or reopen it; without `completed`, the present state is turned over."""

    __pydantic_config__ = _NO_OTHERS  # type: ignore[misc] # as pydantic reads it
    op: Required[Literal["complete"]]
    id: Required[UUID]
    if_match: IfMatch


class DeleteOperation(TypedDict, total=False):
    """Delete a task."""

    __pydantic_config__ = _NO_OTHERS  # type: ignore[misc] # as above
    op: Required[Literal["delete"]]
    id: Required[UUID]
    if_match: IfMatch


class RestoreOperation(Restoration, total=False):
    """Bring a task back, or to an earlier version."""

    __pydantic_config__ = _NO_OTHERS  # type: ignore[misc] # as above
    op: Required[Literal["restore"]]
    id: Required[UUID]
    if_match: IfMatch


Operation: TypeAlias = (
    CreateOperation
    | Annotated[UpdateOperation, AfterValidator(_changes_something)]
    | CompleteOperation
    | DeleteOperation
    | RestoreOperation
)


class Operations(BaseModel):
    """Several changes, in order."""

    atomic: StrictBool = Field(default=True, description="all or none; else each by itself")
    operations: list[Annotated[Operation, Field(discriminator="op")]] = Field(min_length=1, max_length=100)


class OperationResult(BaseModel):
    """Result of one operation: its status, and a task or a problem."""

    status: int = Field(description="as the same request by itself would be answered")
    seq: int | None = Field(default=None, description="the number of its event; null if it changed nothing")
    task: Task | None = Field(default=None, description="as the operation left it; null if it is deleted")
    problem: ProblemDetails | None = None


class BatchResults(BaseModel):
    """Results of the operations, in order."""

    results: list[OperationResult]


BATCHES: Named = {
    "all": {
        "summary": "Two new tasks: both or neither",
        "value": {"operations": [{"op": "create", "title": "Buy milk"}, {"op": "create", "title": "Buy tea"}]},
    },
    "each": {
        "summary": "Each by itself",
        "value": {
            "atomic": False,
            "operations": [
                {"op": "update", "id": TASK_ID, "title": "Buy oat milk", "if_match": 1},
                {"op": "complete", "id": TASK_ID, "completed": True},
                {"op": "delete", "id": TASK_ID},
                {"op": "restore", "id": TASK_ID},
            ],
        },
    },
}
BATCH_RESULTS: Named = {
    "example": {
        "summary": "One was carried out, one was refused",
        "value": {
            "results": [
                {"status": 200, "seq": 2, "task": CHANGED_TASK["example"]["value"]},
                {"status": 404, "problem": FAULTS["notFound"].value()},
            ]
        },
    }
}
