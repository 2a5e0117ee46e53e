"""Answers that carry tasks, with the headers that go with them (contract, section 4)."""

from collections.abc import Mapping

import orjson
from fastapi import Request, Response

from api.conditions import matches
from api.entity_tags import etag
from commands.execute import Outcome
from events.codec import rfc3339
from events.task import Task

JSON = "application/json"
REPLAYED = {"Idempotency-Replayed": "true"}

_REVALIDATE = {"Cache-Control": "private, no-cache"}
"""Kept by the user's own browser only, and never shown without asking whether it is still true."""


def of_write(outcome: Outcome, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """The task as a write left it, of the same meaning as what queries.tasks gives; empty where it was deleted."""
    task, replayed = outcome.task, REPLAYED if outcome.replayed else {}
    if task is None:
        return Response(status_code=204, headers=replayed)
    return Response(task_json(task), status, {**replayed, "ETag": etag(task.version), **(headers or {})}, JSON)


def task_json(task: Task) -> bytes:
    """A task as it goes over the wire."""
    return orjson.dumps(
        {
            "id": str(task.id),
            "user_id": task.user_id,
            "title": task.title,
            "description": task.description,
            "completed": task.completed,
            "created_at": rfc3339(task.created_at),
            "updated_at": rfc3339(task.updated_at),
            "version": task.version,
        }
    )


def of_read(request: Request, body: bytes, number: int, headers: Mapping[str, str] | None = None) -> Response:
    """A body with its entity tag, or 304 where the client has it already."""
    if matches(request, number):
        return not_modified(number)
    return Response(body, 200, {"ETag": etag(number), **_REVALIDATE, **(headers or {})}, JSON)


def not_modified(number: int) -> Response:
    """304: what the client has is still true."""
    return Response(status_code=304, headers={"ETag": etag(number), **_REVALIDATE})
