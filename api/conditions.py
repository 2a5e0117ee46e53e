"""If-Match, If-None-Match, Idempotency-Key: safe writes, and reads that are cheap to repeat (contract, section 4)."""

import re
from collections.abc import Sequence
from hashlib import sha256
from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import Headers

from api.entity_tags import numbers
from api.errors import BadRequest
from commands.task import Versions

# An RFC 8941 string, or its bare content.
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_KEY = re.compile(r"[ -~]{1,255}")


def _sent(headers: Headers, name: str) -> str | None:
    values = headers.getlist(name)
    return ", ".join(values).strip() if values else None


async def _if_match(request: Request) -> Versions:
    tags = _sent(request.headers, "if-match")
    if tags is None or tags == "*":  # a change wants the task to exist in any case
        return None
    versions = numbers(tags)
    if not tags or versions is None:
        raise BadRequest("If-Match can't be read; send the task's ETag as it came, or *.")
    return versions


def has_condition(request: Request) -> bool:
    """Whether the client asks for an answer only if it is another than it has (`If-None-Match`)."""
    return "if-none-match" in request.headers


def matches(request: Request, number: int) -> bool:
    """Whether the client has this version or `seq` already (`If-None-Match`), so that 304 is all it needs."""
    tags = _sent(request.headers, "if-none-match")
    return tags is not None and (tags == "*" or number in (numbers(tags) or ()))


def idempotency_key(headers: Headers) -> str | None:
    """The client's name for this write. Raises `BadRequest`."""
    values: Sequence[str] = headers.getlist("idempotency-key")
    if not values:
        return None
    text = values[0].strip()
    quoted = _QUOTED.fullmatch(text)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else text
    if len(values) > 1 or not _KEY.fullmatch(key) or (text.startswith('"') and not quoted):
        raise BadRequest(
            "Idempotency-Key must be one name of 1 to 255 ASCII characters, quoted or bare; a new UUID is a good one."
        )
    return key


def fingerprint(method: str, path: str, body: bytes) -> bytes:
    """What a key stands for: SHA-256 of method, path and body (32 bytes)."""
    return sha256(f"{method} {path}\n".encode() + sha256(body).digest()).digest()


IfMatch = Annotated[Versions, Depends(_if_match)]
