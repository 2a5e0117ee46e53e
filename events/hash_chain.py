"""The hash chain that makes a user's log tamper-evident."""

from hashlib import sha256
from typing import NamedTuple

from events.serialization import Json, canonical

GENESIS = b""
"""The hash before a user's first event."""


class Head(NamedTuple):
    """The number, hash and time of a stream's last event; 0, empty and `None` if there is none.

    The time is text, as `events.serialization.rfc3339` formats it. It is `None` also if it wasn't read.
    """

    seq: int = 0
    hash: bytes = GENESIS
    at: str | None = None


def digest(header: Json, data: Json, meta: Json, salt: bytes) -> bytes:
    """Compute SHA-256 over the canonical header and the salted digest of `{data, meta}` (32 bytes each).

    There are two steps, so that the content can be erased, and its digest kept, while the chain still verifies.
    """
    return digest_of(header, inner_digest(data, meta, salt))


def inner_digest(data: Json, meta: Json, salt: bytes) -> bytes:
    """Compute SHA-256 over the salt and the canonical `{data, meta}`, an event's content (32 bytes).

    The salt keeps a short title from being guessed by its digest. `data` is hashed as stored, in the form in which it
    was written.
    """
    return sha256(salt + canonical({"data": data, "meta": meta})).digest()


def digest_of(header: Json, personal: bytes) -> bytes:
    """Compute the digest of an event from its header and its inner digest, which is kept when content is erased."""
    return sha256(canonical(header) + personal).digest()


def link(previous: bytes, digest: bytes) -> bytes:
    """Compute the hash of the event with this digest: SHA-256(previous hash ‖ digest). The append does so in SQL."""
    return sha256(previous + digest).digest()
