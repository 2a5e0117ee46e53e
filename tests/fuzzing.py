"""Exceptions to schemathesis's checks, each as narrow as possible."""

import json
from typing import Any

import schemathesis
from schemathesis import Case, HookContext, Response
from schemathesis.core.deserialization import DeserializationContext
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.openapi.checks import RejectedPositiveData, UseAfterFree

from api import text


@schemathesis.deserializer("application/x-ndjson")
def lines(_context: DeserializationContext, response: Response) -> Any:
    """Check that each line of an export is JSON, and return the text, as the document has it."""
    for line in response.text.splitlines():
        json.loads(line)
    return response.text


def without_contradictions(_context: HookContext, case: Case[Any]) -> Case[Any]:
    """Drop parameters that exclude each other, which OpenAPI can't say: valid cases would mostly get 400."""
    if case.meta is None or case.meta.generation.mode.is_positive:
        for name, excluded in _EXCLUDE:
            if name in case.query:
                for other in excluded:
                    case.query.pop(other, None)
        if case.body:  # which says it already
            case.query.pop("completed", None)
            case.query.pop("version", None)
    return case


_EXCLUDE = (
    ("status", ("completed",)),
    ("version", ("as_of",)),
    ("q", ("search",)),
    ("sort", ("sort_by",)),
    ("order", ("sort_order",)),
    ("limit", ("page_size", "per_page")),
    ("page_size", ("per_page",)),
    ("offset", ("skip", "page", "cursor")),
    ("skip", ("page", "cursor")),
    *((name, ("cursor",)) for name in ("page", "q", "search", "as_of")),  # any cursor is of another list, for one
)
"""Parameters, each with those that it goes without."""


def with_a_key_of_its_own(_context: HookContext, case: Case[Any]) -> Case[Any]:
    """Give the case a key of its own: the first write takes a key, and two requests would mostly be different."""
    if "Idempotency-Key" in case.headers and (case.meta is None or case.meta.generation.mode.is_positive):
        case.headers["Idempotency-Key"] = f"fuzzing-{case.id}"
    return case


def with_conditions_that_hold(_context: HookContext, case: Case[Any]) -> Case[Any]:
    """Make conditions hold: a task is deleted once, so most conditions would be about one that is gone."""
    if case.meta is None or case.meta.generation.mode.is_positive:
        if "If-Match" in case.headers:
            case.headers["If-Match"] = "*"
        if "If-None-Match" in case.headers:
            case.headers["If-None-Match"] = '"999999999"'
    return case


def examples_without_contradictions(context: HookContext, examples: list[Case[Any]]) -> None:
    """Drop parameters that exclude each other, since an example is made of all parameters at once."""
    for case in examples:
        without_contradictions(context, case)


def examples_that_can_succeed(context: HookContext, examples: list[Case[Any]]) -> None:
    """Give examples keys of their own, since the first takes the document's, and conditions that hold."""
    for case in examples:
        with_a_key_of_its_own(context, case)
        if "If-Match" in case.headers:
            case.headers["If-Match"] = "*"
        if "If-None-Match" in case.headers:
            case.headers["If-None-Match"] = '"999999999"'


def is_a_failure(_context: HookContext, failure: Failure, case: Case[Any], response: Response) -> bool:
    """Say if a failure is a real one: some rejections depend on what a request alone doesn't show.

    These are whether a cursor is of this list (it is opaque: another text, or one that goes with other parameters, is
    400), a time zone is there, a task has changed since, was erased, or has such a version, or a key or an id is used.

    Nor can a schema say that a parameter without a value is as if it weren't given; and one that says that a body must
    name a known field would be a riddle to generators of clients. Its patterns can't name the invisible characters past
    the Basic Multilingual Plane, since not all readers of patterns take these for one character."""
    if isinstance(failure, UseAfterFree):
        return not _outlives_the_task(case)
    if isinstance(failure, AcceptedNegativeData):
        return "" not in case.query.values()
    if not isinstance(failure, RejectedPositiveData):
        return True
    match response.status_code:
        case 400:
            return case.query.keys().isdisjoint(("cursor", "since", "tz"))
        case 410:
            return "since" not in case.query and response.json()["type"] != "/problems/erased"
        case 409:
            return False
        case 412:
            return "If-Match" not in case.headers and "If-None-Match" not in case.headers
        case 422:
            problem = response.json()
            used = problem["type"] == "/problems/idempotency-key-reused" and "Idempotency-Key" in case.headers
            types = [each["type"] for each in problem.get("errors", ())]
            known = {"not_restorable", "no_known_field", *(["value_error"] if _is_invisible(case.body) else [])}
            return not used and not (types and {*types} <= known)
    return True


def _is_invisible(body: Any) -> bool:
    """Say if one of the texts has nothing visible, and an invisible character past the Basic Multilingual Plane."""
    if isinstance(body, dict | list):
        return any(map(_is_invisible, body.values() if isinstance(body, dict) else body))
    if not isinstance(body, str) or max(body, default="") <= "\uffff":
        return False
    try:
        text.visible(body)
    except ValueError:
        return True
    return False


def _outlives_the_task(case: Case[Any]) -> bool:
    """Say if the operation reads what the log keeps of a deleted task."""
    operation = case.operation.definition.raw["operationId"]
    return operation in ("getHistory", "restoreTask", "eraseTask") or (
        operation == "getTask" and not case.query.keys().isdisjoint(("version", "as_of"))
    )


_WITH_CONTRADICTIONS = ("listTasks", "getTask", "completeTask", "restoreTask")

for name, function, operations in (
    ("map_case", without_contradictions, _WITH_CONTRADICTIONS),
    ("before_add_examples", examples_without_contradictions, _WITH_CONTRADICTIONS),
    ("map_case", with_a_key_of_its_own, ()),
    ("map_case", with_conditions_that_hold, ("deleteTask",)),
    ("before_add_examples", examples_that_can_succeed, ()),
    ("filter_failure", is_a_failure, ()),
):
    hook: Any = schemathesis.hook(name)
    if operations:
        hook = hook.apply_to(operation_id=list(operations))
    hook(function)
