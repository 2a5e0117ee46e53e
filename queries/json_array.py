"""JSON arrays of stored documents, made in slices: a page of the longest tasks has 20 MB."""

from db.time_slices import TimeSlices
from events.projection import array_of, present_form

_SHORT = 256 * 1024
"""Largest number of bytes that are joined at once."""


async def json_array(
    user_id: str, documents: list[bytes], *, before: bytes = b"", after: bytes = b""
) -> bytes | memoryview:
    """Make an array of a user's documents, each in its `present_form`, with pauses in which other requests run.

    `before` and `after` are bytes around it. `documents` is empty afterwards, if they are long: each is freed as soon
    as it is copied.
    """
    if sum(map(len, documents)) <= _SHORT:
        return b"%b%b%b" % (before, array_of(documents), after)
    slices = TimeSlices(user_id)
    body = bytearray(before + b"[")
    documents.reverse()
    while documents:
        body += present_form(documents.pop())
        body += b"," if documents else b"]"
        await slices.pause()
    body += after
    return memoryview(body)
