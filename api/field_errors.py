"""Pydantic's errors as sentences that an app shows to its user (docs/guides/errors.md)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

_SENTENCES = {
    "missing": "{name} is required.",
    "string_type": "{name} must be text.",
    "string_unicode": "{name} contains half a character, which can't be stored.",
    "string_too_short": "{name} must not be empty.",
    "string_too_long": "{name} must have at most {max_length:,} characters.",
    "list_type": "{name} must be a list.",
    "too_short": "Send at least one {one}.",
    "too_long": "{name} must have at most {max_length:,} entries.",
    "bool_type": "{name} must be true or false.",
    "int_type": "{name} must be a whole number.",
    "int_parsing": "{name} must be a whole number.",
    "int_parsing_size": "{name} is too large a number.",
    "greater_than_equal": "{name} must be at least {ge}.",
    "less_than_equal": "{name} must be at most {le}.",
    "literal_error": "{name} must be {expected}.",
    "uuid_type": "{name} must be a UUID.",
    "uuid_parsing": "{name} must be a UUID.",
    "value_error": "{name} {error}.",
    "extra_forbidden": "{name} isn't known here.",
    "union_tag_invalid": "{name} must have as op one of {expected_tags}.",
    "union_tag_not_found": "{name} must have an op.",
    "dict_type": "{name} must be a JSON object.",
    "model_type": "{name} must be a JSON object.",
    "model_attributes_type": "{name} must be a JSON object.",
}
"""Sentences by Pydantic's error type. The placeholders are the field's name, that of one of its entries, and the
error's context. Lists that may not be empty want one entry."""

MOST_ERRORS = 20
"""Largest number of errors that are listed: those of one mistake may be hundreds."""

_BODY = "body"
"""Name for `field` if no single field is at fault."""


def body_errors(errors: Sequence[Any]) -> list[dict[str, str]]:
    """List a body's first errors as `{field, message, type}`. A message begins with the field's name in words.

    The field of an operation of a batch has its number, as in `operations.0.title`.
    """
    return [_of_operation(error) or _error(error, error["loc"], in_words) for error in errors[:MOST_ERRORS]]


def _of_operation(error: Any) -> dict[str, str] | None:
    operations, number, _op, *location = (*error["loc"], None, None, None)[: max(3, len(error["loc"]))]
    if operations != "operations" or not isinstance(number, int):
        return None
    found = _error(error, location, in_words)
    place, name = f"operations.{number}", f"Operation {number}"
    if found["field"] == _BODY:
        return {**found, "field": place, "message": found["message"].replace("The body", name)}
    return {**found, "field": f"{place}.{found['field']}", "message": f"{name}: {found['message']}"}


def in_words(name: str) -> str:
    """Write a field's name as the beginning of a sentence."""
    return name.replace("_", " ").capitalize()


def parameter_errors(errors: Sequence[Any]) -> list[dict[str, str]]:
    """List the first errors of path and query, as `body_errors` does. A message begins with the name as it is sent."""
    return [_error(error, error["loc"][1:], str) for error in errors[:MOST_ERRORS]]


def summary(errors: Sequence[Mapping[str, str]]) -> str:
    """Join the messages of all field errors, since clients show `detail` as it is."""
    return " ".join(error["message"] for error in errors)


def _error(error: Any, location: Sequence[str | int], spelling: Callable[[str], str]) -> dict[str, str]:
    field = ".".join(step for step in location if isinstance(step, str)) or _BODY
    name = "The body" if field == _BODY else spelling(field)
    template = _SENTENCES.get(error["type"])
    message = (
        template.format(name=name, one=name.lower().removesuffix("s"), **error.get("ctx", {}))
        if template
        else f"{name}: {error['msg']}."
    )
    return {"field": field, "message": message, "type": error["type"]}
