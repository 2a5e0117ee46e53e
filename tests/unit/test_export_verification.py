"""Whoever touches an export is found out, and the first event that isn't as it was logged is named."""

import gzip
import json
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import datetime
from io import BytesIO
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from events import hash_chain
from events.export.verification import (
    BadHead,
    CutOff,
    EarlierHead,
    EmptyExport,
    NotAnExport,
    Report,
    read_head,
    verify_export,
)
from events.hash_chain import Head
from events.integrity.mismatch import Mismatch
from events.records import full_record
from events.serialization import UnknownEvent, header, meta
from events.task import Event, Metadata, TaskCreated, TaskDeleted, TaskEvent, TaskRestored, TaskToggled, TaskUpdated
from tests import independent
from tests.spec import DAWN, event
from tests.strategies import events
from tests.unit.test_serialization_and_hash_chain import as_row

Record = dict[str, Any]
Path = tuple[str, ...]
NOTHING: Mapping[int, Record] = MappingProxyType({})

FACTS: Sequence[TaskEvent] = (
    TaskCreated("Buy milk", None, False),
    TaskUpdated({"title": "Buy milk", "description": None}, {"title": "Buy bülk", "description": "\u2028 two"}),
    TaskToggled(True),
    TaskDeleted("Buy bülk", "\u2028 two", True),
    TaskRestored(2, DAWN, {}, {"title": "Buy bülk", "description": None, "completed": False}),
    TaskToggled(True),
    TaskUpdated({"completed": True}, {"completed": False}),
    TaskRestored(3, DAWN, {"title": "Buy bülk"}, {"title": "Buy milk"}),
    TaskToggled(True),
    TaskToggled(False),
)


def logged(facts: Sequence[TaskEvent] = FACTS) -> list[Event]:
    return [
        replace(
            event(payload, number),
            metadata=Metadata(
                request_id=f"request-{number}",
                client_address="192.0.2.1",
                client_agent="curl/8",
                idempotency_key=f"key-{number}",
                fingerprint=bytes([170 + number]) * 32,
            ),
            salt=bytes([200 + number]) * 16,
        )
        for number, payload in enumerate(facts, 1)
    ]


def records(
    log: Sequence[Event], stored: Mapping[int, Record] = NOTHING, *, start: Record | None = None
) -> list[Record]:
    """An export of the log, oldest first. `stored` has the data of events that aren't stored as they would be today."""
    previous, before = (bytes.fromhex(start["hash"]), start["seq"]) if start else (hash_chain.GENESIS, 0)
    result = []
    for seq, each in enumerate(log, before + 1):
        row = as_row(each)
        if seq in stored:
            row["data"] = json.dumps(stored[seq])
        digest = hash_chain.digest(header(each), json.loads(row["data"]), meta(each.metadata), each.salt)
        previous = hash_chain.link(previous, digest)
        result.append(full_record({**row, "seq": seq, "hash": previous}))
    return result


def numbered(export: Sequence[Record]) -> list[Record]:
    """The same lines with numbers that look right."""
    return [{**record, "seq": seq} for seq, record in enumerate(export, 1)]


def rehashed(export: Sequence[Record]) -> list[Record]:
    """The same events with the hashes that an outsider computes."""

    def row(record: Record) -> Record:
        return {
            **record,
            "at": datetime.fromisoformat(record["at"]),
            "client_address": record["client"]["address"],
            "client_agent": record["client"]["agent"],
            "fingerprint": record["fingerprint"] and bytes.fromhex(record["fingerprint"]),
            "salt": bytes.fromhex(record["salt"]),
            "data": json.dumps(record["data"]),
        }

    hashes = independent.chain(map(row, export))
    return [{**record, "hash": hash_.hex()} for record, hash_ in zip(export, hashes, strict=True)]


def lines(export: Sequence[Record]) -> bytes:
    return b"".join(json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n" for record in export)


def checked(export: Sequence[Record] | bytes, head: Head | None = None, *, after: Head | None = None) -> Report:
    return verify_export(BytesIO(export if isinstance(export, bytes) else lines(export)), head, after=after)


def found(export: Sequence[Record] | bytes, head: Head | None = None, *, after: Head | None = None) -> Mismatch:
    mismatch = checked(export, head, after=after).mismatch
    assert mismatch
    return mismatch


def noticed(export: Sequence[Record] | bytes) -> bool:
    """Whether anything is said of it. Of a single line it may be that it is none, and of the last that it is cut off."""
    try:
        return checked(export).mismatch is not None
    except (NotAnExport, CutOff):
        return True


def named(
    export: Sequence[Record] | bytes, head: Head | None = None, *, after: Head | None = None
) -> tuple[str | None, int | None, int | None]:
    mismatch = found(export, head, after=after)
    return mismatch.kind, mismatch.seq, mismatch.line


def head_of(record: Record) -> Head:
    return Head(seq=record["seq"], hash=bytes.fromhex(record["hash"]), at=record["at"])


def leaves(value: Any, path: Path = ()) -> Iterator[Path]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, (*path, name))
    else:
        yield path


