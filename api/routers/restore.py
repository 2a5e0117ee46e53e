"""The endpoint that puts all tasks back to a moment (docs/http-api.md, "Restore all tasks")."""

from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Response

from api import examples
from api.openapi import OF_BODY, OF_EVENT, OF_WRITE, answer, problems, writes
from api.request_body import json_body
from api.responses import JSON, headers_of_several
from api.routing import Route
from api.schemas import RestorationOfAll, RestoredTasks
from api.server import unsent
from api.server.disconnects import while_connected
from api.user_turns import take_turn
from api.writes import Write, refuse_query
from commands.restore_all import RestoreAll, TaskPutBack
from queries.json_array import write_array

router = APIRouter(prefix="/api/{user_id}", tags=["tasks"], route_class=Route)

_AT_ONCE = 200
"""Changes that are written at once, in a tenth of a millisecond."""


@router.post(
    "/restore",
    operation_id="restoreAll",
    summary="Put all tasks back to a moment",
    response_model=RestoredTasks,
    response_description="What has changed, or would",
    responses={
        200: answer(examples.RESTORED_TASKS, "ETag", *OF_EVENT),
        **problems(*OF_WRITE, *OF_BODY, "aQuery", "listChanged", "noAsOf", "erased"),
    },
    openapi_extra=writes(RestorationOfAll, examples.RESTORATIONS_OF_ALL),
)
async def restore_all(
    write: Write, body: Annotated[RestorationOfAll, Depends(json_body(RestorationOfAll))]
) -> Response:
    """Put all tasks back to a moment, by new events in one transaction.

    Tasks that weren't there are deleted, and those that were deleted since come back. With `dry_run`, tell the changes
    and make none; with its `ETag` in `If-Match`, just these are made. `If-Match` and the `ETag` are about the list.
    """
    refuse_query(write.request)
    unsent.require_room(write.user)
    await take_turn(write.request, write.user)
    request = RestoreAll(
        write.store,
        write.user,
        body.as_of,
        precondition=write.precondition,
        actor=write.actor,
        metadata=write.metadata,
    )
    done = await while_connected(write.request, request.tell() if body.dry_run else request.handle())
    content = await restored_tasks(write.user, done.changes, dry_run=body.dry_run)
    return unsent.response(content, headers_of_several(done), JSON, done=not body.dry_run)


async def restored_tasks(user: str, changes: list[TaskPutBack], *, dry_run: bool) -> memoryview:
    """Make the response's body, in which each change has the fields of `TaskPutBack`. `changes` is empty afterwards.

    A user may have a hundred thousand tasks, which take 60 ms: other requests run meanwhile.
    """
    body = bytearray(b'{"dry_run":%b,"changes":' % orjson.dumps(dry_run))
    await write_array(body, user, changes, _joined, at_once=_AT_ONCE)
    body += b"}"
    return memoryview(body)


def _joined(changes: list[TaskPutBack]) -> bytes:
    return orjson.dumps(changes, default=str)[1:-1]
