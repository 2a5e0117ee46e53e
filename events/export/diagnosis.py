"""Diagnosis of an export at the first event that doesn't fit, from the numbers and the hashes together."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

from events import hash_chain
from events.export.lines import BadLine, Kind, Line, Lines
from events.serialization import DATA_VERSION, canonical


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """The first event, in the log's order, that isn't as it was logged; `line` is its line in the file, from 1.

    If events are missing, `seq` is the first one's number, and `line` its place (`None`: after the end). `column` is
    given if it can be known: most columns are hashed together. Without a head, a log can't be found `rewritten`.
    """

    kind: Kind
    seq: int | None
    line: int | None
    column: str | None = None
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The answer of `GET /api/{user_id}/audit/head`: the log's last event at that time (0, empty, `None`: no event)."""

    seq: int
    hash: bytes
    at: str | None


@dataclass(slots=True)
class Held:
    """The events that fit together so far.

    `start` and `anchor` are the number and hash before the first event, `seq` and `hash` those of the last one.
    """

    user_id: str | None = None
    events: int = 0
    start: int = 0
    anchor: bytes = hash_chain.GENESIS
    seq: int = 0
    hash: bytes = hash_chain.GENESIS

    def begin(self, seq: int, anchor: bytes) -> None:
        self.start = self.seq = seq
        self.anchor = self.hash = anchor

    def takes(self, event: Line) -> bool:
        return (
            event.seq == self.seq + 1
            and event.follows(self.hash)
            and (not self.events or event.record["user_id"] == self.user_id)
        )

    def add(self, event: Line) -> None:
        self.user_id = event.record["user_id"]
        self.events += 1
        self.seq, self.hash = event.seq, event.hash


def diagnosis(event: Line | BadLine, lines: Lines, held: Held, head: Head | None) -> Mismatch:
    """Tell the mismatch at an event that `held` doesn't take."""
    due = held.seq + 1
    if isinstance(event, BadLine):
        if event.seq in (None, due):
            return _faulty(event, lines, held)
        return _misplaced(event.seq, event.line, lines, held)
    successor = next((later for later in lines.after(event) if later.follows(held.hash)), None)
    if event.follows(held.hash):
        return _forged(event, successor, held)
    source = None if successor else _source(event, lines, held)
    if source and source.hash != event.hash and _may_disown(source, event, held, head):
        why = f"by its hash event {event.seq} (line {event.line}) follows directly on what is before"
        return told("added", source.seq, source.line, why, upto=held.seq)
    if event.seq != due:
        return _misplaced(event.seq, event.line, lines, held)
    if source:
        return told("added", due, event.line, f"it is event {source.seq} (line {source.line}) with another number")
    if successor:
        return _displaced(event, successor, lines, held)
    return _unfitting(event, lines, held, head)


def _may_disown(source: Line, event: Line, held: Held, head: Head | None) -> bool:
    """Say if `source` and the held events after it may count as added: no head proves them, `event` is their user's."""
    proved = head is not None and source.seq <= head.seq <= held.seq
    return not proved and event.record["user_id"] == held.user_id


def _faulty(line: BadLine, lines: Lines, held: Held) -> Mismatch:
    if line.kind == "changed" and line.seq is None and held.seq + 1 in lines.seqs:
        message = f"Line {line.line} was added: event {held.seq + 1} is on line {lines.where(held.seq + 1)[0]}."
        return Mismatch(kind="added", seq=None, line=line.line, message=message)
    if line.kind == "changed":
        return told("changed", held.seq + 1, line.line, line.why, column=line.column)
    return unreadable(line, seq=held.seq + 1 if held.events else None, last=line.line == len(lines.seqs))


def unreadable(line: BadLine, *, seq: int | None, last: bool) -> Mismatch:
    likely = ": the download broke off, or it was damaged" if last else ": it was damaged"
    return Mismatch(kind="unreadable", seq=seq, line=line.line, message=f"Line {line.line} {line.why}{likely}.")


def _forged(event: Line, successor: Line | None, held: Held) -> Mismatch:
    """Tell the mismatch at an event with a hash that follows on the last held one."""
    due = held.seq + 1
    if successor:
        why = f"event {successor.seq} (line {successor.line}) {_follows(held)} too"
        return told("added", event.seq, event.line, why)
    if event.seq != due:
        why = f"it is numbered {event.seq}, and by its hash it is event {due}"
        return told("changed", due, event.line, why, column="seq")
    return told("changed", due, event.line, _ANOTHERS, column="user_id")


_ANOTHERS = "it is of another user than those before"


def _displaced(event: Line, successor: Line, lines: Lines, held: Held) -> Mismatch:
    """Tell the mismatch at an event with the expected number, in the place that `successor` has by its hash."""
    place = f"event {successor.seq} (line {successor.line})"
    if any(event.follows(later.hash) for later in lines.after(event)):
        why = f"by its hash it belongs further on, and {place} here; they were moved and numbered anew"
        return told("reordered", event.seq, event.line, why)
    why = f"{place} is the one that {_follows(held)}"
    return told("added", event.seq, event.line, why, upto=successor.seq - 1)


