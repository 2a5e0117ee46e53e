"""Events as CSV: nothing is lost, and nothing that a spreadsheet might run stays a formula."""

import csv
import io
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.records import CSV_COLUMNS, csv_cells, full_record
from events.serialization import rfc3339
from events.task import Event
from tests.strategies import events
from tests.unit.test_serialization_and_hash_chain import as_row

RUN_BY_SPREADSHEETS = "=+-@"


def row(event: Event) -> dict[str, Any]:
    return {**as_row(event), "seq": 1, "hash": bytes(32)}


def read(cell: str) -> str | None:
    """Return the value that a reader gets from a cell: an apostrophe at the start is taken away."""
    return cell.removeprefix("'") or None


@given(events)
def test_no_cell_is_a_formula_whatever_is_recorded(event: Event) -> None:
    for cell in csv_cells(row(event)):
        assert cell.lstrip()[:1] not in RUN_BY_SPREADSHEETS or not cell.strip()
        assert cell[:1] not in "\t\r\n" or not cell


@given(events)
def test_every_value_can_be_had_back_from_a_file_that_was_written_and_read(event: Event) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerow(csv_cells(row(event)))
    [cells] = csv.reader(io.StringIO(text.getvalue(), newline=""))
    found = dict(zip(CSV_COLUMNS, map(read, cells), strict=True))
    full = full_record(row(event))
    client, changes, data = (full.pop(name) for name in ("client", "changes", "data"))
    assert json.loads(found.pop("data") or "") == data
    for name, value in {"client_address": client["address"], "client_agent": client["agent"], **full}.items():
        assert found.pop(name) == (None if value is None else str(value) or None)
    for name, value in found.items():
        field, _, side = name.rpartition("_")
        expected = changes.get(field, {}).get(side)
        if isinstance(expected, list):
            expected = orjson.dumps(expected).decode()
        assert value == (str(expected).lower() if isinstance(expected, bool) else expected or None)
    assert full["at"] == rfc3339(event.at)


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+49 30 1234", "'+49 30 1234"),
        ("-5", "'-5"),
        ("@SUM(A1)", "'@SUM(A1)"),
        (" =1+1", "' =1+1"),
        ("\t=1+1", "'\t=1+1"),
        ("\r\n=1+1", "'\r\n=1+1"),
        ("\u00a0=1+1", "'\u00a0=1+1"),
        ("\uff1d1+1", "'\uff1d1+1"),
        ("'=1+1", "''=1+1"),
        ("'tis", "''tis"),
        ("1=1", "1=1"),
        ("Buy milk - now", "Buy milk - now"),
        ("", ""),
    ],
)
def test_an_apostrophe_goes_before_what_might_be_run(text: str, cell: str) -> None:
    event = {**row_of_title("x"), "actor": text}
    assert csv_cells(event)[CSV_COLUMNS.index("actor")] == cell


def row_of_title(title: str) -> dict[str, Any]:
    from events.task import TaskCreated
    from tests.spec import event

    return row(event(TaskCreated(title, None, False), 1))


@given(st.text(min_size=1))
def test_taking_the_apostrophe_away_gives_any_text_back(text: str) -> None:
    cell = csv_cells({**row_of_title("x"), "actor": text})[CSV_COLUMNS.index("actor")]
    assert read(cell) == text
