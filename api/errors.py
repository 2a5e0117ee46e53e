"""Every error answer, as problem details (RFC 9457; contract, section 3).

Problem
├── BadRequest          400  the request can't be read
├── NotAuthenticated    401  no token, or none that holds
├── NotYours            403  a valid token, another user's path
├── NotFound            404  no such task, or not this user's
├── TooSlow             408  the body, or the head, takes too long to arrive
├── PreconditionFailed  412  the task is at another version than If-Match wants
├── BodyTooLarge        413
├── NotJson             415
├── Invalid             422  it can be read, but a field breaks a rule
├── KeyReused           422  the Idempotency-Key stands for another request
├── HeadTooLarge        431  request line and headers
├── Failure             500  something is broken here
├── Unavailable         503  the database is away
└── Overloaded          503  too many requests at once
"""

import random
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from api.entity_tags import etag
from commands.execute import IdempotencyKeyReused, OutcomeUnknown
from commands.task import NotRestorable, TaskNotFound, VersionMismatch
from db.failures import UNAVAILABLE, Away, Busy

_log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
"""Those of all routes together."""

_UNQUOTABLE = re.compile(r"[^ !#-\[\]-~]")
"""What an error_description must not hold (RFC 6750, section 3)."""


class Problem(Exception):
    """An error answer. `detail` tells the client what to do; `errors` lists the fields at fault."""

    status: ClassVar[int]
    type: ClassVar[str]
    title: ClassVar[str]

    def __init__(
        self,
        detail: str,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors
        self.headers = headers


class BadRequest(Problem):
    """The request can't be read: broken JSON, an id that is no UUID, a parameter that isn't allowed."""

    status, type, title = 400, "bad-request", "Bad request"


class NotAuthenticated(Problem):
    """The request has no token, or one that doesn't hold."""

    status, type, title = 401, "not-authenticated", "Not authenticated"


def invalid_token(reason: str) -> NotAuthenticated:
    """The 401 for a token that was sent and doesn't hold, with its challenge (RFC 6750, section 3)."""
    description = _UNQUOTABLE.sub("?", reason)
    challenge = f'Bearer error="invalid_token", error_description="{description}"'
    return NotAuthenticated(reason, headers={"WWW-Authenticate": challenge})


class NotYours(Problem):
    """The token holds, but the path is another user's."""

    status, type, title = 403, "not-yours", "Not yours"


class NotFound(Problem):
    """There is no such task among this user's."""

    status, type, title = 404, "task-not-found", "Task not found"


class TooSlow(Problem):
    """The request takes too long to arrive."""

    status, type, title = 408, "request-timeout", "Request timeout"


class PreconditionFailed(Problem):
    """The task is at another version than those in `If-Match`; `ETag` has the present one."""

    status, type, title = 412, "precondition-failed", "Precondition failed"


class BodyTooLarge(Problem):
    """The body is larger than 64 KiB."""

    status, type, title = 413, "body-too-large", "Body too large"


class NotJson(Problem):
    """The body is of a media type other than JSON."""

    status, type, title = 415, "not-json", "Not JSON"


class Invalid(Problem):
    """The body can be read, but a field breaks a rule."""

    status, type, title = 422, "invalid", "Invalid"


class KeyReused(Problem):
    """The `Idempotency-Key` stands for another request."""

    status, type, title = 422, "idempotency-key-reused", "Idempotency key reused"


class HeadTooLarge(Problem):
    """The request line and headers are larger than 64 KiB."""

    status, type, title = 431, "head-too-large", "Head too large"


class Failure(Problem):
    """Something is broken here; the client learns nothing more."""

    status, type, title = 500, "internal-server-error", "Internal server error"


class Unavailable(Problem):
    """The database can't be reached just now."""

    status, type, title = 503, "unavailable", "Service unavailable"


class Overloaded(Problem):
    """So many requests wait for the database that this one would not be answered soon."""

    status, type, title = 503, "overloaded", "Overloaded"


def answer(problem: Problem, *, request_id: str) -> Response:
    """A problem as it goes out."""
    return _answer(
        problem.status,
        problem.type,
        problem.title,
        problem.detail,
        request_id=request_id,
        errors=problem.errors,
        headers=problem.headers,
    )


def _answer(
    status: int,
    type_: str,
    title: str,
    detail: str,
    *,
    request_id: str,
    errors: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The one shape of all error answers. `type` is a reference to the service's own root (docs/guides/errors.md)."""
    body: dict[str, Any] = {
        "type": f"/problems/{type_}",
        "title": title,
        "status": status,
        "detail": detail,
        "error": detail,
        "request_id": request_id,
    }
    if errors:
        body["errors"] = list(errors)
    return Response(orjson.dumps(body), status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Turn every exception that a request can raise into such an answer, the framework's own included."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(TaskNotFound, _task_not_found)
    app.add_exception_handler(VersionMismatch, _version_mismatch)
    app.add_exception_handler(NotRestorable, _not_restorable)
    app.add_exception_handler(IdempotencyKeyReused, _key_reused)
    app.add_exception_handler(RequestValidationError, _bad_parameters)
    app.add_exception_handler(HTTPException, _framework)
    app.add_exception_handler(OutcomeUnknown, _outcome_unknown)
    app.add_exception_handler(Busy, _overloaded)
    for unavailable in UNAVAILABLE:
        app.add_exception_handler(unavailable, _unavailable)


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101 - by registration
    return answer(error, request_id=request.state.request_id)


async def _task_not_found(request: Request, error: Exception) -> Response:
    return await _problem(request, NotFound(str(error)))


async def _version_mismatch(request: Request, error: Exception) -> Response:
    assert isinstance(error, VersionMismatch)  # noqa: S101 - by registration
    return await _problem(request, PreconditionFailed(str(error), headers={"ETag": etag(error.current)}))


async def _not_restorable(request: Request, error: Exception) -> Response:
    errors = [{"field": "version", "message": str(error), "type": "not_restorable"}]
    return await _problem(request, Invalid(summary(errors), errors=errors))


async def _key_reused(request: Request, error: Exception) -> Response:
    return await _problem(request, KeyReused(str(error)))


async def _bad_parameters(request: Request, error: Exception) -> Response:
    """Path and query only: bodies are read by api.bodies."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - by registration
    errors = field_errors(error.errors(), skip=1)
    return await _problem(request, BadRequest(summary(errors), errors=errors))


async def _framework(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - by registration
    status = HTTPStatus(error.status_code)
    detail, headers = str(error.detail), dict(error.headers or {})
    if status == HTTPStatus.NOT_FOUND:
        detail = "There is nothing at this path. The routes are listed at /docs."
    elif status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_allowed(request))
        detail = f"{request.method} isn't allowed here; use {headers['Allow']}."
    return _answer(
        status.value,
        status.phrase.lower().replace(" ", "-"),
        status.phrase.capitalize(),
        detail,
        request_id=request.state.request_id,
        headers=headers,
    )


def _allowed(request: Request) -> list[str]:
    """All methods of this path. Starlette names those of the first route that matches, and each of ours has one."""
    return [
        method
        for method in METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in request.app.routes)
    ]


async def _unavailable(request: Request, error: Exception) -> Response:
    """Nothing was changed: that is what `commands.execute` promises."""
    if not isinstance(error, Away):  # that was told once
        _log.warning("database unavailable", error=repr(error))
    return await _problem(request, Unavailable("The database can't be reached just now; try again.", headers=_soon()))


async def _overloaded(request: Request, _error: Exception) -> Response:
    return await _problem(request, Overloaded("Too many requests at once; try again in a moment.", headers=_soon()))


async def _outcome_unknown(request: Request, error: Exception) -> Response:
    _log.warning("outcome unknown", error=repr(error))
    unknown = "The database stopped answering: the change may have been made."
    if "idempotency-key" in request.headers:
        problem = Unavailable(f"{unknown} Repeat it with the same Idempotency-Key.", headers=_soon())
    else:
        problem = Unavailable(f"{unknown} Look, then repeat it.")  # not by itself, as Retry-After would have it
    return await _problem(request, problem)


def _soon() -> dict[str, str]:
    """Seconds, not the same for all who are refused at once."""
    return {"Retry-After": str(random.randint(1, 3))}  # noqa: S311 - no secret


def field_errors(errors: Sequence[Any], *, skip: int = 0) -> list[dict[str, str]]:
    """Pydantic's errors as `{field, message, type}`, without the first `skip` steps of each location or its indices."""
    return [
        {
            "field": ".".join(step for step in error["loc"][skip:] if isinstance(step, str)) or "body",
            "message": error["msg"].removeprefix("Value error, "),
            "type": error["type"],
        }
        for error in errors
    ]


def summary(errors: Sequence[Mapping[str, str]]) -> str:
    """All field errors in one sentence, since clients show `detail` as it is."""
    return "; ".join(f"{error['field']}: {error['message']}" for error in errors)
