"""Error responses, all as problem details (RFC 9457; docs/http-api.md, "Errors").

Problem
├── BadRequest                   400  the request can't be read
├── Unauthorized                 401  no token, or none that holds
├── Forbidden                    403  a valid token, another user's path
├── ReadOnlyToken                403  a write, and the token's scope only lets read
├── NotFound                     404  no such task, or not this user's
├── EventNotFound                404  there is no such event to undo
├── RequestTimeout               408  the body, or the head, takes too long to arrive
├── IdTaken                      409  there is, or was, a task with this id
├── FieldsChanged                409  later events have changed the same fields
├── OperationRefused             409  one operation of an atomic batch was refused
├── NotDeletedYet                409  a task must be deleted before it is erased
├── LogReplaced                  410  the token is of a log that is no more
├── Gone                         410  it needs content that was erased
├── PreconditionFailed           412  the task, or the list, is not as If-Match or If-None-Match wants
├── ContentTooLarge              413
├── UnsupportedMediaType         415
├── Invalid                      422  it can be read, but a field breaks a rule
├── KeyReused                    422  the Idempotency-Key stands for another request
├── RateLimitExceeded            429  more requests than the user, or the address, may send
├── TooManyStreams               429  too many feeds are open already
├── RequestHeaderFieldsTooLarge  431  request line and headers
├── Failure                      500  something is broken here
├── Unavailable                  503  the database is down
└── Overloaded                   503  too many requests at once
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import orjson
import structlog
from fastapi import Response

_log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
"""Methods of all routes together. GET routes serve HEAD too: `api.middleware.HeadRequests`."""

MAYBE_CHANGED = "Your change may or may not have been saved. Please look before you repeat it."
"""Sentence for a write that may or may not have been committed."""

_UNQUOTABLE = re.compile(r"[^ !#-\[\]-~]")
"""Characters that an error_description must not contain (RFC 6750, section 3)."""


class Problem(Exception):
    """An error response.

    `detail` is a sentence for the person at the screen; each class has a default. `hint` tells a developer the fault in
    the request, and a way to correct it. `errors` lists the fields at fault.
    """

    status: ClassVar[int]
    type: ClassVar[str]
    title: ClassVar[str]
    sentence: ClassVar[str]

    def __init__(
        self,
        detail: str | None = None,
        *,
        hint: str | None = None,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.detail = detail or self.sentence
        self.hint = hint
        self.errors = errors
        self.headers = headers
        super().__init__(hint or self.detail)

    def body(self, *, request_id: str) -> dict[str, Any]:
        """Make the members of its document (`problem_body`)."""
        return problem_body(
            *(self.status, self.type, self.title, self.detail, self.hint), request_id=request_id, errors=self.errors
        )


class BadRequest(Problem):
    """The request can't be read: broken JSON, an id that is no UUID, a parameter that isn't allowed."""

    status, type, title = 400, "bad-request", "Bad request"
    sentence = "The app sent a request that can't be understood."


class Unauthorized(Problem):
    """The request has no token, or one that doesn't hold."""

    status, type, title = 401, "not-authenticated", "Not authenticated"
    sentence = "Please sign in again."


def invalid_token(reason: str) -> Unauthorized:
    """Make the 401 for a token that was sent but isn't valid, with its challenge (RFC 6750, section 3)."""
    description = _UNQUOTABLE.sub("?", reason)
    challenge = f'Bearer error="invalid_token", error_description="{description}"'
    return Unauthorized(hint=reason, headers={"WWW-Authenticate": challenge})


class Forbidden(Problem):
    """The token holds, but the path is another user's, and not one that an auditor may read."""

    status, type, title = 403, "not-yours", "Not yours"
    sentence = "You can only access your own tasks."


def not_for_auditors() -> Forbidden:
    """Make the 403 for an auditor's request that goes beyond another user's log."""
    return Forbidden(
        "You can look at what has happened here, and at nothing else.",
        hint="An auditor's token may read another user's audit, audit/head, audit/access and tasks/{id}/history, and "
        "tasks with as_of or version. It may read nothing else of theirs, and write nothing.",
    )


class ReadOnlyToken(Problem):
    """The token's scope lets its bearer read, and not write."""

    status, type, title = 403, "read-only", "Read only"
    sentence = "You can look at these tasks, but not change them."


def insufficient_scope() -> ReadOnlyToken:
    """Make the 403 for a write with a token that may only read, with its challenge (RFC 6750, section 3.1)."""
    return ReadOnlyToken(
        hint="The token's scope only lets it read; to write, it must have tasks:write too.",
        headers={"WWW-Authenticate": 'Bearer error="insufficient_scope", scope="tasks:write"'},
    )


class NotFound(Problem):
    """There is no such task among this user's."""

    status, type, title = 404, "task-not-found", "Task not found"
    sentence = "Task not found."


class EventNotFound(Problem):
    """There is no such event among this user's."""

    status, type, title = 404, "event-not-found", "Event not found"
    sentence = "There is nothing to undo."


