"""Any single difference in any export is found."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.exports import Record, checked, head_of, leaves, lines, noticed, put, records
from tests.strategies import events

pytestmark = pytest.mark.unmeasured

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
