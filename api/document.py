"""The OpenAPI document: FastAPI's, with what it can't know of our bodies, errors and headers."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter
from pydantic.json_schema import models_json_schema

from api.errors import MEDIA_TYPE
from api.models import Completion, Health, NewTask, ProblemDetails, TaskChanges

_REF = "#/components/schemas/{model}"
_ERRORS = {
    "400": "It can't be read: broken JSON, an id that is no UUID, a parameter that isn't allowed",
    "401": "No token, or one that doesn't hold",
    "403": "The token is another user's than the path's",
    "404": "This user has no such task",
    "413": "The body is larger than 64 KiB",
    "415": "The body's media type isn't JSON",
    "422": "A field breaks a rule",
    "500": "Something is broken here; the log has it under the same request id",
    "503": "The database can't be reached just now",
}
_HEADERS = {
    "X-Request-ID": "The request's id: as sent, where it is sane, else made; the log and the event have it too",
    "Location": "Where the task is",
    "Link": 'The next page, if there is one: `<…>; rel="next"` (RFC 8288)',
    "WWW-Authenticate": "What is wrong with the token (RFC 6750)",
    "Retry-After": "Seconds until another try makes sense; absent where a change may already have been made",
}
_OF_STATUS = {"201": ["Location"], "401": ["WWW-Authenticate"], "503": ["Retry-After"]}
_BODIES: dict[str, tuple[type, bool]] = {
    "createTask": (NewTask, True),
    "putTask": (TaskChanges, True),
    "patchTask": (TaskChanges, True),
    "completeTask": (Completion, False),
}


def document(app: FastAPI) -> dict[str, Any]:
    """The whole document, made anew; `install` keeps it."""
    made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    schemas = made["components"]["schemas"]
    for automatic in ("HTTPValidationError", "ValidationError"):
        schemas.pop(automatic, None)
    _, definitions = models_json_schema([(ProblemDetails, "serialization")], ref_template=_REF)
    schemas |= definitions["$defs"]
    for body, _required in _BODIES.values():
        schemas[body.__name__] = TypeAdapter(body).json_schema(ref_template=_REF)
    for path, operations in made["paths"].items():
        for operation in operations.values():
            _complete(operation, tasks=path.startswith("/api"), one=path.count("/") > 3)
    return made


def _complete(operation: dict[str, Any], *, tasks: bool, one: bool) -> None:
    name = operation["operationId"]
    answers: dict[str, Any] = operation["responses"]
    answers.pop("422", None)
    if name in _BODIES:
        body, required = _BODIES[name]
        content = {"application/json": {"schema": {"$ref": _REF.format(model=body.__name__)}}}
        operation["requestBody"] = {"required": required, "content": content}
    if tasks:
        possible = ["400", "401", "403", *(["404"] if one else [])]
        possible += ["413", "415", "422"] if name in _BODIES else []
        for status in (*possible, "500", "503"):
            schema = {"$ref": _REF.format(model=ProblemDetails.__name__)}
            answers[status] = {"description": _ERRORS[status], "content": {MEDIA_TYPE: {"schema": schema}}}
    elif name != "livez":
        schema = {"$ref": _REF.format(model=Health.__name__)}
        answers["503"] = {"description": _ERRORS["503"], "content": {"application/json": {"schema": schema}}}
    for status, answer in answers.items():
        named = ["X-Request-ID", *(_OF_STATUS.get(status, []) if tasks else [])]
        named += ["Link"] if name == "listTasks" and status == "200" else []
        answer["headers"] = {each: {"description": _HEADERS[each], "schema": {"type": "string"}} for each in named}


def install(app: FastAPI) -> None:
    """Let /openapi.json and /docs show it."""
    made: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not made:
            made.update(document(app))
        return made

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's documented way
