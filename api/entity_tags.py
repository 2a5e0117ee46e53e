"""Entity tags (RFC 9110, section 8.8.3): a task's version, or the `seq` of a user's last event, in quotes."""

import re

# Ours without quotes too. A proxy that compresses may make a tag weak, or add to it ("3-gzip"). Empty elements are
# ignored (RFC 9110, section 5.6.1.2).
_TAG = re.compile(r'[ \t,]*(?:(?:[Ww]/)?"([^"]*)"|([0-9]+(?:[-;][^\s",]*)?))[ \t]*(?:,|$)')
_NUMBER = re.compile(r"([0-9]{1,19})(?:[-;].*)?")


def etag(number: int) -> str:
    """The entity tag of a version or `seq`."""
    return f'"{number}"'


def numbers(tags: str) -> frozenset[int] | None:
    """The numbers in a list of entity tags, without those that aren't ours; `None` where it can't be read."""
    found, place = set[int](), 0
    end = len(tags.rstrip(", \t"))
    if not end and tags.strip():
        return None
    while place < end:
        tag = _TAG.match(tags, place)
        if tag is None:
            return None
        if number := _NUMBER.fullmatch(tag[1] if tag[1] is not None else tag[2]):
            found.add(int(number[1]))
        place = tag.end()
    return frozenset(found)
