"""An export that nobody touched is clean, however it is written; what is no whole export is called what it is."""

import gzip
import json
import pathlib
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from events.export.verification import CutOff, EmptyExport, NotAnExport, Report
from events.hash_chain import Head
from events.serialization import UnknownEvent
from events.task import TaskCreated, TaskDeleted, TaskToggled
from tests.export_cases import ERASED_LOG, FAULTS, NOT_ERASED, erased, faulty
from tests.exports import (
    FIFTH,
    LOG,
    MARK,
    Record,
    checked,
    found,
    head_of,
    lines,
    logged,
    named,
    put,
    records,
    rehashed,
)


@pytest.mark.parametrize("export", [LOG, LOG[::-1], LOG[:1], LOG[:2], LOG[1::-1]])
def test_an_export_that_nobody_touched_is_clean_in_either_order(export: list[Record]) -> None:
    last = max(export, key=lambda record: record["seq"])
    assert checked(export) == Report(
        user_id="ann", events=len(export), first=1, last=last["seq"], hash=last["hash"], head=None, mismatch=None
    )


EMPTY = Report(user_id=None, events=0, first=None, last=None, hash="", head=0, mismatch=None)


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


GUIDE = (pathlib.Path(__file__).parents[2] / "docs/guides/audit.md").read_text()


def test_the_verifier_in_the_guide_is_right(tmp_path: pathlib.Path) -> None:
    """The guide's verifier was written from the design alone, for people who trust none of our code."""
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
    log = [LOG[0], *map(erased, LOG[1:4]), *LOG[4:]]
    assert run(lines(log)).stdout == clean.stdout
    changed = run(lines([*log[:2], {**log[2], "personal": "ab" * 32}, *log[3:]]))
    assert (changed.returncode, changed.stderr) == (1, b"event 3 doesn't fit\n")


def test_a_log_with_erased_content_is_clean() -> None:
    for export in (ERASED_LOG, [*NOT_ERASED[:3], *ERASED_LOG[3:]], ERASED_LOG[::-1]):
        report = checked(export, head_of(ERASED_LOG[-1]))
        assert (report.mismatch, report.events, report.hash) == (None, len(ERASED_LOG), NOT_ERASED[-1]["hash"])


@pytest.mark.parametrize(("place", "values", "field", "fault"), FAULTS)
def test_a_change_of_an_erased_event_or_of_an_erasure_is_named(
    place: int, values: Record, field: str, fault: str
) -> None:
    mismatch = found(faulty(ERASED_LOG, place, values))
    assert (mismatch.kind, mismatch.seq, mismatch.line) == ("changed", place + 1, place + 1)
    assert (mismatch.field, mismatch.message) == (field, f"event {place + 1} was changed: {fault.format(field)}")
