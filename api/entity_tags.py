"""Entity tags (RFC 9110, section 8.8.3): the number of an event and part of its hash (docs/adr/0020)."""

import re

from commands.precondition import EntityTag

_PART = 8
"""Bytes of the hash in a tag, 64 bits. Two events with one number, from before and after a restore from a backup, agree
in these by chance once in 10 to the 19th. All 32 would be 48 more characters in each request and response."""

# An entity tag, with or without quotes. Empty elements are ignored (RFC 9110, section 5.6.1.2).
_TAG = re.compile(r'[ \t,]*(?:(?:[Ww]/)?"([^"]*)"|([0-9]+(?:[-;][^\s",]*)?))[ \t]*(?:,|$)')
# A proxy that compresses may add the content coding's name ("3-gzip", "3--br", "3;gzip"), which can't be taken for part
# of a hash: no such name has 16 letters. A tag with any other addition isn't ours: a hash that was cut off or changed
# must not leave the number alone, which is a weaker condition.
_OURS = re.compile(
    rf"([0-9]{{1,19}})(?:-([0-9a-f]{{{2 * _PART}}}))?(?:(?:--?|;)(?:x-)?(?:gzip|br|zstd|deflate|compress|dcb|dcz))*",
    re.ASCII,
)

TAGS_PATTERN = r'^("[0-9]{1,9}(-[0-9a-f]{16})?"|[0-9]{1,9}|\*)$'
"""JSON Schema pattern of an entity tag as clients may send it: whole, or the number alone."""


def etag(tag: EntityTag) -> str:
    """Write an entity tag: `"3-9f86d081884c7d65"`, or `"0"` for the list of a user without events."""
    part = tag.hash[:_PART].hex()
    return f'"{tag.number}-{part}"' if part else f'"{tag.number}"'


def entity_tags(text: str) -> frozenset[EntityTag] | None:
    """Read a list of entity tags, and leave out foreign ones. Return `None` if the list can't be read."""
    found, place = set[EntityTag](), 0
    end = len(text.rstrip(", \t"))
    if not end and text.strip():
        return None
    while place < end:
        tag = _TAG.match(text, place)
        if tag is None:
            return None
        if ours := _OURS.fullmatch(tag[1] if tag[1] is not None else tag[2]):
            found.add(EntityTag(int(ours[1]), bytes.fromhex(ours[2] or "")))
        place = tag.end()
    return frozenset(found)