def leaf(record: Record, path: Path) -> Any:
    return record if not path else leaf(record[path[0]], path[1:])


def put(record: Record, path: Path, value: Any) -> Record:
    """A copy of the record with this value there."""
    record = deepcopy(record)
    leaf(record, path[:-1])[path[-1]] = value
    return record


LOG = records(logged())
FIFTH = LOG[4]
OTHER = records([replace(each, salt=bytes(16)) for each in logged()])
"""The same log with other salts: each of its events is one that could be, and none is of LOG."""


@pytest.mark.parametrize("export", [LOG, LOG[::-1], LOG[:1], LOG[:2], LOG[1::-1]])
def test_an_export_that_nobody_touched_is_clean_in_either_order(export: list[Record]) -> None:
    last = max(export, key=lambda record: record["seq"])
    assert checked(export) == Report(
        user_id="ann", events=len(export), first=1, last=last["seq"], hash=last["hash"], head=None, mismatch=None
    )


EMPTY = Report(user_id=None, events=0, first=None, last=None, hash="", head=0, mismatch=None)
MARK = b"\xef\xbb\xbf"


@pytest.mark.parametrize("nothing", [b"", b"\n", b" \r\n\r\n", MARK, MARK + b"\n"])
def test_of_an_export_of_nothing_only_a_head_can_say_that_it_is_right(nothing: bytes) -> None:
    kept, none = head_of(LOG[3]), Head(seq=0, hash=b"", at=None)
    for after in (None, kept):
        with pytest.raises(EmptyExport, match="there are none, or its download failed"):
            checked(nothing, after=after)
    assert checked(nothing, none) == EMPTY
    assert checked(nothing, kept, after=kept) == replace(EMPTY, head=4)
    assert named(nothing, kept) == ("removed", 1, None)
    assert named(nothing, head_of(LOG[9]), after=kept) == ("removed", 5, None)


def test_two_heads_that_cannot_both_be_right_are_no_proof() -> None:
    kept = head_of(LOG[3])
    for other in (kept._replace(hash=bytes(32)), kept._replace(at=LOG[4]["at"])):
        for export in (b"", lines(LOG[4:])):
            assert named(export, other, after=kept) == ("rewritten", 4, None)
    assert checked(LOG[4:], kept, after=kept).mismatch is None
    with pytest.raises(EarlierHead):
        checked(LOG[4:], head_of(LOG[2]), after=kept)


def test_a_byte_order_mark_is_no_difference() -> None:
    for export in (LOG, LOG[::-1], LOG[:1]):
        marked = MARK + lines(export)
        assert checked(marked) == checked(export)
        assert checked(marked[:-1]) == checked(export)
        assert checked(marked.replace(b"\n", b"  \r\n")) == checked(export)
    assert named(MARK + lines([*LOG[:4], *LOG[5:]][::-1])) == ("removed", 5, 5)
    assert named(MARK + lines(LOG) + MARK + lines(LOG)) == ("unreadable", None, 11)
    assert named(lines(LOG) * 2)[0] == "added"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lines(LOG).decode().encode("utf-16"), "it is UTF-16, as PowerShell's > writes"),
        (lines(LOG).decode().encode("utf-16-le"), "it is UTF-16"),
        (lines(LOG).decode().encode("utf-16-be"), "it is UTF-16"),
        (gzip.compress(lines(LOG)), "it is compressed; unpack it first"),
        (gzip.compress(lines(LOG))[:-40], "it is compressed; unpack it first"),
        (b'"seq","id","type"\r\n"1","x","TaskCreated"\r\n', "it is CSV"),
        (MARK + b"seq,id\r\n", "it is CSV"),
        (json.dumps(LOG).encode(), "it is JSON, such as a page of /audit; export with ?format=ndjson"),
        (json.dumps(LOG, indent=2).encode(), "it is JSON"),
        (json.dumps(LOG[0], indent=2).encode(), "it is JSON"),
        (b"[" + b" " * 2**24 + b"]", "it is JSON"),
        (b'{"tasks": []}', "it is JSON"),
        (b"<!doctype html><html>", "it is a web page"),
        (b"\n<html>\n", "it is a web page"),
        (b'{"detail":"The token has expired; get a new one."}', "the service answered 'The token has expired; get a"),
        (json.dumps({"detail": "No."}, indent=2).encode(), "the service answered 'No.' instead"),
        (b"curl: (6) Could not resolve host", "an export is NDJSON, in UTF-8, as it came"),
    ],
)
def test_what_is_no_export_is_called_what_it_is(content: bytes, says: str) -> None:
    with pytest.raises(NotAnExport, match=re.escape(says)):
        checked(content)