class RequestTimeout(Problem):
    """The request takes too long to arrive."""

    status, type, title = 408, "request-timeout", "Request timeout"
    sentence = "The connection is too slow. Please try again."


class IdTaken(Problem):
    """A new task has the id of one that is, or was, among this user's."""

    status, type, title = 409, "task-exists", "Task exists"
    sentence = "This task has been saved before."


class FieldsChanged(Problem):
    """Later events have changed the fields that are to be undone; `errors` names them."""

    status, type, title = 409, "changed-since", "Changed since"
    sentence = "This has been changed again since, so it can't be undone."


class OperationRefused(Problem):
    """One operation of an atomic batch was refused, so that none was carried out; `errors` names it."""

    status, type, title = 409, "operation-refused", "Operation refused"
    sentence = "One of these changes can't be made, so none was."


class NotDeletedYet(Problem):
    """A task is erased only after it was deleted."""

    status, type, title = 409, "not-deleted", "Not deleted"
    sentence = "Please delete this task before you erase it."


class Gone(Problem):
    """It needs content that was erased: a state of the past, a restoration, an undo."""

    status, type, title = 410, "erased", "Erased"
    sentence = "This was erased, and can't come back."


class LogReplaced(Problem):
    """The token, or the event's number, is of a log that is no more: the database was restored from a backup."""

    status, type, title = 410, "log-replaced", "Log replaced"
    sentence = "This copy is out of date. Please reload everything."


class PreconditionFailed(Problem):
    """The precondition in `If-Match` or `If-None-Match` doesn't hold; `ETag` has the present version."""

    status, type, title = 412, "precondition-failed", "Precondition failed"
    sentence = "This has been changed in the meantime. Please reload it and try again."


class ContentTooLarge(Problem):
    """The body is larger than 64 KiB, or a batch than 1 MiB."""

    status, type, title = 413, "body-too-large", "Body too large"
    sentence = "This is too large to be saved."


class UnsupportedMediaType(Problem):
    """The body is of a media type other than JSON."""

    status, type, title = 415, "not-json", "Not JSON"
    sentence = "The app sent a request that can't be understood."


class Invalid(Problem):
    """The body can be read, but a field breaks a rule."""

    status, type, title = 422, "invalid", "Invalid"
    sentence = "Something that was entered can't be saved."


class KeyReused(Problem):
    """The `Idempotency-Key` stands for another request."""

    status, type, title = 422, "idempotency-key-reused", "Idempotency key reused"
    sentence = "The app sent two different changes under one name, so the second one wasn't made."


class RateLimitExceeded(Problem):
    """The user, or the address, has sent more requests than it may."""

    status, type, title = 429, "rate-limited", "Rate limited"
    sentence = "That was too much at once. Please wait a moment, and try again."


class TooManyStreams(Problem):
    """The user, or the process, has so many streams open already."""

    status, type, title = 429, "too-many-streams", "Too many streams"
    sentence = "This is open in too many places at once. Please close one of them."


class RequestHeaderFieldsTooLarge(Problem):
    """The request line and headers are larger than 64 KiB."""

    status, type, title = 431, "head-too-large", "Head too large"
    sentence = "The app sent a request that is too large."


class Failure(Problem):
    """Something is broken here; the client learns nothing more."""

    status, type, title = 500, "internal-server-error", "Internal server error"
    sentence = "Something went wrong on our side. Please try again later."


class Unavailable(Problem):
    """The database can't be reached just now."""

    status, type, title = 503, "unavailable", "Service unavailable"
    sentence = "The service can't be reached right now. Please try again in a moment."


class Overloaded(Problem):
    """There are too many requests, unread long answers, or connections at once."""

    status, type, title = 503, "overloaded", "Overloaded"
    sentence = "The service is very busy right now. Please try again in a moment."


def problem_response(problem: Problem, *, request_id: str) -> Response:
    """Render a problem as an HTTP response."""
    return as_response(problem.body(request_id=request_id), problem.headers)


def as_response(body: Mapping[str, Any], headers: Mapping[str, str] | None) -> Response:
    """Make the response with these members of a problem document."""
    return Response(orjson.dumps(body), body["status"], headers, MEDIA_TYPE)


def problem_body(
    status: int,
    type_: str,
    title: str,
    detail: str,
    hint: str | None,
    *,
    request_id: str,
    errors: Sequence[Mapping[str, str]] = (),
) -> dict[str, Any]:
    """Make the members of a problem document, the shape of all error responses, in the order of sending.

    `type` is a reference to the service's own root (docs/guides/errors.md).
    """
    body: dict[str, Any] = {
        "type": f"/problems/{type_}",
        "title": title,
        "status": status,
        "detail": detail,
        "error": detail,
        "message": detail,
        "request_id": request_id,
    }
    if hint:
        body["hint"] = hint
    if errors:
        body["errors"] = list(errors)
    return body
