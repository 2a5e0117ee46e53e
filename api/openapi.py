"""The OpenAPI document: FastAPI's, and helpers for the parts of a route that FastAPI can't know.

A route's `responses` are made by `answer`, `headers` and `problems`, its `openapi_extra` by `conditional` or `writes`.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import TypeAdapter

from api.entity_tags import TAGS_PATTERN
from api.examples import TASK_ID, Named
from api.faults import FAULTS
from api.problems import MEDIA_TYPE, Problem
from api.schemas import USER_ID_SCHEMA, ProblemDetails

Responses: TypeAlias = dict[int | str, dict[str, Any]]

_JSON = "application/json"
_REF = "#/components/schemas/{model}"
_TAGS = [
    {"name": "tasks", "description": "A user's tasks, for that user alone"},
    {"name": "audit", "description": "What happened to them, in order, and the means to prove it"},
    {"name": "health", "description": "For probes and load balancers; without a token"},
]
_ETAG = '"2-0f3bb2d94a8e7c55"'
_HEADERS: dict[str, dict[str, Any]] = {
    "X-Request-ID": {
        "description": "The request's id: as sent, where it is sane, else made; the log and the event have it too",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"},
    },
    "X-Content-Type-Options": {
        "description": "An answer is what its Content-Type says",
        "required": True,
        "schema": {"type": "string", "const": "nosniff"},
    },
    "Cache-Control": {
        "description": "No cache may keep an answer; one with an ETag only the user's own, which asks each time",
        "required": True,
        "schema": {"type": "string", "enum": ["no-store", "private, no-cache"]},
    },
    "ETag": {
        "description": "A task's version, or for a list the `seq` of the user's last event, and the first 16 digits of "
        'that event\'s `hash`; `"0"` if there is no event (RFC 9110, section 8.8.3)',
        "required": True,
        "schema": {"type": "string", "pattern": '^"(0|[0-9]+-[0-9a-f]{16})"$'},
        "example": _ETAG,
    },
    "Idempotency-Replayed": {
        "description": "The request was carried out before, and this is what came of it then",
        "schema": {"type": "string", "const": "true"},
    },
    "Daybook-Seq": {
        "description": "The number of the write's event in the user's log; absent if nothing changed",
        "schema": {"type": "integer", "minimum": 1},
        "example": 2,
    },
    "Location": {
        "description": "Where the task is",
        "required": True,
        "schema": {"type": "string", "format": "uri-reference"},
        "example": f"/api/demo/tasks/{TASK_ID}",
    },
    "Link": {
        "description": "The next page, if there is one (RFC 8288)",
        "schema": {"type": "string"},
        "example": '</api/demo/tasks?limit=100&cursor=W1tudWxsLFtd>; rel="next"',
    },
    "WWW-Authenticate": {
        "description": "What is wrong with the token (RFC 6750)",
        "required": True,
        "schema": {"type": "string", "pattern": "^Bearer"},
        "example": 'Bearer error="invalid_token", error_description="The token has expired; get a new one."',
    },
    "Retry-After": {
        "description": "Seconds until another try makes sense; absent where a change without a key may have been made",
        "schema": {"type": "integer", "minimum": 1},
        "example": 1,
    },
}
_ALWAYS = ("X-Request-ID", "X-Content-Type-Options", "Cache-Control")
"""Headers of every response."""

_OF_STATUS = {401: ("WWW-Authenticate",), 412: ("ETag",), 429: ("Retry-After",), 503: ("Retry-After",)}
"""Headers of responses with problems."""

_PARAMETERS: dict[str, dict[str, Any]] = {
    "X-Request-ID": {
        "description": "A name for this request, to find it in the log: up to 128 of `A-Z a-z 0-9 . _ -`, else one is "
        "made",
        "schema": {"type": "string", "examples": ["checkout-7f3a"]},
    },
    "Idempotency-Key": {
        "description": "A name for this write, new for each, so that it can be sent again: it is carried out once, and "
        "answered the same each time, for ever",
        "schema": {
            "type": "string",
            "pattern": r"""^("([ !#-\[\]-~]|\\["\\]){1,255}"|[!#-~]([ -~]{0,253}[!-~])?)$""",
            "examples": ["8e03978e-40d5-43e8-bc93-6894a57f9324"],
        },
    },
    "If-Match": {
        "description": "The ETag of what the client knows, a `version` in quotes, or `*`: if there is another version, "
        "nothing is done, and that is 412; of the list where a task is created",
        "schema": {"type": "string", "pattern": TAGS_PATTERN, "examples": [_ETAG, '"1"']},
    },
    "If-None-Match": {
        "description": "The ETag of what is known already: if it is still true, the answer is 304, without a body",
        "schema": {"type": "string", "examples": [_ETAG]},
    },
    "Last-Event-ID": {
        "description": "The `id` of the last event that the client has seen; it goes before `after`",
        "schema": {"type": "string", "pattern": "^[0-9]{1,19}$", "examples": ["41"]},
    },
    "If-None-Match-To-Write": {
        "name": "If-None-Match",
        "description": "Do nothing, and answer 412, if the task is at this version, or with `*` if it is there at all",
        "schema": {"type": "string", "pattern": TAGS_PATTERN, "examples": [_ETAG, '"1"']},
    },
}