def test_events_as_they_are_shown_are_no_export_but_one_of_them_in_an_export_was_changed() -> None:
    shown = [{name: value for name, value in each.items() if name not in EXPORTED_ONLY} for each in LOG]
    for page in (shown, shown[::-1], shown[:1]):
        with pytest.raises(NotAnExport, match="its events are those of a page of /audit"):
            checked(page)
    assert named([shown[0], *LOG[1:]]) == ("changed", 1, 1)
    assert named([*LOG[:4], shown[4], *LOG[5:]]) == ("changed", 5, 5)


EXPORTED_ONLY = ("user_id", "idempotency_key", "fingerprint", "salt", "data")


def test_how_the_lines_are_written_is_no_difference() -> None:
    clean = checked(LOG)
    assert checked(lines(LOG)[:-1]) == clean
    assert checked(lines(LOG[::-1])[:-1]) == clean
    assert checked(lines(LOG).replace(b"\n", b"\r\n\r\n")) == clean
    assert checked(lines(LOG[::-1]).replace(b"\n", b"\r\n\r\n")) == clean
    spaced = [dict(reversed(record.items())) for record in LOG]
    assert checked("\n".join(json.dumps(record, sort_keys=True) for record in LOG).encode()) == clean
    assert checked("\n".join(map(json.dumps, spaced)).encode()) == clean


def test_an_export_is_as_long_as_it_likes_in_either_order() -> None:
    log = logged([TaskCreated("x", "é" * 4_990 + str(number), False) for number in range(50)])
    for export in (records(log), records(log)[::-1]):
        assert len(lines(export)) > 1_000_000
        assert (checked(export).events, checked(export).mismatch) == (50, None)


def test_an_outsider_computes_the_same_hashes_from_an_export() -> None:
    export = [json.loads(line) for line in lines(LOG).splitlines()]
    assert rehashed(export) == LOG


def test_an_event_in_an_old_form_is_verified_as_it_is_stored_and_shown_as_it_would_be_today() -> None:
    log = logged([TaskCreated("Buy milk", None, False), TaskToggled(True), TaskDeleted("Buy milk", None, True)])
    task = {"title": "Buy milk", "description": None, "completed": False}
    toggled = {"v": 1, "changes": {"completed": {"from": False, "to": True}}}
    old = {1: {"v": 1, "task": task}, 2: toggled, 3: {"v": 1, "task": {**task, "completed": True}}}
    export = records(log, old)
    assert export[0]["changes"]["title"] == {"from": None, "to": "Buy milk"}
    assert export[2]["changes"]["title"] == {"from": "Buy milk", "to": None}
    assert checked(export).mismatch is None
    shown = put(export[0], ("changes", "title", "to"), "Buy silk")
    assert found([shown, *export[1:]]).field == "changes"
    assert found([{**export[0], "type": "TaskDeleted"}, *export[1:]]).field == "hash"
    stored = put(export[0], ("data", "task", "title"), "Buy silk")
    assert named([stored, *export[1:]]) == ("changed", 1, 1)


def changed(value: Any) -> Any:
    """Another value of the same kind."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case None:
            return "x"
    return value[:-2] + ("1" if value[-2] == "0" else "0") + value[-1]


KNOWN = ("seq", "changes", "user_id")
"""The fields that can be named: for the others, the hash doesn't fit."""


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("path", list(leaves(FIFTH)), ids=".".join)
def test_a_change_of_any_value_is_found_and_its_event_named(path: Path, newest_first: bool) -> None:
    export = [put(each, path, changed(leaf(each, path))) if each is FIFTH else each for each in LOG]
    mismatch = found(export[::-1] if newest_first else export)
    assert (mismatch.kind, mismatch.seq, mismatch.line) == ("changed", 5, 6 if newest_first else 5)
    assert mismatch.field == (path[0] if path[0] in KNOWN else "hash")
    assert "vent 5 " in mismatch.message


