"""Reading of request bodies, after authentication."""

import asyncio
import codecs
import json
from collections.abc import Awaitable, Callable, Set
from contextlib import suppress
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, Request
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, from_json, to_json
from starlette.requests import ClientDisconnect

from api import large_bodies
from api.field_errors import MOST_ERRORS, body_errors, summary
from api.problems import BadRequest, ContentTooLarge, Invalid, Problem, RequestTimeout, UnsupportedMediaType
from db.time_slices import TimeSlices

LARGEST = 64 * 1024
"""Largest number of bytes of a body (docs/http-api.md, "Tasks")."""

LARGEST_BATCH = 1024 * 1024
"""Largest number of bytes of a batch."""

_SLOWEST = 10
"""Seconds for the whole body to arrive."""

_DIGITS = 9
"""Longest Content-Length in digits that is worth parsing."""

_FEW_FIELDS = 200
"""Number of fields in a body whose validation takes no time worth speaking of, also if all of them are unknown."""
_BYTES_OF_FIELD = 1_000
"""Number of bytes that take longer to read than one more field takes to validate."""

_LONGEST_SHOWN = 100
"""Characters of a refused media type that a hint shows."""

_Body = TypeVar("_Body")


async def _read(request: Request) -> bytes:
    """Read the whole body, unparsed. Raises `ContentTooLarge`, `RequestTimeout`, or as `large_bodies.admit` does.

    A large one first waits for room. Who has read it has a slice of time (`_next_slice`).
    """
    length = request.headers.get("content-length", "")
    largest = LARGEST_BATCH if request.scope["route"].path.endswith("/batch") else LARGEST
    if length.isdecimal() and (len(length) > _DIGITS or int(length) > largest):
        raise _too_large(largest)
    body = bytearray()
    more = length.isdecimal() and int(length) > LARGEST
    if not more:
        more = await _receive(request, body, largest=largest, most=LARGEST)
    if more or len(body) > LARGEST:
        user = request.path_params["user_id"]
        await large_bodies.admit(request, user)
        if more:
            await _receive(request, body, largest=largest, most=largest)
        await _next_slice(request, body)
    return bytes(body)


async def _next_slice(request: Request, body: bytes | bytearray) -> None:
    """Let other requests run before the next step with a large body.

    Each keeps the loop busy for some milliseconds, and one user may send many bodies at once.
    """
    if len(body) > LARGEST:
        await TimeSlices(request.path_params["user_id"]).next_slice()


async def _receive(request: Request, body: bytearray, *, largest: int, most: int) -> bool:
    """Receive more of the body, until it has more than `most` bytes, and say whether there is more to come."""
    if getattr(request.state, "arrived", False):  # set by `api.server.protocol`
        return await _pieces(request, body, largest, most)
    try:
        async with asyncio.timeout(_SLOWEST):
            return await _pieces(request, body, largest, most)
    except TimeoutError:
        raise RequestTimeout(
            hint=f"The body must arrive within {_SLOWEST} seconds.", headers={"Connection": "close"}
        ) from None


async def _pieces(request: Request, body: bytearray, largest: int, most: int) -> bool:
    more = True
    while more and len(body) <= most:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message["body"]
        more = message["more_body"]
        if len(body) > largest:
            raise _too_large(largest)
    return more


def _too_large(largest: int) -> ContentTooLarge:
    return ContentTooLarge(hint=f"The body must have at most {largest:,} bytes.")


RawBody = Annotated[bytes, Depends(_read)]
"""The request's body, read once for all dependencies."""


def json_body(type_: type[_Body]) -> Callable[[Request, bytes], Awaitable[_Body]]:
    """Make a dependency that reads the body as `type_`. It raises `BadRequest`, `UnsupportedMediaType` or `Invalid`."""
    reader = _Reader(type_)

    async def body(request: Request, raw: RawBody) -> _Body:
        if not raw:
            raise BadRequest(hint="The body is empty; send a JSON object.")
        return await reader.read(request, raw)

    return body


def optional_json_body(type_: type[_Body]) -> Callable[[Request, bytes], Awaitable[_Body | None]]:
    """Make a dependency like `json_body`'s that also accepts a request without a body, as None."""
    reader = _Reader(type_)

    async def body(request: Request, raw: RawBody) -> _Body | None:
        return await reader.read(request, raw) if raw else None

    return body


