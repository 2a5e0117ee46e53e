"""Error responses, all as problem details (RFC 9457; docs/http-api.md, "Errors").

Problem
├── BadRequest                   400  the request can't be read
├── Unauthorized                 401  no token, or none that holds
├── Forbidden                    403  a valid token, another user's path
├── NotFound                     404  no such task, or not this user's
├── EventNotFound                404  there is no such event to undo
├── RequestTimeout               408  the body, or the head, takes too long to arrive
├── IdTaken                      409  there is, or was, a task with this id
├── FieldsChanged                409  later events have changed what is to be undone
├── OperationRefused             409  one operation of an atomic batch was refused
├── LogReplaced                  410  the token is of a log that is no more
├── PreconditionFailed           412  the task is at another version than If-Match wants
├── ContentTooLarge              413
├── UnsupportedMediaType         415
├── Invalid                      422  it can be read, but a field breaks a rule
├── KeyReused                    422  the Idempotency-Key stands for another request
├── TooManyStreams               429  so many feeds are open already
├── RequestHeaderFieldsTooLarge  431  request line and headers
├── Failure                      500  something is broken here
├── Unavailable                  503  the database is down
└── Overloaded                   503  too many requests at once
"""

import random
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar

import asyncpg
import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from api.entity_tags import etag
from api.field_errors import in_words, parameter_errors, summary
from commands.batch import BatchRefused
from commands.decider import ChangedSince, NotRestorable, Refusal, TaskExists, TaskNotFound, VersionMismatch
from commands.handler import IdempotencyKeyReused
from db.errors import UNAVAILABLE, DatabaseUnavailable, ReadOnly, TooManyRequests
from events.store.event_store import LongChangeUnderWay
from events.store.in_doubt import InDoubt
from telemetry import metrics

_log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
"""Methods of all routes together. GET routes serve HEAD too: `api.middleware.HeadRequests`."""

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
    """The token holds, but the path is another user's."""

    status, type, title = 403, "not-yours", "Not yours"
    sentence = "You can only access your own tasks."


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
    """Later events have changed what is to be undone; `errors` names the fields."""

    status, type, title = 409, "changed-since", "Changed since"
    sentence = "This has been changed again since, so it can't be undone."


class OperationRefused(Problem):
    """One operation of an atomic batch was refused, so that none was carried out; `errors` names it."""

    status, type, title = 409, "operation-refused", "Operation refused"
    sentence = "One of these changes can't be made, so none was."


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


_NO_ROUTE, _NO_METHOD = "Not found.", "This can't be done here."
"""Sentences for the framework's own 404 and 405."""


def problem_response(problem: Problem, *, request_id: str) -> Response:
    """Render a problem as an HTTP response."""
    body = problem_body(
        problem.status,
        problem.type,
        problem.title,
        problem.detail,
        problem.hint,
        request_id=request_id,
        errors=problem.errors,
    )
    return _response(body, problem.headers)


def _response(body: Mapping[str, Any], headers: Mapping[str, str] | None) -> Response:
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


