"""Reading request bodies, after it is known who asks."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

from fastapi import Depends, Request
from pydantic import TypeAdapter, ValidationError

from api.errors import BadRequest, BodyTooLarge, Invalid, NotJson, TooSlow, field_errors, summary

LARGEST = 64 * 1024
"""Bytes; contract, section 1."""

_SLOWEST = 10
"""Seconds for the whole body to arrive."""

_DIGITS = 9
"""No longer number is worth reading."""

_Body = TypeVar("_Body")


async def _read(request: Request) -> bytes:
    """The body as it came. Raises `BodyTooLarge` or `TooSlow`."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and (len(length) > _DIGITS or int(length) > LARGEST):
        raise _too_large()
    if getattr(request.state, "arrived", False):  # api.protocol says so
        return await _chunks(request)
    try:
        async with asyncio.timeout(_SLOWEST):
            return await _chunks(request)
    except TimeoutError:
        raise TooSlow(f"The body must arrive within {_SLOWEST} seconds.", headers={"Connection": "close"}) from None


async def _chunks(request: Request) -> bytes:
    chunks = bytearray()
    async for chunk in request.stream():
        chunks += chunk
        if len(chunks) > LARGEST:
            raise _too_large()
    return bytes(chunks)


def _too_large() -> BodyTooLarge:
    return BodyTooLarge(f"The body must have at most {LARGEST:,} bytes.")


RawBody = Annotated[bytes, Depends(_read)]
"""Read once, whoever asks for it."""


def json_body(type_: type[_Body]) -> Callable[[Request, bytes], Awaitable[_Body]]:
    """A dependency that gives the body as `type_`. Raises `BadRequest`, `NotJson` or `Invalid`."""
    model = TypeAdapter(type_)

    async def body(request: Request, raw: RawBody) -> _Body:
        if not raw:
            raise BadRequest("The body is empty; send a JSON object.")
        return _parse(model, raw, request)

    return body


def optional_json_body(type_: type[_Body]) -> Callable[[Request, bytes], Awaitable[_Body | None]]:
    """The same, where a request without a body is fine."""
    model = TypeAdapter(type_)

    async def body(request: Request, raw: RawBody) -> _Body | None:
        return _parse(model, raw, request) if raw else None

    return body


def _parse(model: TypeAdapter[_Body], raw: bytes, request: Request) -> _Body:
    media_type = (request.headers.get("content-type") or "application/json").partition(";")[0].strip().lower()
    if media_type != "application/json" and not (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        raise NotJson(f"The body must be application/json, not {media_type!r}.")
    if request.headers.get("content-encoding", "identity") != "identity":
        raise NotJson("The body must not be compressed.")
    try:
        return _validate(model, raw)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
    if problems[0]["type"] == "json_invalid":
        raise BadRequest(f"The body isn't JSON: {problems[0].get('ctx', {}).get('error')}.")
    errors = field_errors(problems)
    raise Invalid(summary(errors), errors=errors)


def _validate(model: TypeAdapter[_Body], raw: bytes) -> _Body:
    """Pydantic's parser stops at a lone surrogate (half a character, which no text can hold) before it can name the
    field. The standard library's reads on, so that it can."""
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
