"""The OpenAPI document: FastAPI's, plus the bodies, errors, headers and links that FastAPI can't know."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from api.examples import ANSWERS, BODIES, CSV_FILE, FAULTS, NDJSON_LINES, TASK_ID, Named
from api.problems import MEDIA_TYPE
from api.schemas import USER_ID, Completion, ExportedEvent, NewTask, ProblemDetails, Restoration, TaskChanges

_JSON = "application/json"
_NDJSON = "application/x-ndjson"
_CSV = "text/csv"
_REF = "#/components/schemas/{model}"
_TAGS = [
    {"name": "tasks", "description": "A user's tasks, for that user alone"},
    {"name": "audit", "description": "What happened to them, in order, and the means to prove it"},
    {"name": "health", "description": "For probes and load balancers; without a token"},
]
_BODIES: dict[str, tuple[type, bool]] = {
    "createTask": (NewTask, True),
    "putTask": (TaskChanges, True),
    "patchTask": (TaskChanges, True),
    "completeTask": (Completion, False),
    "restoreTask": (Restoration, False),
}
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
_SENT_WITH = {
    ("any", ""): ("X-Request-ID", "X-Content-Type-Options", "Cache-Control"),
    ("user", "401"): ("WWW-Authenticate",),
    ("user", "503"): ("Retry-After",),
    ("createTask", "201"): ("Location",),
    ("paged", "200"): ("Link",),
    ("tagged", "20"): ("ETag",),
    ("cached", "304"): ("ETag",),
    ("conditional", "412"): ("ETag",),
    ("write", "2"): ("Idempotency-Replayed",),
}
"""Response headers by trait and beginning of the status."""
_FOLLOWED_BY = {
    "createTask": ("getTask", "putTask", "patchTask", "completeTask", "deleteTask", "restoreTask", "getHistory")
}
_SAME_TASK = {"user_id": "$request.path.user_id", "task_id": "$response.body#/id"}
_TAGS_PATTERN = r'^("[0-9]{1,9}(-[0-9a-f]{16})?"|[0-9]{1,9}|\*)$'
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
        "schema": {"type": "string", "pattern": _TAGS_PATTERN, "examples": [_ETAG, '"1"']},
    },
    "If-None-Match": {
        "description": "The ETag of what is known already: if it is still true, the answer is 304, without a body",
        "schema": {"type": "string", "examples": [_ETAG]},
    },
    "If-None-Match-To-Write": {
        "name": "If-None-Match",
        "description": "Do nothing, and answer 412, if the task is at this version, or with `*` if it is there at all",
        "schema": {"type": "string", "pattern": _TAGS_PATTERN, "examples": [_ETAG, '"1"']},
    },
}
_TAKEN_BY = {
    "any": ("X-Request-ID",),
    "write": ("Idempotency-Key",),
    "conditional": ("If-Match",),
    "cached": ("If-None-Match",),
    "conditional write": ("If-None-Match-To-Write",),
}
"""Request headers by trait."""
_CHANGES = ("putTask", "patchTask", "completeTask", "deleteTask", "restoreTask")
_READS, _WRITES = ("listTasks", "getTask"), ("createTask", *_CHANGES)
_KINDS = {
    "change": _CHANGES,
    "cached": _READS,
    "conditional": (*_READS, *_WRITES),
    "conditional write": _WRITES,
    "tagged": ("listTasks", "getTask", "createTask", "putTask", "patchTask", "completeTask", "restoreTask"),
    "paged": ("listTasks", "listEvents", "getHistory"),
}
"""Operations by trait, for traits that path and method don't show."""


def document(app: FastAPI) -> dict[str, Any]:
    """Make the whole document, anew at each call; `install` caches it."""
    made = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        tags=_TAGS,
        license_info={"name": "MIT", "identifier": "MIT"},
    )
    components = made["components"]
    components["schemas"] = _schemas(components["schemas"])
    components["parameters"] = {
        name: {"name": name, "in": "header", "required": False} | parameter for name, parameter in _PARAMETERS.items()
    }
    components["headers"] = _HEADERS
    components["examples"] = {
        name: {"summary": fault.summary, "value": fault.value()} for name, fault in FAULTS.items()
    }
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            traits = _traits(path, method, operation)
            _complete_question(operation, traits)
            _complete_answers(operation, traits)
    return made


