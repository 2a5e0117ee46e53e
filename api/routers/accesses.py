"""The endpoint that tells the readers of a user's log (docs/http-api.md, "Auditors")."""

from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Response

from api import examples
from api.audit_schemas import AuditorAccess
from api.openapi import OF_AUDIT, answer, problems
from api.pagination import next_link
from api.parameters import AccessParameters
from api.readers import CurrentReader
from api.responses import JSON
from api.routing import Route
from api.server import unsent
from events.serialization import rfc3339
from events.store.accesses import Access
from queries.accesses import fetch_accesses

router = APIRouter(prefix="/api/{user_id}", tags=["audit"], route_class=Route)


@router.get(
    "/audit/access",
    operation_id="listAccesses",
    summary="Who has read the log",
    response_model=list[AuditorAccess],
    response_description="The reads, or a page of them",
    responses={200: answer(examples.AUDITOR_READS, "Link"), **problems(*OF_AUDIT, "badParameter")},
)
async def list_accesses(reader: CurrentReader, parameters: Annotated[AccessParameters, Query()]) -> Response:
    """The reads of the user's log and past by auditors, newest first. `Link` leads to the next page, if there is one.

    A read is on record before it is answered. What the user reads isn't.
    """
    unsent.require_room(reader.requester)
    caller, limit = await reader.past(), parameters.limit
    found = await fetch_accesses(caller.pool, caller.user, before=parameters.before, limit=limit + 1)
    page = unsent.response(orjson.dumps([_record(access) for access in found[:limit]]), {}, JSON)
    if len(found) > limit:
        page.headers["Link"] = next_link(caller.request, ("before", str(found[limit - 1].id)))
    return page


def _record(access: Access) -> dict[str, object]:
    return {
        "id": str(access.id),
        "at": rfc3339(access.at),
        "auditor": access.auditor,
        "actor": access.actor,
        "path": access.path,
        "request_id": access.request_id,
    }
