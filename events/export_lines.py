"""The lines of an export (`events.records.full_record` as JSON), read one by one, in whichever order they stand."""

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

from events import hash_chain
from events.export_forms import MARK
from events.records import changes
from events.serialization import Json, UnknownEvent, canonical, meta
from events.task import Metadata

Kind: TypeAlias = Literal["changed", "removed", "added", "reordered", "unreadable", "rewritten"]


@dataclass(frozen=True, slots=True)
class Line:
    """An event as it stands on line number `line`, with the digest that its content has."""

    line: int
    seq: int
    hash: bytes
    digest: bytes
    record: Json

    def follows(self, hash_: bytes) -> bool:
        """Whether its hash says that it was logged right after the event with that one."""
        return hash_chain.link(hash_, self.digest) == self.hash


@dataclass(frozen=True, slots=True)
class BadLine:
    """One that can't be of an export, whatever stands around it; `seq` is `None` where it has no good one."""

    line: int
    why: str
    kind: Kind = "unreadable"
    seq: int | None = None
    column: str | None = None


def is_number(value: object) -> bool:
    return type(value) is int and 0 < value < 2**63


def _text(value: object) -> bool:
    return isinstance(value, str)


def _text_or_null(value: object) -> bool:
    return value is None or isinstance(value, str)


def _object(value: object) -> bool:
    return isinstance(value, dict)


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
SHOWN_WITHOUT = "user_id"
"""The first column of an export that an event on a page of /audit hasn't."""
_CLIENT: _Columns = {"address": _text_or_null, "agent": _text_or_null}


def _read(number: int, line: bytes) -> Line | BadLine:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return BadLine(number, "isn't JSON")
    if not isinstance(record, dict):
        return BadLine(number, "isn't a JSON object")
    seq = record.get("seq")
    if fault := _fault(record, _COLUMNS) or _fault(record["client"], _CLIENT, "client.") or _twice(record, line):
        return BadLine(number, fault[1], "changed", seq if is_number(seq) else None, fault[0])
    client, fingerprint = record["client"], record["fingerprint"]
    metadata = Metadata(
        request_id=record["request_id"],
        client_address=client["address"],
        client_agent=client["agent"],
        idempotency_key=record["idempotency_key"],
        fingerprint=fingerprint and bytes.fromhex(fingerprint),
    )
    header = {name: record[name] for name in _HEADER}
    digest = hash_chain.digest(header, record["data"], meta(metadata), bytes.fromhex(record["salt"]))
    return Line(number, record["seq"], bytes.fromhex(record["hash"]), digest, record)


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


def derives(event: Line) -> bool:
    """Whether `changes` is what follows from `data`. Raises `UnknownEvent`."""
    record = event.record
    try:
        shown = changes(record["type"], record["data"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnknownEvent(f"the data of this {record['type']} are damaged: {error!r}") from error
    return canonical(shown) == canonical(record["changes"])  # as bytes: 1 isn't true


_LONGEST = 1 << 24
"""Bytes of a line, a hundred times what an event can take: what is longer isn't worth its memory."""


@dataclass(frozen=True, slots=True)
class Lines:
    """The lines from byte `start` on. `seqs` has a number for each of them, 0 where none can be read."""

    file: BinaryIO
    start: int
    seqs: "array[int]"
    newest_first: bool

    def events(self) -> Iterator[Line | BadLine]:
        """In the log's order. Blank lines are passed over."""
        if self.newest_first:
            numbered = zip(range(len(self.seqs), 0, -1), _backwards(self.file, self.start), strict=False)
        else:
            self.file.seek(self.start)
            numbered = zip(range(1, len(self.seqs) + 1), self.file, strict=False)
        return (_read(number, line) for number, line in numbered if line and not line.isspace())

    def readable(self) -> Iterator[Line]:
        return (event for event in self.events() if isinstance(event, Line))

    def after(self, event: Line) -> Iterator[Line]:
        return islice(dropwhile(lambda each: each.line != event.line, self.readable()), 1, None)

    def where(self, seq: int) -> list[int]:
        """The lines with this number."""
        return [line for line, each in enumerate(self.seqs, 1) if each == seq]


def survey(file: BinaryIO) -> Lines | BadLine:
    """The first pass, for what the others need to know beforehand."""
    seqs = array("q")
    file.seek(0)
    start = len(MARK) if file.read(len(MARK)) == MARK else 0
    file.seek(start)
    while line := file.readline(_LONGEST):
        seqs.append(_seq(line))
        if len(line) == _LONGEST and not line.endswith(b"\n"):
            return BadLine(len(seqs), "is longer than an event can be")
    return Lines(file, start, seqs, _newest_first(seqs))


_SEQ_FIRST = re.compile(rb'\{"seq":([1-9][0-9]{0,17}),').match


def _seq(line: bytes) -> int:
    if found := _SEQ_FIRST(line):  # as exports are written, and five times as fast
        return int(found[1])
    if line.isspace():
        return 0
    try:
        seq = orjson.loads(line)["seq"]
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return 0
    return seq if is_number(seq) else 0


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


def _backwards(file: BinaryIO, start: int) -> Iterator[bytes]:
    """The lines of a file from byte `start` on, last first, without their ends."""
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
