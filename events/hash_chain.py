"""The hash chain that makes a user's log tamper-evident."""

from hashlib import sha256

from events.serialization import Json, canonical

GENESIS = b""
"""The hash before a user's first event."""


def digest(header: Json, data: Json, meta: Json, salt: bytes) -> bytes:
    """SHA-256 over the canonical header and the salted digest of `{data, meta}` (32 bytes each).

    Two steps, so that the personal part can one day give way to its own digest while the chain still verifies;
    salted, so that a short title can't be guessed from it. `data` is what is stored, in whatever form it was written.
    """
    personal = sha256(salt + canonical({"data": data, "meta": meta})).digest()
    return sha256(canonical(header) + personal).digest()


def link(previous: bytes, digest: bytes) -> bytes:
    """The hash of the event with this digest: SHA-256(previous hash ‖ digest). The append does the same in SQL."""
    return sha256(previous + digest).digest()
