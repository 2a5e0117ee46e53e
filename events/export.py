"""An export of one user's log, checked without a database: do its events fit together, or which is the first not to?"""

import json
import os
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import dropwhile, islice, pairwise
from typing import Any, BinaryIO, Literal, TypeAlias

import orjson

from events import chain
from events.codec import DATA_VERSION, Json, UnknownEvent, canonical, meta, upcast
from events.task import Origin

Kind: TypeAlias = Literal["changed", "removed", "added", "reordered", "unreadable", "rewritten"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The first event, in the log's order, that isn't as it was logged; `line` is its line in the file, from 1.

    Of missing events `seq` is the first, and `line` where it should stand (`None`: after the end). `column` is given
    where it can be known: most are hashed together. Only where there is a head can a log be found `rewritten`.
    """

    kind: Kind
    seq: int | None
    line: int | None
    column: str | None = None
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The events that fit together, up to the difference or the end. `hash` is the last one's, in hex."""

    user_id: str | None
    events: int
    first: int | None
    last: int | None
    hash: str
    difference: Difference | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What `GET /api/{user_id}/audit/head` answered: the log's last event then (0, nothing, `None`: none yet)."""

    seq: int
    hash: bytes
    at: str | None


class BadHead(Exception):
    """It isn't what GET /api/{user_id}/audit/head answers."""


def check(file: BinaryIO, head: Head | None = None) -> Report:
    """Verify an export, one `events.records.full_record` per line as JSON, oldest or newest event first.

    The file is read twice and more, so it must be seekable; in constant memory, but for 8 bytes per line. That the
    events fit together shows that none was touched on its own. That nobody took the last ones away, or made all of them
    anew, only a head can show that was kept since. An export that begins right after the head is taken for what came
    next. Raises `UnknownEvent` where the chain is whole, and this release can't read one of its events.
    """
    lines = _survey(file)
    if isinstance(lines, _NoEvent):
        return _report(_Held(), _unreadable(lines, seq=None, last=False))
    held = _Held()
    unknown: UnknownEvent | None = None
    for event in lines.events():
        if not held.events:
            held.begin(*_anchor(event, lines, head))
        if isinstance(event, _NoEvent) or not held.takes(event):
            return _report(held, _diagnosis(event, lines, held, head))
        if head and event.seq == head.seq and (event.hash, event.record["at"]) != (head.hash, head.at):
            return _report(_Held(user_id=event.record["user_id"]), _rewritten(event, head))
        try:
            if not _derives(event):
                why = "`changes` doesn't follow from `data`"
                return _report(held, _told("changed", event.seq, event.line, why, column="changes"))
        except UnknownEvent as error:
            unknown = unknown or UnknownEvent(f"event {event.seq} (line {event.line}): {error}")
        held.add(event)
    if head and held.seq < head.seq:
        return _report(held, _cut_off(held, head))
    if unknown:
        raise unknown
    return _report(held, None)


def read_head(text: bytes) -> Head:
    """A head from its JSON. Raises `BadHead`."""
    try:
        value = orjson.loads(text)
        seq, hash_, at = value["seq"], value["hash"], value["at"]
        none = type(seq) is int and (seq, hash_, at) == (0, "", None)
        if none or (_number(seq) and _hash(hash_) and _moment(at)):
            return Head(seq=seq, hash=bytes.fromhex(hash_), at=at)
    except (orjson.JSONDecodeError, KeyError, TypeError):
        pass
    raise BadHead(str(BadHead.__doc__))


@dataclass(slots=True)
class _Held:
    """The events that were found to fit together. `start` is the number before the first."""

    user_id: str | None = None
    events: int = 0
    start: int = 0
    anchor: bytes = chain.GENESIS
    seq: int = 0
    hash: bytes = chain.GENESIS

    def begin(self, seq: int, anchor: bytes) -> None:
        self.start = self.seq = seq
        self.anchor = self.hash = anchor

    def takes(self, event: "_Event") -> bool:
        return (
            event.seq == self.seq + 1
            and event.follows(self.hash)
            and (not self.events or event.record["user_id"] == self.user_id)
        )

    def add(self, event: "_Event") -> None:
        self.user_id = event.record["user_id"]
        self.events += 1
        self.seq, self.hash = event.seq, event.hash


def _report(held: _Held, difference: Difference | None) -> Report:
    return Report(
        user_id=held.user_id,
        events=held.events,
        first=held.start + 1 if held.events else None,
        last=held.seq if held.events else None,
        hash=held.hash.hex() if held.events else "",
        difference=difference,
    )


@dataclass(frozen=True, slots=True)
class _Event:
    line: int
    seq: int
    hash: bytes
    digest: bytes
    record: Json

    def follows(self, hash_: bytes) -> bool:
        """Whether its hash says that it was logged right after the event with that one."""
        return chain.link(hash_, self.digest) == self.hash


@dataclass(frozen=True, slots=True)
class _NoEvent:
    """A line that can't be one of an export, whatever stands around it; `seq` is `None` where it has no good one."""

    line: int
    why: str
    kind: Kind = "unreadable"
    seq: int | None = None
    column: str | None = None


def _number(value: object) -> bool:
    return type(value) is int and 0 < value < 2**63


def _text(value: object) -> bool:
    return isinstance(value, str)


def _text_or_null(value: object) -> bool:
    return value is None or isinstance(value, str)


def _object(value: object) -> bool:
    return isinstance(value, dict)


_uuid = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch
_moment = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{6}Z").fullmatch
_hash = re.compile("[0-9a-f]{64}").fullmatch
_hex = re.compile("(?:[0-9a-f]{2})+").fullmatch

_HEADER = ("user_id", "id", "task_id", "version", "type", "at", "actor")
_Columns: TypeAlias = Mapping[str, Callable[[Any], object]]
_COLUMNS: _Columns = {
    "seq": _number,
    "id": _uuid,
    "type": _text,
    "task_id": _uuid,
    "version": _number,
    "at": _moment,
    "actor": _text,
    "request_id": _text_or_null,
    "client": _object,
    "changes": _object,
    "hash": _hash,
    "user_id": _text,
    "idempotency_key": _text_or_null,
    "fingerprint": lambda value: value is None or _hex(value),
    "salt": _hex,
    "data": _object,
}
_CLIENT: _Columns = {"address": _text_or_null, "agent": _text_or_null}


def _read(number: int, line: bytes) -> _Event | _NoEvent:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return _NoEvent(number, "isn't JSON")
    if not isinstance(record, dict):
        return _NoEvent(number, "isn't a JSON object")
    seq = record.get("seq")
    if fault := _fault(record, _COLUMNS) or _fault(record["client"], _CLIENT, "client.") or _twice(record, line):
        return _NoEvent(number, fault[1], "changed", seq if _number(seq) else None, fault[0])
    client, fingerprint = record["client"], record["fingerprint"]
    origin = Origin(
        request_id=record["request_id"],
        client_address=client["address"],
        client_agent=client["agent"],
        idempotency_key=record["idempotency_key"],
        fingerprint=fingerprint and bytes.fromhex(fingerprint),
    )
    header = {name: record[name] for name in _HEADER}
    digest = chain.digest(header, record["data"], meta(origin), bytes.fromhex(record["salt"]))
    return _Event(number, record["seq"], bytes.fromhex(record["hash"]), digest, record)


def _fault(record: Json, columns: _Columns, under: str = "") -> tuple[str, str] | None:
    """The first column that is missing, isn't known or can't have the value that it has, and what is wrong with it."""
    if record.keys() != columns.keys():
        for name in columns:
            if name not in record:
                return under + name, f"`{under}{name}` is missing"
        for name in record:
            if name not in columns:
                return under + name, f"{under + name!r} is no column that this release knows"
    for name, fits in columns.items():
        try:
            good = fits(record[name])
        except TypeError:  # a pattern asked about what is no text
            good = False
        if not good:
            return under + name, f"`{under}{name}` isn't written as Daybook writes it"
    return None


def _twice(record: Json, line: bytes) -> tuple[str | None, str] | None:
    """A name that stands twice in one object: the last counts here, and elsewhere the first may be what is shown."""
    try:
        if orjson.dumps(record) == line.strip():  # as exports are written; other spellings can be fine too
            return None
    except TypeError:
        return None, "it is nested too deep"
    names: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        names.extend(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)

    json.loads(line, object_pairs_hook=note)
    return (names[0] if names[0] in _COLUMNS else None, f"{names[0]!r} stands in it twice") if names else None


def _derives(event: _Event) -> bool:
    """Whether `changes` is what follows from `data`. Raises `UnknownEvent`."""
    record = event.record
    try:
        changes = upcast(record["type"], record["data"])["changes"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnknownEvent(f"the data of this {record['type']} are damaged: {error!r}") from error
    return canonical(changes) == canonical(record["changes"])  # as bytes: 1 isn't true


_LONGEST = 1 << 24
"""Bytes of a line, a hundred times what an event can take: what is longer isn't worth its memory."""


@dataclass(frozen=True, slots=True)
class _Lines:
    """`seqs` has a number for each line of the file, 0 where none can be read."""

    file: BinaryIO
    seqs: "array[int]"
    newest_first: bool

    def events(self) -> Iterator[_Event | _NoEvent]:
        """In the log's order. Blank lines are passed over."""
        if self.newest_first:
            numbered = zip(range(len(self.seqs), 0, -1), _backwards(self.file), strict=False)
        else:
            self.file.seek(0)
            numbered = zip(range(1, len(self.seqs) + 1), self.file, strict=False)
        return (_read(number, line) for number, line in numbered if line and not line.isspace())

    def readable(self) -> Iterator[_Event]:
        return (event for event in self.events() if isinstance(event, _Event))

    def after(self, event: _Event) -> Iterator[_Event]:
        return islice(dropwhile(lambda each: each.line != event.line, self.readable()), 1, None)

    def where(self, seq: int) -> list[int]:
        """The lines with this number."""
        return [line for line, each in enumerate(self.seqs, 1) if each == seq]


def _survey(file: BinaryIO) -> _Lines | _NoEvent:
    """The first pass, for what the others need to know beforehand."""
    seqs = array("q")
    file.seek(0)
    while line := file.readline(_LONGEST):
        seqs.append(_seq(line))
        if len(line) == _LONGEST and not line.endswith(b"\n"):
            return _NoEvent(len(seqs), "is longer than an event can be")
    return _Lines(file, seqs, _newest_first(seqs))


_SEQ_FIRST = re.compile(rb'\{"seq":([1-9][0-9]{0,17}),').match


def _seq(line: bytes) -> int:
    if found := _SEQ_FIRST(line):  # as exports are written, and five times as fast
        return int(found[1])
    try:
        seq = orjson.loads(line)["seq"]
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return 0
    return seq if _number(seq) else 0


def _newest_first(seqs: Iterable[int]) -> bool:
    """By most steps from line to line, of these by most to the very next number, then by the ends.

    So an event that is missing or out of place, wherever it is, doesn't turn an export round.
    """
    steps = near = way = 0
    for before, after in pairwise(filter(None, seqs)):
        steps += (after > before) - (after < before)
        near += (after == before + 1) - (after == before - 1)
        way += after - before
    return (steps, near, way) < (0, 0, 0)


_BLOCK = 1 << 16


def _backwards(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file, last first, without their ends."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - 1))
    end -= file.read(1) == b"\n"
    rest = b""
    while end:
        start = max(0, end - _BLOCK)
        file.seek(start)
        rest, *lines = (file.read(end - start) + rest).split(b"\n")
        yield from reversed(lines)
        end = start
    yield rest


def _anchor(event: _Event | _NoEvent, lines: _Lines, head: Head | None) -> tuple[int, bytes]:
    """The number and hash that the first event must follow on: the head's, where there is only what came after it."""
    if head is None or (isinstance(event, _Event) and event.follows(chain.GENESIS)):
        return 0, chain.GENESIS
    if (isinstance(event, _Event) and event.follows(head.hash)) or min(filter(None, lines.seqs), default=0) > head.seq:
        return head.seq, head.hash
    return 0, chain.GENESIS


def _diagnosis(event: _Event | _NoEvent, lines: _Lines, held: _Held, head: Head | None) -> Difference:
    """What happened where `held` doesn't take this event."""
    due = held.seq + 1
    if isinstance(event, _NoEvent):
        if event.seq in (None, due):
            return _faulty(event, lines, held)
        return _misplaced(event.seq, event.line, lines, held)
    successor = next((later for later in lines.after(event) if later.follows(held.hash)), None)
    if event.follows(held.hash):
        return _forged(event, successor, held)
    source = None if successor else _source(event, lines, held)
    if source and source.hash != event.hash:
        why = f"by its hash event {event.seq} (line {event.line}) follows directly on what is before"
        return _told("added", source.seq, source.line, why, upto=held.seq)
    if event.seq != due:
        return _misplaced(event.seq, event.line, lines, held)
    if source:
        return _told("added", due, event.line, f"it is event {source.seq} (line {source.line}) with another number")
    if successor:
        return _displaced(event, successor, lines, held)
    return _unfitting(event, lines, held, head)


def _faulty(line: _NoEvent, lines: _Lines, held: _Held) -> Difference:
    if line.kind == "changed":
        return _told("changed", held.seq + 1, line.line, line.why, column=line.column)
    return _unreadable(line, seq=held.seq + 1 if held.events else None, last=line.line == len(lines.seqs))


def _unreadable(line: _NoEvent, *, seq: int | None, last: bool) -> Difference:
    likely = ": the download broke off, or it was damaged" if last else ": it was damaged"
    return Difference(kind="unreadable", seq=seq, line=line.line, message=f"Line {line.line} {line.why}{likely}.")


def _forged(event: _Event, successor: _Event | None, held: _Held) -> Difference:
    """Of an event whose hash was made for this place."""
    due = held.seq + 1
    if successor:
        why = f"event {successor.seq} (line {successor.line}) {_follows(held)} too"
        return _told("added", event.seq, event.line, why)
    if event.seq != due:
        why = f"it is numbered {event.seq}, and by its hash it is event {due}"
        return _told("changed", due, event.line, why, column="seq")
    return _told("changed", due, event.line, _ANOTHERS, column="user_id")


_ANOTHERS = "it is of another user than those before"


def _displaced(event: _Event, successor: _Event, lines: _Lines, held: _Held) -> Difference:
    """Of an event that has the number that is due, where by its hash a later one should stand."""
    place = f"event {successor.seq} (line {successor.line})"
    if any(event.follows(later.hash) for later in lines.after(event)):
        why = f"by its hash it belongs further on, and {place} here; they were moved and numbered anew"
        return _told("reordered", event.seq, event.line, why)
    why = f"{place} is the one that {_follows(held)}"
    return _told("added", event.seq, event.line, why, upto=successor.seq - 1)


def _unfitting(event: _Event, lines: _Lines, held: _Held, head: Head | None) -> Difference:
    """Of an event that has the number that is due, and a hash that doesn't follow on anything here."""
    seq, line, record, data = event.seq, event.line, event.record, event.record["data"]
    true = chain.link(held.hash, event.digest)
    following = next(lines.after(event), None)
    if (following and following.follows(true)) or (head and (head.seq, head.hash) == (seq, true)):
        return _told("changed", seq, line, "its hash isn't the one that was built upon", column="hash")
    if held.events and record["user_id"] != held.user_id:
        return _told("changed", seq, line, _ANOTHERS, column="user_id")
    if data.get("v") == DATA_VERSION and canonical({"": data.get("changes")}) != canonical({"": record["changes"]}):
        return _told("changed", seq, line, "`data` fits neither the chain nor `changes`", column="data")
    why = "its content or its hash doesn't fit the chain"
    return _told("changed", seq, line, f"{why}; or events before it were removed, and the rest numbered anew")


def _source(event: _Event, lines: _Lines, held: _Held) -> _Event | None:
    """The event in whose place this one was logged, of those that hold."""
    hash_ = held.anchor
    for earlier in islice(lines.readable(), held.events):
        if event.follows(hash_):
            return earlier
        hash_ = earlier.hash
    return None


def _misplaced(seq: int, line: int, lines: _Lines, held: _Held) -> Difference:
    """Of an event that has another number than the one that is due."""
    due = held.seq + 1
    twins = [twin for twin in lines.where(seq) if twin != line]
    if twins and (seq < due or due in lines.seqs):
        return _told("added", seq, line, f"it stands on line {twins[0]} too")
    if due in lines.seqs:
        if seq - 1 not in lines.seqs and seq + 1 not in lines.seqs:
            return _told("added", seq, line, f"it stands where event {due} should, and there is no place for it")
        why = f"it stands where event {due} should, which is on line {lines.where(due)[0]}"
        return _told("reordered", seq, line, why)
    later = min((each for each in lines.seqs if each > due), default=None)
    if later is None:
        return _told("added", seq, line, "there is no place for it")
    found = f"after event {held.seq} comes" if held.seq else "the export begins with"
    why = f"{found} event {seq} (line {line}). Only a whole export can be verified, not one that was filtered"
    return _told("removed", due, line, why, upto=later - 1)


def _rewritten(event: _Event, head: Head) -> Difference:
    if event.hash == head.hash:
        message = f"The head was changed: it has the hash of event {event.seq} (line {event.line}), and another time."
        return Difference(kind="changed", seq=event.seq, line=event.line, column="at", message=message)
    why = "it hasn't the hash that the head kept, though it fits those before (or the head is of another log)"
    message = f"The log was rewritten, at event {event.seq} (line {event.line}) or before: {why}."
    return Difference(kind="rewritten", seq=event.seq, line=event.line, message=message)


def _cut_off(held: _Held, head: Head) -> Difference:
    ends = f"the export ends with event {held.seq}" if held.events else "the export is empty"
    return _told("removed", held.seq + 1, None, f"{ends}, and the head is event {head.seq}", upto=head.seq)


def _follows(held: _Held) -> str:
    return f"follows directly on event {held.seq}" if held.seq else "begins the log"


_SAID: Mapping[Kind, tuple[str, str]] = {
    "changed": ("was changed", "were changed"),
    "removed": ("is missing", "are missing"),
    "added": ("was added", "were added"),
    "reordered": ("is out of order", "are out of order"),
}


def _told(
    kind: Kind, seq: int, line: int | None, why: str, *, column: str | None = None, upto: int | None = None
) -> Difference:
    """A difference and its message; `upto` is the last event's number where it is about several."""
    several = upto is not None and upto > seq
    events = f"Events {seq} {'and' if upto == seq + 1 else 'to'} {upto}" if several else f"Event {seq}"
    place = "" if kind == "removed" else f" (from line {line})" if several else f" (line {line})"
    message = f"{events}{place} {_SAID[kind][several]}: {why}."
    return Difference(kind=kind, seq=seq, line=line, column=column, message=message)