@pytest.mark.parametrize("place", [0, 9])
def test_so_it_is_in_the_first_and_in_the_last_event(place: int) -> None:
    for path in leaves(LOG[place]):
        export = list(LOG)
        export[place] = put(LOG[place], path, changed(leaf(LOG[place], path)))
        assert named(export) == ("changed", place + 1, place + 1)
        assert named(export[::-1]) == ("changed", place + 1, 10 - place)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *((("seq",), value) for value in (True, "5", 5.0, 0, -5, None, 2**63, 2**64)),
        *((("version",), value) for value in (True, "5", 5.0, 0, None)),
        *(((name,), FIFTH[name].upper()) for name in ("hash", "salt", "fingerprint")),
        *(((name,), FIFTH[name][:-1]) for name in ("hash", "salt", "fingerprint")),
        *(
            ((name,), 5)
            for name in ("hash", "salt", "fingerprint", "id", "at", "type", "actor", "user_id", "request_id")
        ),
        *(((name,), "") for name in ("hash", "salt", "fingerprint", "id", "at")),
        (("hash",), None),
        (("hash",), FIFTH["hash"] + "\n"),
        (("id",), "00000000000000000000000000000005"),
        (("task_id",), FIFTH["task_id"].upper()),
        (("at",), FIFTH["at"].replace("Z", "+00:00")),
        (("at",), FIFTH["at"].replace(".000000", "")),
        (("at",), FIFTH["at"].replace("0", "\u0660")),
        (("client",), None),
        (("client",), {}),
        (("client",), {"address": None}),
        (("client", "agent"), 5),
        (("client", "name"), "x"),
        (("changes",), []),
        (("changes",), None),
        (("data",), "{}"),
        (("idempotency_key",), False),
        (("colour",), "red"),
    ],
)
def test_a_value_that_daybook_would_not_write_is_found_and_its_column_named(path: Path, value: Any) -> None:
    mismatch = found([*LOG[:4], put(FIFTH, path, value), *LOG[5:]])
    assert (mismatch.kind, mismatch.seq, mismatch.line) == ("changed", 5, 5)
    assert mismatch.field
    assert mismatch.field.startswith(".".join(path))


@pytest.mark.parametrize("path", [*((name,) for name in FIFTH), ("client", "agent")], ids=".".join)
def test_a_missing_column_is_named(path: Path) -> None:
    record = deepcopy(FIFTH)
    del leaf(record, path[:-1])[path[-1]]
    mismatch = found([*LOG[:4], record, *LOG[5:]])
    assert (mismatch.kind, mismatch.seq, mismatch.field) == ("changed", 5, ".".join(path))
    assert mismatch.message == f"event 5 was changed: `{'.'.join(path)}` is missing"


def test_one_is_not_true() -> None:
    for path, field in ((("changes", "completed", "to"), "changes"), (("data", "changes", "completed", "to"), "hash")):
        assert leaf(LOG[5], path) is True
        mismatch = found([*LOG[:5], put(LOG[5], path, 1), *LOG[6:]])
        assert (mismatch.seq, mismatch.field) == (6, field)


def test_a_name_that_stands_twice_is_found_even_where_its_last_value_is_the_true_one() -> None:
    shown = lines(LOG).replace(b'"to":"Buy milk"', b'"to":"Buy silk","to":"Buy milk"', 1)
    assert named(shown) == ("changed", 1, 1)
    assert "'to' stands in it twice" in found(shown).message
    assert found(lines(LOG).replace(b'"actor":"ann"', b'"actor":"bob","actor":"ann"', 1)).field == "actor"


def test_a_line_that_is_nested_without_end_is_found() -> None:
    deep: Any = None
    for _ in range(400):
        deep = {"x": deep}
    for path in (("data",), ("changes",)):
        assert named([*LOG[:4], put(FIFTH, path, deep), *LOG[5:]]) == ("changed", 5, 5)


def test_of_several_differences_the_first_in_the_log_is_named() -> None:
    export = [put(each, ("actor",), "bob") if each["seq"] in (3, 7) else each for each in LOG]
    assert named(export) == ("changed", 3, 3)
    assert named(export[::-1]) == ("changed", 3, 8)
    assert checked(export).last == 2
    assert checked(export).hash == LOG[1]["hash"]


@pytest.mark.parametrize(
    ("gone", "seq", "line", "says"),
    [
        ([5], 5, 5, "event 5 is missing: event 6 comes next"),
        ([5, 6], 5, 5, "events 5 to 6 are missing: event 7 comes next"),
        ([1], 1, 1, "event 1 is missing: event 2 comes next"),
        ([1, 2, 3, 4, 5], 1, 1, "events 1 to 5 are missing: event 6 comes next"),
        ([9], 9, 9, "event 9 is missing: event 10 comes next"),
        ([3, 5, 7, 8], 3, 3, "event 3 is missing: event 4 comes next"),
        ([1, 2, 4, 5, 6, 8, 9, 10], 1, 1, "events 1 to 2 are missing: event 3 comes next"),
    ],
)
def test_events_that_are_missing_are_named(gone: list[int], seq: int, line: int, says: str) -> None:
    export = [record for record in LOG if record["seq"] not in gone]
    assert named(export) == ("removed", seq, line)
    assert found(export).message == says
    assert named(export[::-1]) == ("removed", seq, len(export) + 1 - line)


def test_events_that_are_missing_at_the_end_are_missed_with_a_head_only() -> None:
    for export in (LOG[:8], LOG[7::-1]):
        assert checked(export).mismatch is None
        assert named(export, head_of(LOG[9])) == ("removed", 9, None)
        assert found(export, head_of(LOG[9])).message == "events 9 to 10 are missing: the head is event 10"
    assert found(b"", head_of(LOG[0])).message == "event 1 is missing: the head is event 1"


