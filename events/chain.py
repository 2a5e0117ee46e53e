"""The hash chain that makes a user's log tamper-evident."""

from hashlib import sha256

from events.codec import canonical, encode, header, meta
from events.task import Event

GENESIS = b""
"""The hash before a user's first event."""


def digest(event: Event) -> bytes:
    """SHA-256 over the canonical header and the salted digest of `{data, meta}` (32 bytes each).

    Two steps, so that the personal part can one day give way to its own digest while the chain still verifies;
    salted, so that a short title can't be guessed from it.
    """
    personal = canonical({"data": encode(event.fact), "meta": meta(event.origin)})
    return sha256(canonical(header(event)) + sha256(event.salt + personal).digest()).digest()


def link(previous: bytes, digest: bytes) -> bytes:
    """The hash of the event with this digest: SHA-256(previous hash ‖ digest). The append does the same in SQL."""
    return sha256(previous + digest).digest()