def _schemas(found: dict[str, Any]) -> dict[str, Any]:
    """Return the schemas that FastAPI found, without its own errors, plus bodies, our errors and lines of exports."""
    schemas = {name: schema for name, schema in found.items() if name not in ("HTTPValidationError", "ValidationError")}
    for type_ in (ProblemDetails, ExportedEvent, *(body for body, _required in _BODIES.values())):
        schema = TypeAdapter(type_).json_schema(ref_template=_REF)
        for field in schema["properties"].values():
            field.pop("default", None)  # with a default, generated clients would always send the field
        schemas |= {**schema.pop("$defs", {}), type_.__name__: schema}
    return schemas


def _traits(path: str, method: str, operation: dict[str, Any]) -> frozenset[str]:
    """Return the operation's id and traits, by which `FAULTS` and the tables above refer to it."""
    return frozenset(
        {
            "any",
            operation["operationId"],
            *(["user"] if "security" in operation else []),
            *(["task"] if "{task_id}" in path else []),
            *(["body"] if operation["operationId"] in _BODIES else []),
            *(["write"] if method != "get" else []),
            *(kind for kind, names in _KINDS.items() if operation["operationId"] in names),
        }
    )


def _complete_question(operation: dict[str, Any], traits: frozenset[str]) -> None:
    name = operation["operationId"]
    parameters = operation.setdefault("parameters", [])
    for parameter in parameters:
        schema = parameter["schema"]
        schema.pop("description", None)  # the parameter has it already
        if "anyOf" in schema:  # pydantic allows null, but a parameter is left out, and never null
            schema |= schema.pop("anyOf")[0]
        if parameter["name"] == "user_id":
            schema |= USER_ID
            parameter["example"] = schema["examples"][0]  # Swagger UI fills it in
    parameters += [
        {"$ref": f"#/components/parameters/{header}"}
        for trait, headers in _TAKEN_BY.items()
        if trait in traits
        for header in headers
    ]
    if name in _BODIES:
        body, required = _BODIES[name]
        operation["requestBody"] = {"required": required, "content": _content(_JSON, body, BODIES[name])}


def _complete_answers(operation: dict[str, Any], traits: frozenset[str]) -> None:
    name, answers = operation["operationId"], operation["responses"]
    answers.pop("422", None)  # FastAPI's, which isn't of our shape
    for each, fault in FAULTS.items():
        if not traits.isdisjoint(fault.on):
            empty = {"description": fault.problem.__doc__, "content": _content(MEDIA_TYPE, ProblemDetails, {})}
            answer = answers.setdefault(str(fault.problem.status), empty)
            answer["content"][MEDIA_TYPE]["examples"][each] = {"$ref": f"#/components/examples/{each}"}
    if "cached" in traits:
        answers["304"] = {"description": "What the client has is still true"}
    for status, examples in ANSWERS.get(name, {}).items():
        answers[status]["content"][_JSON]["examples"] = examples
    if name == "listEvents":
        answers["200"]["content"] |= {
            _NDJSON: {
                "schema": {"type": "string", "contentMediaType": _JSON, "contentSchema": _reference(ExportedEvent)},
                "examples": NDJSON_LINES,
            },
            _CSV: {"schema": {"type": "string"}, "examples": CSV_FILE},
        }
    for status, answer in answers.items():
        sent = [
            header
            for (trait, beginning), headers in _SENT_WITH.items()
            if trait in traits and status.startswith(beginning)
            for header in headers
        ]
        answer["headers"] = {header: {"$ref": f"#/components/headers/{header}"} for header in sent}
        if status.startswith("2") and name in _FOLLOWED_BY:
            answer["links"] = {each: {"operationId": each, "parameters": _SAME_TASK} for each in _FOLLOWED_BY[name]}


def _content(media_type: str, type_: type, examples: Named) -> dict[str, Any]:
    return {media_type: {"schema": _reference(type_), "examples": examples}}


def _reference(type_: type) -> dict[str, Any]:
    return {"$ref": _REF.format(model=type_.__name__)}


def install(app: FastAPI) -> None:
    """Let /openapi.json and /docs show `document`, made once at its first request."""
    made: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not made:
            made.update(document(app))
        return made

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's documented way
