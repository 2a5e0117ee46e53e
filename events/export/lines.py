"""Reader of an export's lines (`events.records.full_record` as JSON), one by one, oldest or newest event first."""

import json
import os
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import NoneType
from typing import Any, BinaryIO, TypeAlias

import orjson

from events import hash_chain
from events.export.formats import MARK
from events.integrity.mismatch import Kind, Mismatch
from events.records import changes, reason
from events.serialization import Json, UnknownEvent, canonical, meta
from events.task import ERASURE_TYPES, Metadata


@dataclass(frozen=True, slots=True)
class Line:
    """An event as it stands on line number `line`, with the digest of its content."""

    line: int
    seq: int
    hash: bytes
    digest: bytes
    record: Json


def is_number(value: object) -> bool:
    return type(value) is int and 0 < value < 2**63


def _is(*types: type) -> Callable[[object], bool]:
    """Make a check that a value read from JSON has one of these types."""
    return lambda value: type(value) in types


def _true(value: object) -> bool:
    return value is True


_text, _text_or_null, _object, _null = _is(str), _is(str, NoneType), _is(dict), _is(NoneType)
_uuid = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch
is_moment = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{6}Z").fullmatch
is_hash = re.compile("[0-9a-f]{64}").fullmatch
_hex = re.compile("(?:[0-9a-f]{2})+").fullmatch

_HEADER = ("user_id", "id", "task_id", "version", "type", "at", "actor")
_Columns: TypeAlias = Mapping[str, Callable[[Any], object]]
_COLUMNS: _Columns = {
    "seq": is_number,
    "id": _uuid,
    "type": _text,
    "task_id": _uuid,
    "version": is_number,
    "at": is_moment,
    "actor": _text,
    "request_id": _text_or_null,
    "client": _object,
    "changes": _object,
    "hash": is_hash,
    "user_id": _text,
    "idempotency_key": _text_or_null,
    "fingerprint": lambda value: value is None or _hex(value),
    "salt": _hex,
    "data": _object,
}
_ERASURE: _Columns = {**_COLUMNS, "reason": _text_or_null}
"""Columns of an event that records an erasure."""
_ERASED: _Columns = {
    **_COLUMNS,
    **dict.fromkeys(("request_id", "idempotency_key", "fingerprint", "salt", "data"), _null),
    "client": {"address": None, "agent": None}.__eq__,
    "changes": {}.__eq__,
    "erased": _true,
    "personal": is_hash,
}
"""Columns of an event whose content was erased."""
SHOWN_WITHOUT = "user_id"
"""First column of an export that an event on a page of /audit lacks."""
_CLIENT: _Columns = {"address": _text_or_null, "agent": _text_or_null}


def _read(number: int, line: bytes) -> Line | Mismatch:
    """Read a line. Return a mismatch if no export has such a line; its `seq` is `None` if the line has no valid one."""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return _bad(number, "the line isn't JSON: it was damaged, or the download broke off")
    if not isinstance(record, dict):
        return _bad(number, "the line isn't a JSON object")
    seq = record.get("seq")
    columns = _ERASURE if record.get("type") in ERASURE_TYPES else _ERASED if "erased" in record else _COLUMNS
    found = _fault(record, columns) or _fault(record["client"], _CLIENT, "client.")
    if fault := found or _twice(record, line, columns):
        return _bad(number, fault[1], kind="changed", seq=seq if is_number(seq) else None, field=fault[0])
    header = {name: record[name] for name in _HEADER}
    digest = hash_chain.digest_of(header, _personal(record))
    return Line(number, record["seq"], bytes.fromhex(record["hash"]), digest, record)


def _personal(record: Json) -> bytes:
    """Return the inner digest of the record's event."""
    if "erased" in record:
        return bytes.fromhex(record["personal"])
    client, fingerprint = record["client"], record["fingerprint"]
    metadata = Metadata(
        request_id=record["request_id"],
        client_address=client["address"],
        client_agent=client["agent"],
        idempotency_key=record["idempotency_key"],
        fingerprint=fingerprint and bytes.fromhex(fingerprint),
    )
    return hash_chain.inner_digest(record["data"], meta(metadata), bytes.fromhex(record["salt"]))


def _bad(
    line: int, message: str, *, kind: Kind = "unreadable", seq: int | None = None, field: str | None = None
) -> Mismatch:
    return Mismatch(kind=kind, user_id="", seq=seq, line=line, field=field, message=message)


