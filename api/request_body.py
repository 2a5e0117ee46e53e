"""Reading of request bodies, after authentication."""

import asyncio
import codecs
import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Generic, TypeVar

from fastapi import Depends, Request
from pydantic import TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect

from api.field_errors import body_errors, summary
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

_LONGEST_SHOWN = 100
"""Characters of a refused media type that a hint shows."""

_Body = TypeVar("_Body")


async def _read(request: Request) -> bytes:
    """Read the whole body, unparsed. Raises `ContentTooLarge` or `RequestTimeout`."""
    length = request.headers.get("content-length", "")
    largest = LARGEST_BATCH if request.scope["route"].path.endswith("/batch") else LARGEST
    if length.isdecimal() and (len(length) > _DIGITS or int(length) > largest):
        raise _too_large(largest)
    if getattr(request.state, "arrived", False):  # set by `api.server.protocol`
        return await _chunks(request, largest)
    try:
        async with asyncio.timeout(_SLOWEST):
            return await _chunks(request, largest)
    except TimeoutError:
        raise RequestTimeout(
            hint=f"The body must arrive within {_SLOWEST} seconds.", headers={"Connection": "close"}
        ) from None


async def _chunks(request: Request, largest: int) -> bytes:
    chunks, more = bytearray(), True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunks += message["body"]
        more = message["more_body"]
        if len(chunks) > largest:
            raise _too_large(largest)
    return bytes(chunks)


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
        if len(raw) > LARGEST:  # to validate a megabyte takes the loop 5 ms, and one user may send many at once
            await TimeSlices(request.path_params["user_id"]).next_slice()
        return reader.read(request, raw)

    return body


def optional_json_body(type_: type[_Body]) -> Callable[[Request, bytes], Awaitable[_Body | None]]:
    """Make a dependency like `json_body`'s that also accepts a request without a body, as None."""
    reader = _Reader(type_)

    async def body(request: Request, raw: RawBody) -> _Body | None:
        return reader.read(request, raw) if raw else None

    return body


class _Reader(Generic[_Body]):
    """Reader of JSON as one type, a TypedDict or a model. The type's annotations are the known fields."""

    def __init__(self, type_: type[_Body]) -> None:
        self._model = TypeAdapter(type_)
        self._known = tuple(type_.__annotations__)

    def read(self, request: Request, raw: bytes) -> _Body:
        _refuse_other_media_types(request)
        body = without_mark(raw)
        try:
            value = _validate(self._model, body)
        except ValidationError as error:
            raise self._problem(body, error) from None
        if not value and self._names_none(body):
            raise self._nothing_known()
        return value

    def _problem(self, body: bytes, error: ValidationError) -> Problem:
        problems = error.errors(include_url=False, include_input=False)
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


def without_mark(body: bytes) -> bytes:
    """Cut off a UTF-8 byte order mark, which a parser may ignore (RFC 8259, section 8.1)."""
    return body.removeprefix(codecs.BOM_UTF8)


def _validate(model: TypeAdapter[_Body], raw: bytes) -> _Body:
    """Validate JSON. Raises `ValidationError`, which names the field at fault even for a lone surrogate.

    Pydantic's parser stops at one (half a character, which no text can hold) before it can name the field; the standard
    library's reads on.
    """
    try:
        return model.validate_json(raw)
    except ValidationError as error:
        if "hex escape" not in str(error.errors()[0].get("ctx", {}).get("error")):
            raise
        try:
            value = json.loads(raw.decode())
        except (ValueError, RecursionError):
            raise error from None
        return model.validate_python(value)