@pytest.mark.parametrize(
    "touched",
    [
        [*LOG[:4], *LOG[5:]],
        [*LOG[:4], LOG[2], *LOG[4:]],
        [*LOG[:4], LOG[5], LOG[4], *LOG[6:]],
        [*LOG[:4], LOG[8], *LOG[4:8], LOG[9]],
    ],
    ids=["removed", "added", "swapped", "moved"],
)
def test_among_events_numbered_anew_the_first_that_does_not_follow_was_changed(touched: list[Record]) -> None:
    """With another number, an event whose predecessor isn't the one before it is like one that was changed."""
    for export, line in ((numbered(touched), 5), (numbered(touched)[::-1], len(touched) - 4)):
        mismatch = found(export)
        assert (mismatch.kind, mismatch.seq, mismatch.line, mismatch.field) == ("changed", 5, line, "hash")
        assert mismatch.message == "event 5 was changed: its hash doesn't follow from its content and the hash before"
        assert (mismatch.found, mismatch.expected) == (touched[4]["hash"], rehashed(touched)[4]["hash"])


@pytest.mark.parametrize("which", range(10))
@pytest.mark.parametrize("where", range(11))
def test_a_line_that_stands_twice_is_found_wherever_the_second_is(which: int, where: int) -> None:
    export = [*LOG[:where], LOG[which], *LOG[where:]]
    for each in (export, export[::-1]):
        mismatch = found(each)
        assert (mismatch.kind, mismatch.seq) == ("added", which + 1)
        assert mismatch.line
        assert each[mismatch.line - 1] is LOG[which]


def test_a_line_that_stands_twice_beside_a_gap_is_found() -> None:
    assert named([*LOG[:2], LOG[3], *LOG[3:]]) == ("removed", 3, 3)
    assert named([*LOG[:2], LOG[1], *LOG[3:]]) == ("added", 2, 3)


def forged(previous: Record, **values: Any) -> Record:
    """An event that never was, with a hash that follows on the previous one: who knows that hash can compute it."""
    after = {"seq": previous["seq"], "hash": previous["hash"]}
    return {**records([replace(event(TaskToggled(True), 77), actor="mallory")], start=after)[0], **values}


@pytest.mark.parametrize("place", [1, 4, 9])
def test_a_forgery_between_two_events_is_found(place: int) -> None:
    """Of two events that follow on the one before, nothing tells the true one: the second is the one that is named."""
    export = [*LOG[:place], forged(LOG[place - 1]), *LOG[place:]]
    assert named(export) == ("added", place + 1, place + 2)
    assert named(export[::-1]) == ("added", place + 1, 10 - place)
    assert found(export).message == f"event {place + 1} was added: it comes after event {place + 1}"
    assert named(numbered(export)) == ("changed", place + 2, place + 2)
    bogus = [*LOG[:place], forged(LOG[place - 1], hash="0" * 64), *LOG[place:]]
    for each in (bogus, numbered(bogus)):
        assert named(each) == ("changed", place + 1, place + 1)
        assert named(each[::-1]) == ("changed", place + 1, 11 - place)


def test_a_copy_with_a_number_of_its_own_is_found() -> None:
    assert named(numbered([*LOG[:6], LOG[2], *LOG[6:]])) == ("changed", 7, 7)
    assert named(numbered([*LOG, LOG[2]])) == ("changed", 11, 11)


def test_where_a_malformed_event_is_out_of_place_its_place_comes_first() -> None:
    malformed = {**LOG[5], "colour": "red"}
    assert named([*LOG[:4], malformed, *LOG[6:]]) == ("removed", 5, 5)
    assert named([*LOG[:4], malformed, LOG[4], *LOG[6:]]) == ("reordered", 6, 5)
    assert named([*LOG[:6], malformed, *LOG[6:]]) == ("added", 6, 7)


@pytest.mark.parametrize("seq", [50, 2**63 - 1])
def test_an_event_with_a_number_that_is_too_high_is_out_of_order(seq: int) -> None:
    stranger = {**OTHER[4], "seq": seq}
    assert named([*LOG[:4], stranger, *LOG[4:]]) == ("reordered", seq, 5)
    mismatch = found([*LOG[:4], {**forged(LOG[3]), "seq": seq}, *LOG[4:]])
    assert (mismatch.kind, mismatch.seq, mismatch.line, mismatch.field) == ("changed", 5, 5, "seq")
    assert mismatch.message == f"event 5 was changed: it is numbered {seq}"


def test_an_event_of_another_log_is_found() -> None:
    bobs = records([replace(each, user_id="bob") for each in logged()])
    assert found([*LOG[:4], bobs[4], *LOG[5:]]).field == "user_id"
    forgery = {**forged(LOG[9]), "user_id": "bob"}
    assert found([*LOG, forgery]).field == "user_id"
    made = records([replace(event(TaskToggled(True), 77), user_id="bob")], start=LOG[9])
    assert found([*LOG, *made]).message == "event 11 was changed: it is of another user than those before"


