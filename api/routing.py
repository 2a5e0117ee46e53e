"""Routes that resolve their endpoint's dependencies once, when they are made (docs/adr/0017).

FastAPI walks the dependencies anew for each request, and the walk took longer than the dependencies themselves. Here
the walk makes a list of steps. An endpoint and its dependencies may ask only for other async dependencies, the request,
path parameters, and one model of the query: this service's need no more.
"""

import inspect
import re
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

from api import large_bodies
from api.user_turns import give_turn_back
from db import deadline

_REMEMBERED, _SHORT = 256, 256
"""Largest number of a route's query strings that are cached, and the longest of them in bytes."""

_LAST_ID, _NO_IDS = "/(?P<task_id>[^/]+)$", ("changes", "stats")
"""End of the pattern of a task's path, and words that are routes of their own there: other methods are 405."""


@dataclass(slots=True)
class _Step:
    """A call and the sources of its arguments. `slots` maps arguments to results of earlier steps, by index."""

    call: Callable[..., Awaitable[Any]]
    slots: list[tuple[str, int]] = field(default_factory=list)
    request: str | None = None
    texts: list[tuple[str, str]] = field(default_factory=list)
    """Path parameters that are passed on unchanged: the argument's name, and the parameter's."""
    fields: Sequence[Any] = ()
    """All other path parameters, which FastAPI reads."""
    query: "Callable[[bytes], tuple[dict[str, Any], list[Any]]] | None" = None


class Route(APIRoute):
    """FastAPI's route, documented by FastAPI, but faster. Endpoints must return a `Response`.

    Making one raises `TypeError` if the endpoint has a kind of parameter that this module doesn't support.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.path_regex = re.compile(
            self.path_regex.pattern.replace(_LAST_ID, f"/(?!{'|'.join(_NO_IDS)}$){_LAST_ID[1:]}")
        )
        as_fastapi_does = self.app
        steps = _steps(self.dependant, [], {})

        async def respond(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["query_string"] and scope["method"] == "GET":
                scope["query_string"] = _without_empty_values(scope["query_string"])
            try:
                if get_telemetry_data() is not None:  # FastAPI makes spans for steps that are left out here
                    await as_fastapi_does(scope, receive, _giving_turn_back(scope, send))
                    return
                response = await _walked(steps, Request(scope, receive, send))
            finally:
                give_turn_back(scope)
                large_bodies.release(scope)
                deadline.lift()  # a stream takes as long as it takes
            await response(scope, receive, send)

        self.app = respond


def _giving_turn_back(scope: Scope, send: Send) -> Send:
    """Wrap `send` to end turn and deadline when the response begins: FastAPI makes and sends it in one."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            give_turn_back(scope)
            deadline.lift()
        await send(message)

    return sending


def _without_empty_values(query: bytes) -> bytes:
    """Leave out parameters without a value: like the empty fields of a form, they count as not given."""
    return b"&".join(each for each in query.split(b"&") if each.partition(b"=")[2])


async def _walked(steps: Sequence[_Step], request: Request) -> Response:
    """Run the steps in order, and return the response of the last. Raises `RequestValidationError`."""
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
    """Append the steps of all dependencies, each once, then the dependant's own. `known` has the index of each call."""
    call = dependant.call
    assert call is not None  # noqa: S101 - only FastAPI's own empty dependants have none
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
        raise TypeError(f"{dependant.path}: api.routing doesn't know the parameters of {call!r}: add them")
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
    """Make a cached reader of query strings. It may return one result several times: callers must not change it."""

    def read(query: bytes) -> tuple[dict[str, Any], list[Any]]:
        return request_params_to_args(fields, QueryParams(query))

    remembered = lru_cache(_REMEMBERED)(read)
    return lambda query: remembered(query) if len(query) <= _SHORT else read(query)