def _fault(record: Json, columns: _Columns, under: str = "") -> tuple[str, str] | None:
    """Return the first column that is missing, unknown or has an invalid value, and its fault; `None` if none is."""
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
        except TypeError:  # a pattern was matched against a value that isn't text
            good = False
        if not good:
            return under + name, f"`{under}{name}` isn't written as Daybook writes it"
    return None


def _twice(record: Json, line: bytes, columns: _Columns) -> tuple[str | None, str] | None:
    """Return a name that an object has twice, and the fault: this parser takes the last one, others may show the first.

    The name is `None` if it is no column. A line that is nested too deep is a fault too.
    """
    try:
        if orjson.dumps(record) == line.strip():  # as exports are written; other spellings can be valid too
            return None
    except TypeError:
        return None, "it is nested too deep"
    names: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        names.extend(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)

    json.loads(line, object_pairs_hook=note)
    return (names[0] if names[0] in columns else None, f"{names[0]!r} stands in it twice") if names else None


def underived(event: Line) -> str | None:
    """Return the column that should follow from `data`, and doesn't; `None` if all do. Raise `UnknownEvent`."""
    record = event.record
    type_, data = record["type"], record["data"]
    try:
        shown = {"changes": changes(type_, data), **reason(type_, data)}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnknownEvent(f"the data of this {record['type']} are damaged: {error!r}") from error
    for name, value in shown.items():
        if canonical({name: value}) != canonical({name: record[name]}):  # bytes, since 1 == True
            return name
    return None


_LONGEST = 1 << 24
"""Bytes at which a line is refused as too long for memory: a hundred times the size of the largest event."""


@dataclass(frozen=True, slots=True)
class Lines:
    """The file's lines from byte `start` on. `seqs` has the event number of each line, 0 if none can be read.

    `cut_off` says that the last line has no end and isn't JSON.
    """

    file: BinaryIO
    start: int
    seqs: "array[int]"
    newest_first: bool
    cut_off: bool

    def events(self) -> Iterator[Line | Mismatch]:
        """Read the lines in the log's order, without blank ones."""
        if self.newest_first:
            numbered = zip(range(len(self.seqs), 0, -1), _backwards(self.file, self.start), strict=False)
        else:
            self.file.seek(self.start)
            numbered = zip(range(1, len(self.seqs) + 1), self.file, strict=False)
        return (_read(number, line) for number, line in numbered if line and not line.isspace())

    def has_an_event(self) -> bool:
        return any(isinstance(each, Line) for each in self.events())


def survey(file: BinaryIO) -> Lines | Mismatch:
    """Make the first pass, which finds the event numbers and the order. Return a line that is too long instead."""
    seqs = array("q")
    file.seek(0)
    start = len(MARK) if file.read(len(MARK)) == MARK else 0
    file.seek(start)
    last = b""
    while line := file.readline(_LONGEST):
        seqs.append(_seq(line))
        if len(line) == _LONGEST and not line.endswith(b"\n"):
            return _bad(len(seqs), "the line is longer than an event can be")
        last = line
    cut_off = not (last.endswith(b"\n") or _is_json(last))
    return Lines(file, start, seqs, _newest_first(seqs), cut_off)


def _is_json(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return not line.strip()
    return True


_SEQ_FIRST = re.compile(rb'\{"seq":([1-9][0-9]{0,17}),').match


def _seq(line: bytes) -> int:
    if found := _SEQ_FIRST(line):  # as exports are written, and five times as fast as parsing
        return int(found[1])
    if line.isspace():
        return 0
    try:
        seq = orjson.loads(line)["seq"]
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return 0
    return seq if is_number(seq) else 0


def _newest_first(seqs: Iterable[int]) -> bool:
    """Say if most steps from line to line go down; on a tie, most steps to an adjacent number, then the two ends.

    So no single event that is missing or out of place makes an export look reversed.
    """
    steps = near = way = 0
    for before, after in pairwise(filter(None, seqs)):
        steps += (after > before) - (after < before)
        near += (after == before + 1) - (after == before - 1)
        way += after - before
    return (steps, near, way) < (0, 0, 0)


_BLOCK = 1 << 16


def _backwards(file: BinaryIO, start: int) -> Iterator[bytes]:
    """Read a file's lines from byte `start` on, last first, without their line ends."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(start, end - 1))
    end -= file.read(1) == b"\n"
    rest = b""
    while end > start:
        block = max(start, end - _BLOCK)
        file.seek(block)
        rest, *lines = (file.read(end - block) + rest).split(b"\n")
        yield from reversed(lines)
        end = block
    yield rest