def handle_errors(app: FastAPI) -> None:
    """Register handlers that turn all exceptions of a request, the framework's own too, into problem documents."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(Refusal, _refusal)
    app.add_exception_handler(RequestValidationError, _bad_parameters)
    app.add_exception_handler(HTTPException, _framework)
    app.add_exception_handler(InDoubt, _outcome_unknown)
    app.add_exception_handler(TooManyRequests, _overloaded)
    for unavailable in UNAVAILABLE:
        app.add_exception_handler(unavailable, _unavailable)


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101 - by registration
    return problem_response(error, request_id=request.state.request_id)


async def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)  # noqa: S101 - by registration
    return await _problem(request, problem_of(error))


def problem_of(refusal: Refusal) -> Problem:
    """Make the problem for a command that was refused."""
    why = str(refusal)
    match refusal:
        case TaskNotFound():
            return NotFound(hint=why)
        case TaskExists():
            return IdTaken(hint=why)
        case VersionMismatch():
            return PreconditionFailed(hint=why, headers={"ETag": etag(refusal.current)})
        case NotRestorable():
            errors = [{"field": "version", "message": why, "type": "not_restorable"}]
            return Invalid(summary(errors), errors=errors)
        case ChangedSince():
            sentences = {name: f"{in_words(name)} has been changed since." for name in refusal.fields}
            errors = [{"field": name, "message": each, "type": "changed_since"} for name, each in sentences.items()]
            return FieldsChanged(hint=why, errors=errors)
        case IdempotencyKeyReused():
            return KeyReused(hint=why)
        case BatchRefused():
            reason, field = problem_of(refusal.reason), f"operations.{refusal.index}"
            errors = [{"field": field, "message": reason.detail, "type": reason.type}]
            return OperationRefused(reason.detail, hint=f"Nothing was changed: {field}: {reason}", errors=errors)
    raise TypeError(f"no problem is known for {refusal!r}") from refusal


async def _bad_parameters(request: Request, error: Exception) -> Response:
    """Answer 400 for errors in path and query; `api.request_body` reads bodies."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - by registration
    errors = parameter_errors(error.errors())
    return await _problem(request, BadRequest(hint=summary(errors), errors=errors))


async def _framework(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - by registration
    status = HTTPStatus(error.status_code)
    detail, hint, headers = str(error.detail), None, dict(error.headers or {})
    if status == HTTPStatus.NOT_FOUND:
        listed = request.scope.get("root_path", "") + "/docs"
        detail, hint = _NO_ROUTE, f"There is nothing at this path. The routes are listed at {listed}."
    elif status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_allowed(request))
        detail, hint = _NO_METHOD, f"{request.method} isn't allowed here; use {headers['Allow']}."
    title = status.phrase.capitalize()
    type_ = title.lower().replace(" ", "-")
    body = problem_body(status.value, type_, title, detail, hint, request_id=request.state.request_id)
    return _response(body, headers)


def _allowed(request: Request) -> list[str]:
    """Return all methods of this path. Starlette names only the first matching route's, and each route has one."""
    return [
        method
        for method in METHODS
        for scope in [{**request.scope, "method": "GET" if method == "HEAD" else method}]
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)
    ]


async def _unavailable(request: Request, error: Exception) -> Response:
    """Answer 503, and that nothing was changed: `commands.handler` guarantees it."""
    if isinstance(error, asyncpg.PostgresError):
        metrics.DATABASE_ERRORS.labels(error.sqlstate).inc()
    if not isinstance(error, DatabaseUnavailable):  # the log has that one already
        _log.warning("database unavailable", error=repr(error))
    read_only = isinstance(error, ReadOnly | asyncpg.ReadOnlySQLTransactionError)
    why = "The database takes no writes just now." if read_only else "The database can't be reached."
    return await _problem(request, Unavailable(hint=f"{why} {_NOTHING}", headers=_soon()))


async def _overloaded(request: Request, error: Exception) -> Response:
    long = isinstance(error, LongChangeUnderWay)
    why = "Another request about all tasks is under way." if long else "Too many requests at once."
    return await _problem(request, Overloaded(hint=f"{why} {_NOTHING}", headers=_soon()))


_NOTHING = "Nothing was changed: send the same request again."
MAYBE_CHANGED = "Your change may or may not have been saved. Please look before you repeat it."
"""Sentence for a write that may or may not have been committed."""


async def _outcome_unknown(request: Request, error: Exception) -> Response:
    _log.warning("outcome unknown", error=repr(error))
    unknown = "The database stopped answering: the change may have been made."
    if "idempotency-key" in request.headers:
        problem = Unavailable(hint=f"{unknown} Repeat it with the same Idempotency-Key.", headers=_soon())
    else:  # no Retry-After: the client must not repeat it by itself
        problem = Unavailable(MAYBE_CHANGED, hint=f"{unknown} Look, then repeat it.")
    return await _problem(request, problem)


def _soon() -> dict[str, str]:
    """Return a Retry-After of 1 to 3 seconds, at random so that refused clients don't all return at once."""
    return {"Retry-After": str(random.randint(1, 3))}  # noqa: S311 - no secret
