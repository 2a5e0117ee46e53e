"""Changing a value of an export is found out, and the event is named."""

from copy import deepcopy
from typing import Any

import pytest

from tests.exports import FIFTH, LOG, Path, changed, checked, found, leaf, leaves, lines, named, put

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


def test_a_repeated_name_is_found_even_if_its_last_value_is_the_true_one() -> None:
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
