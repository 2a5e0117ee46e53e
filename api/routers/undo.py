"""The endpoint that takes back an event (docs/http-api.md, "Undo")."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from api import examples, responses
from api.openapi import OF_BODY, OF_EVENT, OF_WRITE, answer, headers, problems, writes
from api.problems import EventNotFound
from api.request_body import optional_json_body
from api.routing import Route
from api.schemas import Task, Undo
from api.server.disconnects import while_connected
from api.writes import Write, refuse_query
from commands.commands import UndoEvent

router = APIRouter(prefix="/api/{user_id}", tags=["tasks"], route_class=Route)


@router.post(
    "/undo",
    operation_id="undo",
    summary="Take back an event",
    response_model=Task,
    response_description="The task as it is now",
    responses={
        200: answer(examples.UNDONE_TASK, "ETag", *OF_EVENT),
        204: {
            "description": "The task is gone, since the event had created it or brought it back",
            **headers(*OF_EVENT),
        },
        **problems(*OF_WRITE, *OF_BODY, "aQuery", "changedSince", "nothingToUndo", "fieldsChanged", "noSeq", "erased"),
    },
    openapi_extra=writes(Undo, examples.UNDOS, required=False),
)
async def undo(write: Write, body: Annotated[Undo | None, Depends(optional_json_body(Undo))]) -> Response:
    """Take back event `seq`, or the last one: give the fields that it changed their former values, by a new event.

    That is refused where later events have changed the same fields. `If-Match` is about the event's task.
    """
    refuse_query(write.request)
    seq = body.get("seq") if body else None
    found = await write.store.of_seq(write.user, seq)
    if found is None:
        raise EventNotFound(hint="There is no event yet." if seq is None else f"There is no event {seq}.")
    task_id, version = found
    command = UndoEvent(user_id=write.user, task_id=task_id, version=version, precondition=write.precondition)
    return responses.of_write(await while_connected(write.request, write.execute(command)))
