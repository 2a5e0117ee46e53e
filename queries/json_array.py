"""JSON arrays made in slices: a page of the longest tasks has 20 MB."""

from collections.abc import Callable
from typing import TypeVar

from db.time_slices import TimeSlices
from events.projection import joined

_SHORT = 1024 * 1024
"""Number of bytes that are joined in one go. Others run between slices, and may have their turn for far longer."""
_AT_ONCE = 20
"""Number of longer documents that are joined at once: the longest take a millisecond, if each is of a former form."""

_Item = TypeVar("_Item")


async def json_array(user_id: str, documents: list[bytes]) -> bytes | memoryview:
    """Make an array of a user's documents, each in its `present_form`, with pauses in which other requests run.

    `documents` is empty afterwards, if they are long.
    """
    if sum(map(len, documents)) <= _SHORT:
        return b"[%b]" % joined(documents)
    body = bytearray()
    await write_array(body, user_id, documents, joined, at_once=_AT_ONCE)
    return memoryview(body)


async def write_array(
    body: bytearray, user_id: str, items: list[_Item], join: Callable[[list[_Item]], bytes], *, at_once: int
) -> None:
    """Append an array of a user's items to the body, with pauses in which other requests run.

    `join` writes up to `at_once` of them, without brackets. `items` is empty afterwards: they are freed as they are
    written.
    """
    slices = TimeSlices(user_id)
    body += b"["
    items.reverse()
    while items:
        some = items[: -at_once - 1 : -1]
        del items[-at_once:]
        body += join(some)
        body += b"," if items else b""
        await slices.pause()
    body += b"]"
