"""JSON arrays of stored documents, made in slices: a page of the longest tasks has 20 MB."""

from db.time_slices import TimeSlices
from events.projection import joined

_SHORT = 1024 * 1024
"""Number of bytes that are joined in one go. Others run between slices, and may have their turn for far longer."""
_AT_ONCE = 20
"""Number of longer documents that are joined at once: the longest take a millisecond, if each is of a former form."""


async def json_array(user_id: str, documents: list[bytes]) -> bytes | memoryview:
    """Make an array of a user's documents, each in its `present_form`, with pauses in which other requests run.

    `documents` is empty afterwards, if they are long: they are freed as they are copied.
    """
    if sum(map(len, documents)) <= _SHORT:
        return b"[%b]" % joined(documents)
    slices = TimeSlices(user_id)
    body = bytearray(b"[")
    documents.reverse()
    while documents:
        some = documents[: -_AT_ONCE - 1 : -1]
        del documents[-_AT_ONCE:]
        body += joined(some)
        body += b"," if documents else b"]"
        await slices.pause()
    return memoryview(body)
