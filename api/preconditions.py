"""`If-Match`, `If-None-Match` and `Idempotency-Key` (docs/http-api.md, "Safe writes")."""

import re
from collections.abc import Sequence
from hashlib import sha256
from typing import Any
from uuid import UUID

import orjson
from fastapi import Request
from starlette.datastructures import Headers

from api.entity_tags import entity_tags, etag
from api.problems import BadRequest, PreconditionFailed
from api.request_body import without_mark
from commands.precondition import UNCONDITIONAL, EntityTag, Precondition, Tags

# An RFC 8941 string, or its bare content.
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_KEY = re.compile(r"[ -~]{1,255}")


def _sent(headers: Headers, name: str) -> str | None:
    values = headers.getlist(name)
    return ", ".join(values).strip() if values else None


def _tags(headers: Headers, name: str) -> Tags:
    """Read the entity tags of one header; None without it. Raises `BadRequest`."""
    text = _sent(headers, name)
    if text is None or text == "*":
        return text  # type: ignore[return-value] # mypy doesn't narrow a text to a Literal
    tags = entity_tags(text)
    if not text or tags is None:
        raise BadRequest(hint=f"{name} can't be read; send the ETag as it came, or *.")
    return tags


def precondition(request: Request) -> Precondition:
    """Read `If-Match` and `If-None-Match` of a write.

    `If-Unmodified-Since` and `If-Modified-Since` are ignored: nothing here has a modification date (RFC 9110, section
    13.1.4). Raises `BadRequest`.
    """
    headers = request.headers
    if "if-match" not in headers and "if-none-match" not in headers:
        return UNCONDITIONAL
    return Precondition(_tags(headers, "If-Match"), _tags(headers, "If-None-Match"))


def has_condition(request: Request) -> bool:
    """Say whether the client wants a response only if its copy is out of date (`If-None-Match`)."""
    return "if-none-match" in request.headers


def matches(request: Request, current: EntityTag) -> bool:
    """Say whether a read's client has this state already (`If-None-Match`), so that 304 is enough.

    Raises `PreconditionFailed` if `If-Match` names other versions; it goes first (RFC 9110, section 13.2.2). Raises
    `BadRequest` if `If-Match` can't be read. An `If-None-Match` that can't be read matches nothing: the client gets the
    whole response.
    """
    headers = request.headers
    if "if-match" in headers and not Precondition(_tags(headers, "If-Match")).holds(current, exists=True):
        raise PreconditionFailed(
            hint="If-Match names another version than the present one, which ETag names.",
            headers={"ETag": etag(current)},
        )
    text = _sent(headers, "if-none-match")
    return text is not None and (text == "*" or any(tag.names(current) for tag in entity_tags(text) or ()))


def idempotency_key(headers: Headers) -> str | None:
    """Read the client's `Idempotency-Key` for this write; None without one. Raises `BadRequest`."""
    values: Sequence[str] = headers.getlist("idempotency-key")
    if not values:
        return None
    text = values[0].strip()
    quoted = _QUOTED.fullmatch(text)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else text
    if len(values) > 1 or not _KEY.fullmatch(key) or (text.startswith('"') and not quoted):
        raise BadRequest(
            hint="Idempotency-Key must be one name of 1 to 255 ASCII characters, quoted or bare; a new UUID is a good "
            "one."
        )
    return key


_COUNTED = ("completed", "version")
"""Query parameters that change a write's effect. Others, such as cache busters, may differ in a replay."""


def fingerprint(request: Request, body: bytes) -> bytes:
    """Make the fingerprint that a key is bound to: SHA-256 (32 bytes) of method, route, task, parameters and body.

    It doesn't depend on the spelling of a request: the letters of an id, the order of parameters, the slashes and the
    prefix of the path, and the order, spaces and escapes of JSON don't matter, and 1 and 1.0 are equal. An empty object
    counts as no body.
    """
    task_id = _canonical_id(request.path_params.get("task_id", ""))
    counted = [(name, request.query_params[name].lower()) for name in _COUNTED if name in request.query_params]
    target = f"{request.method} {request.scope['route'].path} {task_id} {counted}\n"
    return sha256(target.encode() + sha256(_canonical_body(body)).digest()).digest()


def _canonical_id(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:  # the route refuses it
        return text


def _canonical_body(body: bytes) -> bytes:
    try:
        value = orjson.loads(without_mark(body))
        if _FRACTION.search(body):
            value = _spelled_alike(value)
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS) if value != {} else b""
    except (orjson.JSONDecodeError, orjson.JSONEncodeError, RecursionError):  # it reads deeper nesting than it writes
        return body


_FRACTION = re.compile(rb"[0-9][.eE]")
_MOST_EXACT = 2**53
"""The whole numbers up to this one can be told apart as floats (RFC 8259, section 6)."""


def _spelled_alike(value: Any) -> Any:
    """Make ints of whole numbers, as 1.0 and 1e0 are spellings of 1."""
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) <= _MOST_EXACT else value
    if isinstance(value, list):
        return [each if isinstance(each, str) else _spelled_alike(each) for each in value]
    if isinstance(value, dict):
        return {name: each if isinstance(each, str) else _spelled_alike(each) for name, each in value.items()}
    return value
