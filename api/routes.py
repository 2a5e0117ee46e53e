"""Routes that find out once, when they are made, what a request must go through (docs/adr/0017).

FastAPI walks an endpoint's dependencies anew for each request, which took more than all that they do. Here the walk
leaves a list of steps. What an endpoint and its dependencies may ask for is what this service's do: other async
dependencies, the request, path parameters, and one model of the query.
"""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import request_params_to_args
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.telemetry import get_telemetry_data
from starlette.datastructures import QueryParams
from starlette.types import Message, Receive, Scope, Send

from api.user_turns import give_turn_back

_REMEMBERED, _SHORT = 256, 256
"""Query strings of a route that needn't be read again, and the longest of them in bytes."""


@dataclass(slots=True)
class _Step:
    """A call, and where its arguments come from. `slots` are the results of steps before it."""

    call: Callable[..., Awaitable[Any]]
    slots: list[tuple[str, int]] = field(default_factory=list)
    request: str | None = None
    texts: list[tuple[str, str]] = field(default_factory=list)
    """Path parameters that are taken as they are: the argument's name, and the parameter's."""
    fields: Sequence[Any] = ()
    """All others, which FastAPI reads."""
    query: "Callable[[bytes], tuple[dict[str, Any], list[Any]]] | None" = None


class Route(APIRoute):
    """As FastAPI's, documented by FastAPI, and faster. Endpoints answer with a `Response`.

    Raises `TypeError` where an endpoint asks for what isn't known here.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        as_fastapi_does = self.app
        steps = _steps(self.dependant, [], {})

        async def respond(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["query_string"] and scope["method"] == "GET":
                scope["query_string"] = _without_empty_values(scope["query_string"])
            try:
                if get_telemetry_data() is not None:  # FastAPI has spans for what is left out here
                    await as_fastapi_does(scope, receive, _giving_turn_back(scope, send))
                    return
                response = await _walked(steps, Request(scope, receive, send))
            finally:
                give_turn_back(scope)
            await response(scope, receive, send)

        self.app = respond


def _giving_turn_back(scope: Scope, send: Send) -> Send:
    """End the request's turn when its answer begins: FastAPI makes and sends it in one."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            give_turn_back(scope)
        await send(message)

    return sending


def _without_empty_values(query: bytes) -> bytes:
    """Leave out parameters without a value: they are as if they weren't given, as in a form that wasn't filled in."""
    return b"&".join(each for each in query.split(b"&") if each.partition(b"=")[2])


async def _walked(steps: Sequence[_Step], request: Request) -> Response:
    """What the last step gives."""
    results: list[Any] = []
    for step in steps:
        arguments = {name: results[slot] for name, slot in step.slots}
        if step.request is not None:
            arguments[step.request] = request
        for name, parameter in step.texts:
            arguments[name] = request.path_params[parameter]
        errors: list[Any] = []
        if step.fields:
            found, errors = request_params_to_args(step.fields, request.path_params)
            arguments.update(found)
        if step.query is not None:
            found, more = step.query(request.scope["query_string"])
            arguments.update(found)
            errors += more
        if errors:
            raise RequestValidationError(errors)
        results.append(await step.call(**arguments))
    response: Response = results[-1]
    return response


def _steps(dependant: Dependant, steps: list[_Step], known: dict[Callable[..., Any], int]) -> list[_Step]:
    """Those of what this one depends on, each once, then its own."""
    call = dependant.call
    assert call is not None  # noqa: S101 - only FastAPI's own empty ones have none
    step = _Step(call)
    for each in dependant.dependencies:
        if each.call not in known:
            _steps(each, steps, known)
        if each.name is not None and each.call is not None:
            step.slots.append((each.name, known[each.call]))
    step.request = dependant.request_param_name or dependant.http_connection_param_name
    texts = [
        each for each in dependant.path_params if each.field_info.annotation is str and not each.field_info.metadata
    ]
    step.texts = [(each.name, each.alias) for each in texts]
    step.fields = [each for each in dependant.path_params if each not in texts]
    if dependant.query_params:
        step.query = _query(dependant.query_params)
    if not _is_known(dependant):
        raise TypeError(f"{dependant.path}: teach api.routes what {call!r} asks for")
    known[call] = len(steps)
    steps.append(step)
    return steps


def _is_known(dependant: Dependant) -> bool:
    others = (
        *(dependant.header_params, dependant.cookie_params, dependant.body_params),
        *(dependant.response_param_name, dependant.background_tasks_param_name, dependant.websocket_param_name),
        *(dependant.security_scopes_param_name, dependant.own_oauth_scopes, dependant.concurrency),
    )
    call: Any = dependant.call
    is_async = inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(type(call).__call__)
    return is_async and dependant.use_cache and not any(others)


def _query(fields: Sequence[Any]) -> Callable[[bytes], tuple[dict[str, Any], list[Any]]]:
    """What a query string says. Nobody changes what it gives: it may be given again."""

    def read(query: bytes) -> tuple[dict[str, Any], list[Any]]:
        return request_params_to_args(fields, QueryParams(query))

    remembered = lru_cache(_REMEMBERED)(read)
    return lambda query: remembered(query) if len(query) <= _SHORT else read(query)
