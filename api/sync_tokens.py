"""Sync tokens: the place in a user's log up to which a client's copy is complete, opaque to the client."""

import base64
from uuid import UUID

from api.problems import BadRequest
from queries.changes import SyncPoint

_SEQ, _PART, _ID = 8, 8, 16
"""Bytes of the number of an event, of the part of its hash (as in entity tags), and of a task's id."""


def sync_token(point: SyncPoint) -> str:
    """Write a point as a token."""
    parts = point.seq.to_bytes(_SEQ), point.hash[:_PART].ljust(_PART, b"\0"), point.start.bytes if point.start else b""
    return base64.urlsafe_b64encode(b"".join(parts)).rstrip(b"=").decode()


def sync_point(token: str) -> SyncPoint:
    """Read a token. Raise `BadRequest` if it isn't one of ours."""
    unreadable = BadRequest(hint="since can't be read; take it from `next` of the answer before, as it is.")
    try:
        read = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise unreadable from None
    seq = int.from_bytes(read[:_SEQ])
    if len(read) not in (_SEQ + _PART, _SEQ + _PART + _ID) or seq >= 2**63:
        raise unreadable
    start = UUID(bytes=read[_SEQ + _PART :]) if len(read) > _SEQ + _PART else None
    return SyncPoint(seq, read[_SEQ : _SEQ + _PART], start)
