"""Responses with tasks, and their headers (docs/http-api.md, "Safe writes")."""

from collections.abc import Mapping
from typing import Any

from fastapi import Request, Response

from api.entity_tags import etag
from api.preconditions import matches
from api.server import unsent
from commands.handler import Outcome
from commands.precondition import EntityTag
from commands.several import SeveralChanges
from events.projection import task_document

JSON = "application/json"
REPLAYED = {"Idempotency-Replayed": "true"}

_REVALIDATE = {"Cache-Control": "private, no-cache"}
"""Header that lets only the user's own browser cache the response, and has it revalidate before each use."""


def of_write(outcome: Outcome, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Make the response to a write: the task as the write left it, or 204 if it was deleted."""
    task, ours = outcome.task, dict(REPLAYED) if outcome.replayed else {}
    if outcome.seq is not None:
        ours["Daybook-Seq"] = str(outcome.seq)
    if task is None:
        return Response(status_code=204, headers=ours)
    tag = EntityTag(task.version, outcome.hash)
    return Response(task_document(task), status, {**ours, "ETag": etag(tag), **(headers or {})}, JSON)


def headers_of_several(done: SeveralChanges[Any]) -> dict[str, str]:
    """Make the headers of a response to several writes: the list's entity tag, and the number of the last event."""
    seq = {} if done.seq is None else {"Daybook-Seq": str(done.seq)}
    return {**(REPLAYED if done.replayed else {}), **seq, "ETag": etag(done.list_tag)}


def of_read(
    request: Request, body: bytes | memoryview, tag: EntityTag, headers: Mapping[str, str] | None = None
) -> Response:
    """Make the response to a read: the body with its entity tag, or 304 if the client has it already.

    Raises as `preconditions.matches` does.
    """
    if matches(request, tag):
        return not_modified(tag)
    return unsent.response(body, {"ETag": etag(tag), **_REVALIDATE, **(headers or {})}, JSON)


def not_modified(tag: EntityTag) -> Response:
    """Make a 304: the client's copy is up to date."""
    return Response(status_code=304, headers={"ETag": etag(tag), **_REVALIDATE})
