"""Removing, adding or moving events of an export is found out, and the first misfit is named."""

from dataclasses import replace

import pytest

from events.task import TaskToggled
from tests.exports import LOG, OTHER, Record, forged, found, lines, logged, named, numbered, records, rehashed
from tests.spec import event


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
    """An event with a new number, whose predecessor isn't the one before it, is like one that was changed."""
    for export, line in ((numbered(touched), 5), (numbered(touched)[::-1], len(touched) - 4)):
        mismatch = found(export)
        assert (mismatch.kind, mismatch.seq, mismatch.line, mismatch.field) == ("changed", 5, line, "hash")
        assert mismatch.message == "event 5 was changed: its hash doesn't follow from its content and the hash before"
        assert (mismatch.found, mismatch.expected) == (touched[4]["hash"], rehashed(touched)[4]["hash"])


@pytest.mark.parametrize("which", range(10))
@pytest.mark.parametrize("where", range(11))
def test_a_repeated_line_is_found_wherever_the_second_is(which: int, where: int) -> None:
    export = [*LOG[:where], LOG[which], *LOG[where:]]
    for each in (export, export[::-1]):
        mismatch = found(each)
        assert (mismatch.kind, mismatch.seq) == ("added", which + 1)
        assert mismatch.line
        assert each[mismatch.line - 1] is LOG[which]


def test_a_repeated_line_beside_a_gap_is_found() -> None:
    assert named([*LOG[:2], LOG[3], *LOG[3:]]) == ("removed", 3, 3)
    assert named([*LOG[:2], LOG[1], *LOG[3:]]) == ("added", 2, 3)


@pytest.mark.parametrize("place", [1, 4, 9])
def test_a_forgery_between_two_events_is_found(place: int) -> None:
    """Nothing tells which of two events that follow on the one before is the true one: the second is named."""
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


def test_a_line_without_a_number_is_what_was_added_and_not_the_event_behind_it() -> None:
    touched = lines(LOG[:4]) + b"{}\n" + lines(LOG[4:])
    assert named(touched) == ("added", None, 5)
    assert found(touched).message == "the line was added: event 5 is on another one"