def swapped(one: int, other: int) -> list[Record]:
    export = list(LOG)
    export[one - 1], export[other - 1] = export[other - 1], export[one - 1]
    return export


@pytest.mark.parametrize(("one", "other"), [(5, 6), (2, 9), (1, 2), (9, 10), (1, 10), (4, 6)])
def test_events_that_changed_places_are_found(one: int, other: int) -> None:
    export = swapped(one, other)
    assert named(export) == ("reordered", other, one)
    assert named(export[::-1]) == ("reordered", other, 11 - one)
    assert found(export).message == f"event {other} is out of order: event {one} comes later"


def test_an_event_that_was_moved_is_found() -> None:
    assert named([*LOG[:2], *LOG[3:8], LOG[2], *LOG[8:]]) == ("reordered", 4, 3)
    assert named([*LOG[:2], LOG[7], *LOG[2:7], *LOG[8:]]) == ("reordered", 8, 3)


def test_events_that_come_later_are_not_called_missing() -> None:
    assert found([LOG[0], LOG[4], LOG[2], LOG[3]]).message == "event 2 is missing: event 5 comes next"


def test_the_direction_is_told_from_all_of_the_lines() -> None:
    def of(*seqs: int) -> list[Record]:
        return [LOG[seq - 1] for seq in seqs]

    for export, kind, seq, line in (
        (of(1, 3, 2, 5, 7), "reordered", 3, 2),  # though only the step back is to the next number
        ([{**LOG[0], "seq": 999}, *of(2, 3)], "changed", 1, 1),  # though the ends say otherwise
        ([LOG[0], {**LOG[1], "seq": 9}, LOG[2]], "changed", 2, 2),
        (of(10, 2, 3, 4, 5, 6, 7, 8, 9, 1), "reordered", 10, 1),
    ):
        assert named(export) == (kind, seq, line)
        assert named(export[::-1]) == (kind, seq, len(export) + 1 - line)


def test_numbers_alone_that_changed_places_are_found() -> None:
    mismatch = found([*LOG[:4], {**LOG[4], "seq": 6}, {**LOG[5], "seq": 5}, *LOG[6:]])
    assert (mismatch.kind, mismatch.seq, mismatch.field) == ("changed", 5, "seq")


def test_an_export_that_broke_off_is_no_mismatch_but_cannot_be_verified() -> None:
    for export in (LOG, LOG[::-1]):
        for missing in range(2, len(lines(export[-1:])) - 20):
            for head in (None, head_of(LOG[9])):
                with pytest.raises(CutOff, match="Its last line is cut off"):
                    checked(lines(export)[:-missing], head)
    assert named(lines([*LOG[:4], *LOG[5:]])[:-40]) == ("removed", 5, 5)
    assert named(lines(LOG)[:-40] + b"\n") == ("unreadable", None, 10)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"{}}", "the line isn't JSON: it was damaged, or the download broke off"),
        (b"\xff", "the line isn't JSON: it was damaged, or the download broke off"),
        (b"[]", "the line isn't a JSON object"),
        (b"5", "the line isn't a JSON object"),
        (b"x" * 2**24, "the line is longer than an event can be"),
    ],
)
def test_a_line_without_an_event_is_named(line: bytes, says: str) -> None:
    mismatch = found(lines(LOG[:4]) + line + b"\n" + lines(LOG[4:]))
    assert (mismatch.kind, mismatch.seq, mismatch.line, mismatch.message) == ("unreadable", None, 5, says)


def test_what_a_newer_release_wrote_is_no_difference_but_cannot_be_verified() -> None:
    newer = rehashed([put(each, ("data", "v"), 99) if each["seq"] in (3, 4) else each for each in LOG])
    with pytest.raises(UnknownEvent, match=r"event 3 \(line 3\): TaskToggled in form 99"):
        checked(newer)
    with pytest.raises(UnknownEvent, match=r"event 3 \(line 8\)"):
        checked(newer[::-1])
    assert named([*newer[:6], put(newer[6], ("actor",), "bob"), *newer[7:]]) == ("changed", 7, 7)
    assert named([*newer[:2], put(newer[2], ("actor",), "bob"), *newer[3:]]) == ("changed", 3, 3)
    assert named(newer, Head(seq=10, hash=bytes(32), at=LOG[9]["at"])) == ("rewritten", 10, 10)


@pytest.mark.parametrize(
    "data",
    [{"v": 2}, {"v": 2, "changes": []}, {"v": 1}, {"v": 1, "task": []}, {"v": 1, "task": None}, {"v": [2]}, {}],
    ids=str,
)
def test_damaged_data_in_a_whole_chain_break_nothing(data: Record) -> None:
    export = rehashed([*LOG[:4], {**FIFTH, "data": data}, *LOG[5:]])
    try:
        assert found(export).field == "changes"
    except UnknownEvent as error:
        assert "event 5 (line 5)" in str(error)  # noqa: PT017 - either will do


