"""The endpoint for clients that keep a copy of the tasks (docs/http-api.md, "Sync")."""

from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Response

from api import examples
from api.dependencies import CurrentCaller
from api.openapi import answer, problems
from api.parameters import SyncParameters
from api.problems import LogReplaced
from api.responses import JSON
from api.routing import Route
from api.schemas import Sync
from api.server import unsent
from api.sync_tokens import sync_point, sync_token
from queries import changes as query
from queries.json_array import json_array

router = APIRouter(prefix="/api/{user_id}/tasks", tags=["tasks"], route_class=Route)


@router.get(
    "/changes",
    operation_id="getChanges",
    summary="What has changed since",
    response_model=Sync,
    response_description="The tasks that have changed, or a page of them",
    responses={200: answer(examples.SYNC), **problems("notForAuditors", "badParameter", "badToken", "logReplaced")},
)
async def get_changes(caller: CurrentCaller, parameters: Annotated[SyncParameters, Query()]) -> Response:
    """The tasks that have changed since the token `since`, as they are now, and those that were deleted.

    Without `since`, all tasks. `next` is the token for the next request, which makes sense at once if there is `more`.
    """
    user, limit = caller.user, parameters.limit
    since = None if parameters.since is None else sync_point(parameters.since)
    unsent.require_room(user)
    if since is None or since.start is not None:
        page = await query.fetch_first_copy(caller.pool, user, since, limit=limit)
    else:
        page = await query.fetch_changes(caller.pool, user, since, limit=limit)
    if page is None:
        raise LogReplaced(hint="since is of a log that is no more: begin again without it.")
    deleted = [{**each._asdict(), "id": str(each.id)} for each in page.deleted]
    rest = {"deleted": deleted, "next": sync_token(page.next), "more": page.more}
    body = b"".join((b'{"tasks":', await json_array(user, page.tasks), b",", orjson.dumps(rest)[1:]))
    return unsent.response(body, {}, JSON)
