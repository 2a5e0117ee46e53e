"""Check of an export of one user's log, without a database: its events fit together, or the first misfit is named."""

from dataclasses import dataclass, replace
from typing import BinaryIO

import orjson

from events.export.formats import AGAIN, MARK, by_beginning, form
from events.export.lines import SHOWN_WITHOUT, Line, Lines, is_hash, is_moment, is_number, survey, underived
from events.hash_chain import Head
from events.integrity.chain_verifier import ChainVerifier
from events.integrity.mismatch import Kind, Mismatch
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
    """The export can't be called clean, and no mismatch was found either. The message is the class's docstring."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.__doc__)


class NotAnExport(NothingToSay):
    """None of its lines is an event of an export"""

    def __init__(self, likely: str) -> None:
        super().__init__(f"{self.__doc__}: {likely}.")


class EmptyExport(NothingToSay):
    """It has no events: there are none, or its download failed. A head that was kept (--head) can tell which."""


class CutOff(NothingToSay):
    """Its last line is cut off: the download broke off, or isn't complete yet. Export it again."""


class EarlierHead(NothingToSay):
    """The head is older than the one that the export goes on from: of an event that can't be in it."""


class BadHead(Exception):
    """It isn't an answer of GET /api/{user_id}/audit/head"""


def verify_export(file: BinaryIO, head: Head | None = None, *, after: Head | None = None) -> Report:
    """Verify an export, one `events.records.full_record` per line as JSON, oldest or newest event first.

    The file is read at least twice, so it must be seekable. The check takes constant memory, but for 8 bytes per line.
    If the events fit together, no event was changed on its own. Only a head that was kept from before can show that the
    last events weren't removed, and that the log wasn't rewritten as a whole. `after` is the head that the export goes
    on from, if it isn't the whole log. Raise `NothingToSay`, or `UnknownEvent` if the chain is whole and this release
    can't read an event.
    """
    if head and after and head.seq < after.seq:
        raise EarlierHead
    if head and after and head.seq == after.seq and head != after:
        parted = _rewritten(head.seq, "the two heads differ (or one was changed)")
        return _report(ChainVerifier(start=after), head, parted)
    lines = survey(file)
    if isinstance(lines, Mismatch):
        file.seek(0)
        if lines.line == 1 and (likely := by_beginning(file.read(_BEGINNING))):
            raise NotAnExport(likely)
        return _report(ChainVerifier(start=after), head, lines)
    verifier = ChainVerifier(start=after, numbers=lines.seqs)
    if _is_none(lines):
        raise NotAnExport(form(file))
    mismatch, unknown = _first(lines, verifier, head)
    if not mismatch and head:
        mismatch = verifier.end(head)
    if not mismatch and unknown:
        raise unknown
    if not mismatch and not verifier.events and not head:
        raise EmptyExport
    return _report(verifier, head, mismatch)


_BEGINNING = 1024
"""Number of bytes from which the format of a file is guessed."""


def _is_none(lines: Lines) -> bool:
    return not any(lines.seqs) and any(True for _ in lines.events())


def _report(verifier: ChainVerifier, head: Head | None, mismatch: Mismatch | None) -> Report:
    events = 0 if mismatch and mismatch.kind == "rewritten" else verifier.events  # nobody knows where it began
    return Report(
        user_id=verifier.user_id or None,
        events=events,
        first=verifier.seq - events + 1 if events else None,
        last=verifier.seq if events else None,
        hash=verifier.hash.hex() if events else "",
        head=head.seq if head else None,
        mismatch=mismatch,
    )


def _first(lines: Lines, verifier: ChainVerifier, head: Head | None) -> tuple[Mismatch | None, UnknownEvent | None]:
    """Return the first mismatch in the log's order, and the error of the first event that this release can't read."""
    unknown: UnknownEvent | None = None
    for event in lines.events():
        if isinstance(event, Mismatch):
            return _completed(event, lines, verifier), unknown
        try:
            found = _misfit(event, verifier, head)
        except UnknownEvent as error:
            found, unknown = None, unknown or UnknownEvent(f"event {event.seq} (line {event.line}): {error}")
        if found:
            return replace(found, user_id=verifier.user_id, line=event.line), unknown
        verifier.advance(event.seq, event.hash)
    return None, unknown


def _completed(bad: Mismatch, lines: Lines, verifier: ChainVerifier) -> Mismatch:
    """Complete the mismatch of a line that no export has. If its event is out of place too, tell that instead."""
    if bad.field == SHOWN_WITHOUT and not verifier.events and not lines.has_an_event():
        raise NotAnExport(f"its events are those of a page of /audit, without what they were hashed with; {AGAIN}")
    bad, due = replace(bad, user_id=verifier.user_id), verifier.seq + 1
    if bad.kind == "unreadable":
        if lines.cut_off and bad.line == len(lines.seqs):
            raise CutOff
        return bad
    if bad.seq is None and due in lines.seqs:
        return replace(bad, kind="added", message=f"the line was added: event {due} is on another one")
    if bad.seq not in (None, due) and (misplaced := verifier.check(bad.seq, None, b"")):
        return replace(misplaced, line=bad.line)
    return replace(bad, seq=due, message=f"event {due} was changed: {bad.message}")


def _misfit(event: Line, verifier: ChainVerifier, head: Head | None) -> Mismatch | None:
    """Check an event. Raise `UnknownEvent` if nothing is wrong with it, but this release can't read it."""
    seq, record = event.seq, event.record
    if not verifier.events:
        verifier.user_id = record["user_id"]
    if record["user_id"] != verifier.user_id:
        return _told("changed", seq, f"event {seq} was changed: it is of another user than those before", "user_id")
    if found := verifier.check(seq, event.digest, event.hash):
        return found
    if head and seq == head.seq and event.hash != head.hash:
        return _rewritten(seq, "the head that was kept has another hash (or is of another log)")
    if head and seq == head.seq and record["at"] != head.at:
        return _told("changed", seq, f"the head was changed: it has event {seq}'s hash, and another time", "at")
    if name := underived(event):
        return _told("changed", seq, f"event {seq} was changed: `{name}` doesn't follow from `data`", name)
    return None


def _rewritten(seq: int, why: str) -> Mismatch:
    return _told("rewritten", seq, f"the log was rewritten, at event {seq} or before: {why}")


def _told(kind: Kind, seq: int, message: str, field: str | None = None) -> Mismatch:
    return Mismatch(kind=kind, user_id="", seq=seq, field=field, message=message)


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