def test_an_export_is_held_against_a_head_that_was_kept() -> None:
    for kept in (LOG[0], LOG[4], LOG[9]):
        for export in (LOG, LOG[::-1]):
            assert checked(export, head_of(kept)) == replace(checked(export), head=kept["seq"])
    none = Head(seq=0, hash=b"", at=None)
    assert checked(LOG, none) == replace(checked(LOG), head=0)


def test_a_log_that_was_made_anew_is_found_by_a_head_only() -> None:
    anew = rehashed([*LOG[:2], put(LOG[2], ("actor",), "bob"), *LOG[3:]])
    assert checked(anew).mismatch is None
    assert checked(anew, head_of(LOG[1])).mismatch is None
    for kept in LOG[2:]:
        for export, line in ((anew, kept["seq"]), (anew[::-1], 11 - kept["seq"])):
            report = checked(export, head_of(kept))
            assert named(export, head_of(kept)) == ("rewritten", kept["seq"], line)
            assert (report.user_id, report.events, report.hash) == ("ann", 0, "")  # where it began nobody can say
    assert found(anew, head_of(LOG[4])).message == (
        "the log was rewritten, at event 5 or before: the head that was kept has another hash (or is of another log)"
    )


def test_a_head_whose_time_was_changed_is_found() -> None:
    mismatch = found(LOG, Head(seq=5, hash=bytes.fromhex(FIFTH["hash"]), at=LOG[5]["at"]))
    assert (mismatch.kind, mismatch.seq, mismatch.field) == ("changed", 5, "at")
    assert mismatch.message == "the head was changed: it has event 5's hash, and another time"


def test_what_came_after_a_head_is_verified_from_there() -> None:
    kept = head_of(LOG[3])
    for export in (LOG[4:], LOG[:3:-1]):
        assert checked(export, after=kept) == Report(
            user_id="ann", events=6, first=5, last=10, hash=LOG[9]["hash"], head=None, mismatch=None
        )
    assert named(LOG[4:]) == ("removed", 1, 1)
    assert named(LOG[5:], after=kept) == ("removed", 5, 1)
    assert found(LOG[5:], after=kept).message == "event 5 is missing: event 6 comes next"
    assert named(LOG[4:], after=kept._replace(hash=bytes(32))) == ("changed", 5, 1)
    assert named([*LOG[4:7], LOG[1], *LOG[7:]], after=kept) == ("added", 2, 4)
    assert named([LOG[3], *LOG[4:]], after=kept) == ("added", 4, 1)
    assert named([*LOG[4:], LOG[1]], after=kept) == ("added", 2, 7)
    renumbered = [{**each, "seq": seq} for seq, each in enumerate([forged(LOG[3]), *LOG[4:]], 5)]
    assert named(renumbered, after=kept) == ("changed", 6, 2)
    assert named([{**LOG[0], "seq": 999}, *LOG[1:]], head_of(LOG[0])) == ("changed", 1, 1)
    assert checked(LOG[4:], head_of(LOG[9]), after=kept).mismatch is None
    assert named(LOG[4:8], head_of(LOG[9]), after=kept) == ("removed", 9, None)


def test_a_beginning_that_was_cut_off_is_missed_also_where_a_head_follows_on_it() -> None:
    assert named(LOG[4:], head_of(LOG[3])) == ("removed", 1, 1)
    assert named(LOG[9:], head_of(LOG[8])) == ("removed", 1, 1)


def test_a_line_too_many_at_the_end_is_found() -> None:
    assert named([*LOG, forged(LOG[1])], head_of(LOG[9])) == ("added", 3, 11)
    bobs = rehashed([put(LOG[0], ("user_id",), "bob")])
    assert named([*LOG, *bobs]) == ("changed", 1, 11)


def test_a_line_without_a_number_is_what_was_added_and_not_the_event_behind_it() -> None:
    touched = lines(LOG[:4]) + b"{}\n" + lines(LOG[4:])
    assert named(touched) == ("added", None, 5)
    assert found(touched).message == "the line was added: event 5 is on another one"


@pytest.mark.parametrize("place", [4, 7, 9])
def test_a_change_after_a_head_is_found(place: int) -> None:
    for path in leaves(LOG[place]):
        for value in (changed(leaf(LOG[place], path)), 1):
            export = list(LOG)
            export[place] = put(LOG[place], path, value)
            if export[place] != LOG[place]:
                assert named(export[4:], after=head_of(LOG[3])) == ("changed", place + 1, place - 3)