def _unfitting(event: Line, lines: Lines, held: Held, head: Head | None) -> Mismatch:
    """Tell the mismatch at an event with the expected number, and a hash that follows on no held event."""
    seq, line, record, data = event.seq, event.line, event.record, event.record["data"]
    true = hash_chain.link(held.hash, event.digest)
    following = next(lines.after(event), None)
    if (following and following.follows(true)) or (head and (head.seq, head.hash) == (seq, true)):
        return told("changed", seq, line, "its hash isn't the one that was built upon", column="hash")
    if held.events and record["user_id"] != held.user_id:
        return told("changed", seq, line, _ANOTHERS, column="user_id")
    if data.get("v") == DATA_VERSION and canonical({"": data.get("changes")}) != canonical({"": record["changes"]}):
        return told("changed", seq, line, "`data` fits neither the chain nor `changes`", column="data")
    why = "its content or its hash doesn't fit the chain"
    before = f"; or event {held.seq} was, and its hash made anew" if held.events else ""
    return told("changed", seq, line, f"{why}{before}; or events before it were removed, and the rest numbered anew")


def _source(event: Line, lines: Lines, held: Held) -> Line | None:
    """Return the held event that stands in this event's place by its hash, if there is one."""
    hash_ = held.anchor
    for earlier in islice(lines.readable(), held.events):
        if event.follows(hash_):
            return earlier
        hash_ = earlier.hash
    return None


def _misplaced(seq: int, line: int, lines: Lines, held: Held) -> Mismatch:
    """Tell the mismatch at an event without the expected number."""
    due = held.seq + 1
    if seq <= held.start:
        return told("added", seq, line, f"the export goes on from event {held.start}")
    twins = [twin for twin in lines.where(seq) if twin != line]
    if twins and (seq < due or due in lines.seqs):
        return told("added", seq, line, f"it stands on line {twins[0]} too")
    if due in lines.seqs:
        if seq - 1 not in lines.seqs and seq + 1 not in lines.seqs:
            return told("added", seq, line, f"it stands where event {due} should, and there is no place for it")
        why = f"it stands where event {due} should, which is on line {lines.where(due)[0]}"
        return told("reordered", seq, line, why)
    later = min((each for each in lines.seqs if each > due), default=None)
    if later is None:
        return told("added", seq, line, "there is no place for it")
    found = f"after event {held.seq} comes" if held.seq else "the export begins with"
    why = f"{found} event {seq} (line {line}). Only a whole export can be verified, not one that was filtered"
    return told("removed", due, line, why, upto=later - 1)


def rewritten(event: Line, head: Head) -> Mismatch:
    if event.hash == head.hash:
        message = f"The head was changed: it has the hash of event {event.seq} (line {event.line}), and another time."
        return Mismatch(kind="changed", seq=event.seq, line=event.line, column="at", message=message)
    why = "it hasn't the hash that the head kept, though it fits those before (or the head is of another log)"
    message = f"The log was rewritten, at event {event.seq} (line {event.line}) or before: {why}."
    return Mismatch(kind="rewritten", seq=event.seq, line=event.line, message=message)


def parted(head: Head) -> Mismatch:
    """Tell the mismatch between two heads that name one event, but differ."""
    message = f"The log was rewritten, at event {head.seq} or before, or a head was changed: the two heads differ."
    return Mismatch(kind="rewritten", seq=head.seq, line=None, message=message)


def cut_off(held: Held, head: Head) -> Mismatch:
    ends = f"the export ends with event {held.seq}" if held.events else "the export is empty"
    return told("removed", held.seq + 1, None, f"{ends}, and the head is event {head.seq}", upto=head.seq)


def _follows(held: Held) -> str:
    return f"follows directly on event {held.seq}" if held.seq else "begins the log"


_SAID: Mapping[Kind, tuple[str, str]] = {
    "changed": ("was changed", "were changed"),
    "removed": ("is missing", "are missing"),
    "added": ("was added", "were added"),
    "reordered": ("is out of order", "are out of order"),
}


def told(
    kind: Kind, seq: int, line: int | None, why: str, *, column: str | None = None, upto: int | None = None
) -> Mismatch:
    """Make a mismatch and its message; `upto` is the last event's number if it is about several."""
    several = upto is not None and upto > seq
    events = f"Events {seq} {'and' if upto == seq + 1 else 'to'} {upto}" if several else f"Event {seq}"
    place = "" if kind == "removed" else f" (from line {line})" if several else f" (line {line})"
    message = f"{events}{place} {_SAID[kind][several]}: {why}."
    return Mismatch(kind=kind, seq=seq, line=line, column=column, message=message)
