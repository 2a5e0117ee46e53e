"""The endpoints that erase content for good (docs/http-api.md, "Erasure")."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from api import examples, responses
from api.field_errors import summary
from api.openapi import OF_BODY, OF_EVENT, OF_TASK, OF_WRITE, headers, problems, writes
from api.parameters import TaskId
from api.problems import Invalid
from api.request_body import json_body, optional_json_body
from api.routing import Route
from api.schemas import Erasure, ErasureOfAll
from api.user_turns import take_turn
from api.writes import Write, refuse_query
from commands.commands import EraseTask
from commands.erasure import UserErasure, erase_task

router = APIRouter(prefix="/api/{user_id}", tags=["audit"], route_class=Route)


@router.post(
    "/tasks/{task_id}/erase",
    operation_id="eraseTask",
    summary="Erase a deleted task's content",
    status_code=204,
    response_description="The content is gone for good",
    responses={
        204: headers(*OF_EVENT),
        **problems(*OF_WRITE, *OF_TASK, *OF_BODY, "changedSince", "aQuery", "notDeleted", "badReason"),
    },
    openapi_extra=writes(Erasure, examples.ERASURES, required=False),
)
async def erase(
    write: Write, task_id: TaskId, body: Annotated[Erasure | None, Depends(optional_json_body(Erasure))]
) -> Response:
    """Erase the content of all events of a deleted task, which can't be undone.

    The log keeps that they happened: their types, times, actors and hashes. Sent again, it goes on with an erasure that
    was interrupted.
    """
    refuse_query(write.request)
    command = EraseTask(
        user_id=write.user,
        task_id=task_id,
        reason=body.get("reason") if body else None,
        precondition=write.precondition,
    )
    await take_turn(write.request, write.user)
    return responses.of_write(await erase_task(write.store, command, actor=write.actor, metadata=write.metadata))


@router.delete(
    "",
    operation_id="eraseUser",
    summary="Erase all of a user's content",
    status_code=204,
    response_description="The content is gone for good",
    responses={
        204: headers(*OF_EVENT),
        **problems(*OF_WRITE, *OF_BODY, "aQuery", "listChanged", "notConfirmed"),
    },
    openapi_extra=writes(ErasureOfAll, examples.ERASURES_OF_ALL),
)
async def erase_all(write: Write, body: Annotated[ErasureOfAll, Depends(json_body(ErasureOfAll))]) -> Response:
    """Erase the content of all of the user's events so far, and with it all tasks, which can't be undone.

    `confirm` must be the user's id. The log keeps that the events happened. Sent again, it goes on with an erasure that
    was interrupted. `If-Match` is about the list.
    """
    refuse_query(write.request)
    if body.confirm != write.user:
        message = "Confirm must be the user's id, as the path has it."
        errors = [{"field": "confirm", "message": message, "type": "not_confirmed"}]
        raise Invalid(summary(errors), errors=errors)
    await take_turn(write.request, write.user)
    erasure = UserErasure(
        write.store,
        write.user,
        reason=body.reason,
        precondition=write.precondition,
        actor=write.actor,
        metadata=write.metadata,
    )
    return responses.of_write(await erasure.handle())