class _Reader(Generic[_Body]):
    """Reader of JSON as one type, a TypedDict or a model. The type's annotations are the known fields."""

    def __init__(self, type_: type[_Body]) -> None:
        self._model = TypeAdapter(type_)
        self._known = tuple(type_.__annotations__)
        self._names = _property_names(self._model.json_schema())

    async def read(self, request: Request, raw: bytes) -> _Body:
        _refuse_other_media_types(request)
        await _next_slice(request, raw)  # after the fingerprint
        body = without_mark(raw)
        _refuse_constants(body)
        if _has_many_fields(body):
            body = _without_excess(body, self._names)
        await _next_slice(request, body)
        try:
            value = _validate(self._model, body, self._names)
        except ValidationError as error:
            raise self._problem(body, error) from None
        if not value and self._names_none(body):
            raise self._nothing_known()
        await _next_slice(request, body)
        return value

    def _problem(self, body: bytes, error: ValidationError) -> Problem:
        problems = _errors(error)
        if problems[0]["type"] == "json_invalid":
            return BadRequest(hint=f"The body isn't JSON: {problems[0].get('ctx', {}).get('error')}.")
        errors = body_errors(problems)
        hint = self._fields() if all(each["type"] == "missing" for each in errors) and self._names_none(body) else None
        return Invalid(summary(errors), hint=hint, errors=errors)

    def _names_none(self, body: bytes) -> bool:
        """Say whether the body names fields, but no known one. For an empty object, which asks for nothing, it's False.

        The body must have been read already: errors in it aren't handled here.
        """
        names = json.loads(body)
        return bool(names) and not set(self._known) & set(names)

    def _nothing_known(self) -> Problem:
        message = "The app sent nothing that can be changed here."
        errors = [{"field": "body", "message": message, "type": "no_known_field"}]
        return Invalid(message, hint=self._fields(), errors=errors)

    def _fields(self) -> str:
        return f"The body names no field that is known here. There are: {', '.join(self._known)}."


def _refuse_other_media_types(request: Request) -> None:
    """Raise `UnsupportedMediaType` for a compressed body or a media type other than JSON; none counts as JSON."""
    media_type = (request.headers.get("content-type") or "application/json").partition(";")[0].strip().lower()
    if media_type != "application/json" and not (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        raise UnsupportedMediaType(hint=f"The body must be application/json, not {media_type[:_LONGEST_SHOWN]!r}.")
    if request.headers.get("content-encoding", "identity") != "identity":
        raise UnsupportedMediaType(hint="The body must not be compressed.")


def _refuse_constants(body: bytes) -> None:
    """Raise `BadRequest` for `NaN` and `Infinity`, which many parsers take though they aren't JSON (RFC 8259)."""
    if b"NaN" not in body and b"Infinity" not in body:
        return
    with suppress(ValueError, RecursionError):  # it can't be read for another reason, which the validation names
        json.loads(body, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> None:
    raise BadRequest(hint=f"The body isn't JSON: {name} is no number there.")


def without_mark(body: bytes) -> bytes:
    """Cut off a UTF-8 byte order mark, which a parser may ignore (RFC 8259, section 8.1)."""
    return body.removeprefix(codecs.BOM_UTF8)


def _property_names(schema: dict[str, Any]) -> Set[str]:
    """Collect the names of all fields in a JSON schema."""
    parts = (schema, *schema.get("$defs", {}).values())
    return {name for part in parts for name in part.get("properties", ())}


def _has_many_fields(body: bytes) -> bool:
    """Say whether the body may have so many fields that unknown ones must be counted. Each field has a colon.

    A full batch of long texts has few.
    """
    return body.count(b":") > max(_FEW_FIELDS, len(body) // _BYTES_OF_FIELD)


def _without_excess(body: bytes, names: Set[str]) -> bytes:
    """Leave out the unknown fields past those whose errors are listed: a megabyte has room for a hundred thousand.

    JSON that can't be read is returned as it is.
    """
    try:
        return to_json(_few_unknown(from_json(body, cache_strings=False), names))
    except ValueError:
        return body


def _few_unknown(value: Any, names: Set[str]) -> Any:
    if isinstance(value, list):
        return [_few_unknown(each, names) if isinstance(each, dict) else each for each in value]
    if not isinstance(value, dict):
        return value
    unknown = [name for name in value if name not in names]
    for name in unknown[MOST_ERRORS:]:
        del value[name]
    return {name: _few_unknown(each, names) for name, each in value.items()}


def _errors(error: ValidationError) -> list[ErrorDetails]:
    """List the errors without their inputs, which may be long."""
    return error.errors(include_url=False, include_input=False)


def _validate(model: TypeAdapter[_Body], raw: bytes, names: Set[str]) -> _Body:
    """Validate JSON. Raises `ValidationError`, which names the field at fault even for a lone surrogate.

    Pydantic's parser stops at one (half a character, which no text can hold) before it can name the field; the standard
    library's reads on.
    """
    try:
        return model.validate_json(raw)
    except ValidationError as error:
        if error.error_count() > 1 or "hex escape" not in str(_errors(error)[0].get("ctx", {}).get("error")):
            raise
        try:
            value = json.loads(raw.decode())
        except (ValueError, RecursionError):
            raise error from None
        return model.validate_python(_few_unknown(value, names))
