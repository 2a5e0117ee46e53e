"""Error handlers: each exception of a request, the framework's own too, as a problem (api.problems)."""

import random
from http import HTTPStatus

import asyncpg
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from api.entity_tags import etag
from api.field_errors import in_words, parameter_errors, summary
from api.problems import (
    MAYBE_CHANGED,
    METHODS,
    BadRequest,
    FieldsChanged,
    Gone,
    IdTaken,
    Invalid,
    KeyReused,
    NotDeletedYet,
    NotFound,
    OperationRefused,
    Overloaded,
    PreconditionFailed,
    Problem,
    Unavailable,
    as_response,
    problem_body,
    problem_response,
)
from commands.batch import BatchRefused
from commands.decider import (
    ChangedSince,
    ErasedForGood,
    NotDeleted,
    NotRestorable,
    Refusal,
    TaskExists,
    TaskNotFound,
    VersionMismatch,
)
from commands.handler import IdempotencyKeyReused
from db.errors import UNAVAILABLE, DatabaseUnavailable, ReadOnly, TooBusy
from events.store.event_store import LongChangeUnderWay
from events.store.in_doubt import InDoubt
from events.task import ContentErased
from telemetry import metrics

_log = structlog.get_logger(__name__)

_NO_ROUTE, _NO_METHOD = "Not found.", "This can't be done here."
"""Sentences for the framework's own 404 and 405."""


def handle_errors(app: FastAPI) -> None:
    """Register handlers that turn all exceptions of a request, the framework's own too, into problem documents."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(Refusal, _refusal)
    app.add_exception_handler(ContentErased, _erased)
    app.add_exception_handler(RequestValidationError, _bad_parameters)
    app.add_exception_handler(HTTPException, _framework)
    app.add_exception_handler(InDoubt, _outcome_unknown)
    app.add_exception_handler(TooBusy, _overloaded)
    for unavailable in UNAVAILABLE:
        app.add_exception_handler(unavailable, _unavailable)


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101 - by registration
    return problem_response(error, request_id=request.state.request_id)


async def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)  # noqa: S101 - by registration
    return await _problem(request, problem_of(error))


async def _erased(request: Request, error: Exception) -> Response:
    return await _problem(request, Gone(hint=f"{error}: what it was can't be told any more."))


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
        case NotDeleted():
            return NotDeletedYet(hint=why)
        case ErasedForGood():
            return Gone(hint=why)
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
    return as_response(body, headers)


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
    return await _problem(request, Unavailable(hint=f"{_why(error)} {_NOTHING}", headers=_soon()))


def _why(error: Exception) -> str:
    match error:
        case ReadOnly() | asyncpg.ReadOnlySQLTransactionError():
            return "The database takes no writes just now."
        case asyncpg.DiskFullError():
            return "The database's disk is full."
        case asyncpg.LockNotAvailableError() | asyncpg.QueryCanceledError():
            return "The database didn't get to it in time."
    return "The database can't be reached."


async def _overloaded(request: Request, error: Exception) -> Response:
    long = isinstance(error, LongChangeUnderWay)
    why = "Another request about all tasks is under way." if long else "Too many requests at once."
    return await _problem(request, Overloaded(hint=f"{why} {_NOTHING}", headers=_soon()))


_NOTHING = "Nothing was changed: send the same request again."


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