_OF_USER = ("noToken", "expired", "notYours", "broken", "rateLimited", "unreachable", "overloaded", "noKeys")
"""Problems of every route that needs a token."""

OF_AUDIT = ("noSuchUser",)
"""Problems of routes that auditors may read."""

OF_EVENT = ("Idempotency-Replayed", "Daybook-Seq")
"""Headers of every write's answer."""

OF_TASK = ("noUuid", "notFound")
"""Problems of routes with a task in their path."""

OF_CONDITION = ("badIfMatch", "otherVersion")
"""Problems of reads that are `conditional`."""

OF_WRITE = ("notForAuditors", "readOnly", "badKey", "badIfMatch", "tooSlow", "tooLarge", "keyReused", "unknown")
"""Problems of every write."""

OF_BODY = ("notReadable", "notJson")
"""Problems of writes with a body, without those of its fields."""


class Reference(dict[str, str]):
    """A reference to a model's schema, which the document then has among its components."""

    def __init__(self, model: type) -> None:
        super().__init__({"$ref": _REF.format(model=model.__name__)})
        self.model = model


def answer(examples: Named, *names: str, also: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Make a response with JSON of the route's `response_model`, with headers of these names.

    `also` has the content of other media types.
    """
    # FastAPI fills in the schema.
    return {"content": {_JSON: {"schema": {}, "examples": examples}, **(also or {})}, **headers(*names)}


def headers(*names: str) -> dict[str, Any]:
    """Make the part of a response that lists its headers, besides those that every response has."""
    return {"headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names}}


def problems(*names: str) -> Responses:
    """Make the error responses of a route that needs a token, one for each status.

    `names` are names of examples in `FAULTS`, besides those of every such route. `FAULTS` has their order, too.
    """
    made: Responses = {}
    for name in sorted((*_OF_USER, *names), key=[*FAULTS].index):
        problem = FAULTS[name].problem
        response = made.setdefault(problem.status, _problem(problem))
        response["content"][MEDIA_TYPE]["examples"][name] = {"$ref": f"#/components/examples/{name}"}
    return made


def _problem(problem: type[Problem]) -> dict[str, Any]:
    return {
        "description": problem.__doc__,
        "content": {MEDIA_TYPE: {"schema": Reference(ProblemDetails), "examples": {}}},
        **headers(*_OF_STATUS.get(problem.status, ())),
    }


def conditional() -> dict[str, Any]:
    """Make the `openapi_extra` of a read that takes `If-Match` and `If-None-Match`."""
    return _takes("If-Match", "If-None-Match")


def resumable() -> dict[str, Any]:
    """Make the `openapi_extra` of a feed, which goes on where the client was."""
    return _takes("Last-Event-ID")


def writes(model: type | None = None, examples: Named | None = None, *, required: bool = True) -> dict[str, Any]:
    """Make the `openapi_extra` of a write: its headers, and its body if it has one."""
    extra = _takes("Idempotency-Key", "If-Match", "If-None-Match-To-Write")
    if model is not None:
        content = {_JSON: {"schema": Reference(model), "examples": examples}}
        extra["requestBody"] = {"required": required, "content": content}
    return extra


def _takes(*names: str) -> dict[str, Any]:
    return {"parameters": [{"$ref": f"#/components/parameters/{name}"} for name in names]}


def document(app: FastAPI) -> dict[str, Any]:
    """Make the whole document, anew at each call; `serve_document` caches it."""
    made = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        tags=_TAGS,
        license_info={"name": "MIT", "identifier": "MIT"},
    )
    routes = [route for route in app.routes if isinstance(route, APIRoute) and route.include_in_schema]
    components = made["components"]
    components["schemas"] = _schemas(components["schemas"], routes)
    components["parameters"] = {
        name: {"name": name, "in": "header", "required": False} | parameter for name, parameter in _PARAMETERS.items()
    }
    components["headers"] = _HEADERS
    components["examples"] = {
        name: {"summary": fault.summary, "value": fault.value()} for name, fault in FAULTS.items()
    }
    links = _links(routes)
    for route in routes:
        for method in route.methods or ():
            operation = made["paths"][route.path_format][method.lower()]
            _complete_parameters(operation)
            _complete_responses(operation, route, links)
            _restore_examples(operation.get("requestBody"), (route.openapi_extra or {}).get("requestBody"))
    return made


def _schemas(found: dict[str, Any], routes: Iterable[APIRoute]) -> dict[str, Any]:
    """Return the schemas that FastAPI found, without its own errors, plus those of the routes' references."""
    schemas = {name: schema for name, schema in found.items() if name not in ("HTTPValidationError", "ValidationError")}
    said = [*(route.responses for route in routes), *(route.openapi_extra for route in routes)]
    for model in dict.fromkeys(model for part in said for model in _models(part)):
        schema = TypeAdapter(model).json_schema(ref_template=_REF)
        for field in schema["properties"].values():
            field.pop("default", None)  # with a default, generated clients would always send the field
        schemas |= {**schema.pop("$defs", {}), model.__name__: schema}
    return schemas


def _models(part: Any) -> Iterator[type]:
    """Yield the models that a part of the document refers to."""
    if isinstance(part, Reference):
        yield part.model
    elif isinstance(part, dict):
        for inner in part.values():
            yield from _models(inner)


def _links(routes: Iterable[APIRoute]) -> dict[str, Any]:
    """Make the links from a new task to all operations on it."""
    same = {"user_id": "$request.path.user_id", "task_id": "$response.body#/id"}
    names = [route.operation_id for route in routes if "{task_id}" in route.path]
    return {str(name): {"operationId": name, "parameters": same} for name in names}


def _complete_parameters(operation: dict[str, Any]) -> None:
    parameters = operation.setdefault("parameters", [])
    own = [parameter for parameter in parameters if "schema" in parameter]
    for parameter in own:
        schema = parameter["schema"]
        schema.pop("description", None)  # the parameter has it already
        if "anyOf" in schema:  # pydantic allows null, but a parameter is left out, and never null
            kinds = [kind for kind in schema.pop("anyOf") if kind != {"type": "null"}]
            schema |= kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
        if parameter["name"] == "user_id":
            schema |= USER_ID_SCHEMA
            parameter["example"] = schema["examples"][0]  # Swagger UI fills it in
    parameters[len(own) :] = _takes("X-Request-ID")["parameters"] + parameters[len(own) :]


def _complete_responses(operation: dict[str, Any], route: APIRoute, links: dict[str, Any]) -> None:
    responses = operation["responses"]
    if 422 not in route.responses:
        responses.pop("422", None)  # FastAPI's, which isn't of our shape
    for status, said in route.responses.items():
        _restore_examples(responses[str(status)], said)
    for response in responses.values():
        response["headers"] = headers(*_ALWAYS)["headers"] | response.pop("headers", {})
        if "Location" in response["headers"]:
            response["links"] = links


def _restore_examples(made: Any, said: Any) -> None:
    """Put the examples back as the route has them: FastAPI drops their nulls."""
    for media_type, content in ((said or {}).get("content") or {}).items():
        made["content"][media_type]["examples"] = content["examples"]


def serve_document(app: FastAPI) -> None:
    """Let /openapi.json and /docs show `document`, made once at its first request."""
    made: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not made:
            made.update(document(app))
        return made

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's documented way
