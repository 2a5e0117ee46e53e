"""What schemathesis must not hold against the service: each exception to its checks, as narrow as it can be said."""

from typing import Any

import schemathesis
from schemathesis import Case, HookContext, Response
from schemathesis.core.failures import Failure
from schemathesis.openapi.checks import RejectedPositiveData

BAD_REQUEST = 400


def without_contradictions(_context: HookContext, case: Case[Any]) -> Case[Any]:
    """OpenAPI can't say that parameters exclude each other, so that valid ones would mostly be answered with 400."""
    if case.meta is None or case.meta.generation.mode.is_positive:
        query = case.query
        if "status" in query:
            query.pop("completed", None)
        if not query.keys().isdisjoint(("offset", "q", "search")):  # any cursor is of another list, for one
            query.pop("cursor", None)
    return case


def examples_without_contradictions(context: HookContext, examples: list[Case[Any]]) -> None:
    """An example is made of all parameters at once."""
    for case in examples:
        without_contradictions(context, case)


def is_a_failure(_context: HookContext, failure: Failure, case: Case[Any], response: Response) -> bool:
    """A cursor is opaque: a text that didn't come from a `Link` header, or goes with other parameters, is 400."""
    refused = isinstance(failure, RejectedPositiveData) and response.status_code == BAD_REQUEST
    return not (refused and "cursor" in case.query)


for name, function in (
    ("map_case", without_contradictions),
    ("before_add_examples", examples_without_contradictions),
    ("filter_failure", is_a_failure),
):
    hook: Any = schemathesis.hook(name)
    hook.apply_to(operation_id="listTasks")(function)
