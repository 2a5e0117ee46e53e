"""The endpoint for several writes in one request (docs/http-api.md, "Batches")."""

from typing import Annotated, Any, cast

import orjson
from fastapi import APIRouter, Depends, Response
from uuid_utils.compat import uuid7

from api.entity_tags import entity_tags
from api.error_handlers import problem_of
from api.openapi import OF_BODY, OF_EVENT, OF_WRITE, answer, problems, writes
from api.operations import BATCH_RESULTS, BATCHES, BatchResults, CreateOperation, Operation, Operations
from api.request_body import json_body
from api.responses import JSON, headers_of_several
from api.routing import Route
from api.schemas import TaskChanges
from api.server import unsent
from api.user_turns import take_turn
from api.writes import Write, refuse_query
from commands.batch import Batch, CommandResult
from commands.commands import Command, CreateTask, DeleteTask, RestoreTask, ToggleTask, UpdateTask
from commands.decider import Refusal
from commands.precondition import UNCONDITIONAL, Precondition
from events.projection import task_document
from events.task import Fields

router = APIRouter(prefix="/api/{user_id}", tags=["tasks"], route_class=Route)


@router.post(
    "/batch",
    operation_id="batch",
    summary="Carry out several changes",
    response_model=BatchResults,
    response_description="What came of each operation",
    responses={
        200: answer(BATCH_RESULTS, "ETag", *OF_EVENT),
        **problems(*OF_WRITE, *OF_BODY, "aQuery", "operationRefused", "listChanged", "badOperation", "erased"),
    },
    openapi_extra=writes(Operations, BATCHES),
)
async def carry_out_batch(write: Write, body: Annotated[Operations, Depends(json_body(Operations))]) -> Response:
    """Carry out up to 100 operations in order, in one transaction: all or none, or without `atomic` each by itself.

    `If-Match` and the `ETag` are about the list.
    """
    refuse_query(write.request)
    commands = [_command(write.user, operation) for operation in body.operations]
    unsent.require_room(write.user)
    await take_turn(write.request, write.user)
    batch = Batch(
        write.store,
        write.user,
        commands,
        atomic=body.atomic,
        precondition=write.precondition,
        actor=write.actor,
        metadata=write.metadata,
    )
    done = await batch.handle()
    request_id = write.request.state.request_id
    results = [_result(*each, request_id) for each in zip(commands, done.changes, strict=True)]
    return unsent.response(orjson.dumps({"results": results}), headers_of_several(done), JSON, done=True)


def _command(user: str, operation: Operation) -> Command:
    if isinstance(operation, CreateOperation):
        fields = cast("Fields", operation.model_dump(exclude={"id", "op"}))
        return CreateTask(user_id=user, task_id=operation.id or uuid7(), fields=fields)
    task_id, condition = operation["id"], _precondition(operation.get("if_match"))
    match operation["op"]:
        case "update":
            given: Any = {name: value for name, value in operation.items() if name in TaskChanges.__annotations__}
            return UpdateTask(user_id=user, task_id=task_id, fields=given, precondition=condition)
        case "complete":
            completed = operation.get("completed")
            return ToggleTask(user_id=user, task_id=task_id, completed=completed, precondition=condition)
        case "delete":
            return DeleteTask(user_id=user, task_id=task_id, precondition=condition)
        case "restore":
            return RestoreTask(user_id=user, task_id=task_id, version=operation.get("version"), precondition=condition)


def _precondition(tag: str | None) -> Precondition:
    if tag is None:
        return UNCONDITIONAL
    return Precondition(match="*" if tag == "*" else entity_tags(tag))


def _result(command: Command, outcome: CommandResult, request_id: str) -> dict[str, Any]:
    if isinstance(outcome, Refusal):
        problem = problem_of(outcome)
        return {"status": problem.status, "problem": problem.body(request_id=request_id)}
    if outcome.task is None:
        return {"status": 204, "seq": outcome.seq, "task": None}
    status = 201 if isinstance(command, CreateTask) else 200
    return {"status": status, "seq": outcome.seq, "task": orjson.Fragment(task_document(outcome.task))}