@pytest.mark.parametrize("record", [LOG[0], LOG[9]])
def test_a_head_is_read(record: Record) -> None:
    answer = {"seq": record["seq"], "hash": record["hash"], "at": record["at"]}
    assert read_head(json.dumps(answer).encode()) == head_of(record)
    assert read_head(json.dumps({**answer, "more": 1}).encode()) == head_of(record)
    assert read_head(MARK + json.dumps(answer).encode() + b"\r\n") == head_of(record)
    with pytest.raises(BadHead, match="audit/head answers: it is UTF-16"):
        read_head(json.dumps(answer).encode("utf-16"))


def test_the_head_of_an_empty_log_is_read() -> None:
    assert read_head(b'{"seq": 0, "hash": "", "at": null}') == Head(seq=0, hash=b"", at=None)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"5",
        b"[]",
        b"\xff",
        b'{"seq": 5}',
        *(
            json.dumps({"seq": 5, "hash": "0" * 64, "at": FIFTH["at"], **bad}).encode()
            for bad in (
                {"seq": "5"},
                {"seq": True},
                {"seq": -5},
                {"seq": 0},
                {"seq": 2**63},
                {"hash": ""},
                {"hash": "A" * 64},
                {"hash": None},
                {"at": None},
                {"at": "2026"},
                {"seq": False, "hash": "", "at": None},
            )
        ),
    ],
)
def test_what_is_no_head_is_refused(text: bytes) -> None:
    with pytest.raises(BadHead, match="audit/head"):
        read_head(text)


exports = st.lists(events, min_size=1, max_size=6).map(
    lambda log: records([replace(each, user_id="ann") for each in log])
)
values: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
)


@given(exports, st.booleans())
def test_any_export_verifies(export: list[Record], newest_first: bool) -> None:
    report = checked(export[::-1] if newest_first else export, head_of(export[-1]))
    assert (report.mismatch, report.events, report.hash) == (None, len(export), export[-1]["hash"])


@given(exports, st.booleans(), st.data())
def test_any_changed_byte_is_found(export: list[Record], newest_first: bool, data: st.DataObject) -> None:
    text = bytearray(lines(export[::-1] if newest_first else export))
    where = data.draw(st.integers(0, len(text) - 1))
    text[where] = data.draw(st.integers(0, 255) | st.sampled_from(list(b'\n\r ,"{}0\\')))
    try:
        same = (
            sorted(map(json.loads, filter(bytearray.strip, text.split(b"\n"))), key=lambda record: record["seq"])
            == export
        )
    except (ValueError, KeyError, TypeError):
        same = False
    assert noticed(bytes(text)) != same


def drop(draw: Callable[..., Any], export: list[Record]) -> list[Record]:
    place = draw(st.integers(0, len(export) - 1))
    return [*export[:place], *export[place + 1 :]]


def double(draw: Callable[..., Any], export: list[Record]) -> list[Record]:
    place = draw(st.integers(0, len(export)))
    return [*export[:place], draw(st.sampled_from(export)), *export[place:]]


def exchange(draw: Callable[..., Any], export: list[Record]) -> list[Record]:
    one, other = draw(st.integers(0, len(export) - 1)), draw(st.integers(0, len(export) - 1))
    export = list(export)
    export[one], export[other] = export[other], export[one]
    return export


def change(draw: Callable[..., Any], export: list[Record]) -> list[Record]:
    place = draw(st.integers(0, len(export) - 1))
    path = draw(st.sampled_from(list(leaves(export[place]))))
    return [*export[:place], put(export[place], path, draw(values)), *export[place + 1 :]]


@given(exports, st.sampled_from([drop, double, exchange, change]), st.booleans(), st.data())
def test_any_single_difference_is_found(
    export: list[Record],
    touch: Callable[[Callable[..., Any], list[Record]], list[Record]],
    newest_first: bool,
    data: st.DataObject,
) -> None:
    touched = touch(data.draw, export)
    assume(lines(touched) not in (lines(export), lines(export[::-1]), lines(export[:-1])))
    assert noticed(touched[::-1] if newest_first else touched)


GUIDE = (pathlib.Path(__file__).parents[2] / "docs/guides/audit.md").read_text()


def test_the_verifier_in_the_guide_is_right(tmp_path: pathlib.Path) -> None:
    """It was written from the design alone, for people who trust none of our code."""
    [program] = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    (tmp_path / "verify.py").write_text(program)

    def run(export: bytes) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, str(tmp_path / "verify.py")]
        return subprocess.run(command, input=export, capture_output=True, check=False, timeout=30)

    clean = run(lines(LOG))
    assert (clean.returncode, clean.stdout.decode().split()) == (0, ["10", LOG[9]["hash"]])
    changed = run(lines([*LOG[:4], put(LOG[4], ("actor",), "bob"), *LOG[5:]]))
    assert (changed.returncode, changed.stderr) == (1, b"event 5 doesn't fit\n")
    assert run(lines(LOG[1:])).returncode == 1
