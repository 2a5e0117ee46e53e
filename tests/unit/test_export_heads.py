"""A head that was kept shows whether an export was cut, or rewritten as a whole."""

import json
from dataclasses import replace

import pytest

from events.export.verification import BadHead, EarlierHead, Report, read_head
from events.hash_chain import Head
from tests.exports import (
    FIFTH,
    LOG,
    MARK,
    Record,
    changed,
    checked,
    forged,
    found,
    head_of,
    leaf,
    leaves,
    lines,
    named,
    put,
    rehashed,
)


def test_two_heads_that_cannot_both_be_right_are_no_proof() -> None:
    kept = head_of(LOG[3])
    for other in (kept._replace(hash=bytes(32)), kept._replace(at=LOG[4]["at"])):
        for export in (b"", lines(LOG[4:])):
            assert named(export, other, after=kept) == ("rewritten", 4, None)
    assert checked(LOG[4:], kept, after=kept).mismatch is None
    with pytest.raises(EarlierHead):
        checked(LOG[4:], head_of(LOG[2]), after=kept)


def test_events_that_are_missing_at_the_end_are_missed_with_a_head_only() -> None:
    for export in (LOG[:8], LOG[7::-1]):
        assert checked(export).mismatch is None
        assert named(export, head_of(LOG[9])) == ("removed", 9, None)
        assert found(export, head_of(LOG[9])).message == "events 9 to 10 are missing: the head is event 10"
    assert found(b"", head_of(LOG[0])).message == "event 1 is missing: the head is event 1"


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
    with pytest.raises(BadHead, match="audit/head: it is UTF-16"):
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
