"""Check of an export of one user's log, without a database: its events fit together, or the first misfit is named."""

from dataclasses import dataclass, replace
from typing import BinaryIO

import orjson

from events.export.diagnosis import Head, Held, Mismatch, cut_off, diagnosis, parted, rewritten, told, unreadable
from events.export.formats import AGAIN, MARK, by_beginning, form
from events.export.lines import SHOWN_WITHOUT, BadLine, Lines, derives, is_hash, is_moment, is_number, survey
from events.serialization import UnknownEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The events that fit together, up to the mismatch or the end. `hash` is the last one's, in hex.

    `head` is the number of the head's event, `None` if no head was given to compare the events with.
    """

    user_id: str | None
    events: int
    first: int | None
    last: int | None
    hash: str
    head: int | None
    mismatch: Mismatch | None


class NothingToSay(Exception):
    """The export can't be called clean, and no mismatch was found either."""


class NotAnExport(NothingToSay):
    """None of its lines is an event of an export"""

    def __init__(self, likely: str) -> None:
        super().__init__(f"{self.__doc__}: {likely}.")


class EmptyExport(NothingToSay):
    """It has no events: there are none, or its download failed. A head that was kept (--head) can tell which."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


class EarlierHead(NothingToSay):
    """The head is older than the one that the export goes on from: of an event that can't be in it."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


class BadHead(Exception):
    """It isn't what GET /api/{user_id}/audit/head answers"""


def check(file: BinaryIO, head: Head | None = None, *, after: Head | None = None) -> Report:
    """Verify an export, one `events.records.full_record` per line as JSON, oldest or newest event first.

    The file is read at least twice, so it must be seekable. The check takes constant memory, but for 8 bytes per line.
    If the events fit together, no event was changed on its own. Only a head that was kept from before can show that the
    last events weren't removed, and that the log wasn't rewritten as a whole. `after` is the head that the export goes
    on from, if it isn't the whole log. Raise `NothingToSay`, or `UnknownEvent` if the chain is whole and this release
    can't read an event.
    """
    report = _check(file, head, after)
    return replace(report, head=head.seq) if head else report


def _check(file: BinaryIO, head: Head | None, after: Head | None) -> Report:
    held = Held()
    if after:
        held.begin(after.seq, after.hash)
        if head and head.seq < after.seq:
            raise EarlierHead
        if head and head.seq == after.seq and head != after:
            return _report(held, parted(head))
    lines = survey(file)
    if isinstance(lines, BadLine):
        file.seek(0)
        if lines.line == 1 and (likely := by_beginning(file.read(_BEGINNING))):
            raise NotAnExport(likely)
        return _report(Held(), unreadable(lines, seq=None, last=False))
    if _is_none(lines):
        raise NotAnExport(form(file))
    unknown: UnknownEvent | None = None
    for event in lines.events():
        if isinstance(event, BadLine) and not held.events and event.column == SHOWN_WITHOUT and _all_bad(lines):
            raise NotAnExport(f"its events are those of a page of /audit, without what they were hashed with; {AGAIN}")
        if isinstance(event, BadLine) or not held.takes(event):
            return _report(held, diagnosis(event, lines, held, head))
        if head and event.seq == head.seq and (event.hash, event.record["at"]) != (head.hash, head.at):
            return _report(Held(user_id=event.record["user_id"]), rewritten(event, head))
        try:
            if not derives(event):
                why = "`changes` doesn't follow from `data`"
                return _report(held, told("changed", event.seq, event.line, why, column="changes"))
        except UnknownEvent as error:
            unknown = unknown or UnknownEvent(f"event {event.seq} (line {event.line}): {error}")
        held.add(event)
    if head and held.seq < head.seq:
        return _report(held, cut_off(held, head))
    if unknown:
        raise unknown
    if not held.events and not head:
        raise EmptyExport
    return _report(held, None)


_BEGINNING = 1024
"""Number of bytes from which the format of a file is guessed."""


def _all_bad(lines: Lines) -> bool:
    return next(lines.readable(), None) is None


def _is_none(lines: Lines) -> bool:
    return not any(lines.seqs) and any(True for _ in lines.events())


def _report(held: Held, mismatch: Mismatch | None) -> Report:
    return Report(
        user_id=held.user_id,
        events=held.events,
        first=held.start + 1 if held.events else None,
        last=held.seq if held.events else None,
        hash=held.hash.hex() if held.events else "",
        head=None,
        mismatch=mismatch,
    )


def read_head(text: bytes) -> Head:
    """Read a head from its JSON. Raise `BadHead`."""
    try:
        value = orjson.loads(text.removeprefix(MARK))
        seq, hash_, at = value["seq"], value["hash"], value["at"]
        none = type(seq) is int and (seq, hash_, at) == (0, "", None)
        if none or (is_number(seq) and is_hash(hash_) and is_moment(at)):
            return Head(seq=seq, hash=bytes.fromhex(hash_), at=at)
    except (orjson.JSONDecodeError, KeyError, TypeError):
        pass
    likely = by_beginning(text)
    raise BadHead(f"{BadHead.__doc__}{f': {likely}' if likely else ''}.")
