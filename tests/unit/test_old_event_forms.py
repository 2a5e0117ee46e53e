"""Events of earlier releases stay readable: one of each type as stored in form 1, with its hash."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from events import hash_chain
from events.records import record
from events.serialization import DATA_VERSION, UnknownEvent, decode, from_row, header, meta, upcast
from events.task import Task, TaskCreated, TaskDeleted, TaskEvent, TaskRestored, TaskToggled, TaskUpdated, evolve
from tests import independent

HEX = ("fingerprint", "salt", "hash")
ROWS: list[dict[str, Any]] = [
    {
        **row,
        **{name: row[name] and bytes.fromhex(row[name]) for name in HEX},
        "id": UUID(row["id"]),
        "task_id": UUID(row["task_id"]),
        "at": datetime.fromisoformat(row["at"]),
        "data": json.dumps(row["data"]),
    }
    for row in json.loads((Path(__file__).parent / "form_1.json").read_text())
]
FACTS: list[TaskEvent] = [
    TaskCreated("Buy milk", "2 litres", False),
    TaskUpdated(
        {"title": "Buy milk", "description": "2 litres"},
        {"title": "Buy oat milk", "description": None},
    ),
    TaskToggled(True),
    TaskDeleted("Buy oat milk", None, True),
]
CHANGES = [
    {
        "title": {"from": None, "to": "Buy milk"},
        "description": {"from": None, "to": "2 litres"},
        "completed": {"from": None, "to": False},
    },
    {"title": {"from": "Buy milk", "to": "Buy oat milk"}, "description": {"from": "2 litres", "to": None}},
    {"completed": {"from": False, "to": True}},
    {
        "title": {"from": "Buy oat milk", "to": None},
        "description": {"from": None, "to": None},
        "completed": {"from": True, "to": None},
    },
]


def test_the_fixture_is_of_form_1_throughout() -> None:
    assert [json.loads(row["data"])["v"] for row in ROWS] == [1, 1, 1, 1]


@pytest.mark.parametrize(("row", "payload"), [*zip(ROWS, FACTS, strict=True)])
def test_an_old_event_is_read_as_what_happened(row: dict[str, Any], payload: TaskEvent) -> None:
    assert from_row(row).payload == payload


@pytest.mark.parametrize(("row", "changes"), [*zip(ROWS, CHANGES, strict=True)])
def test_an_old_event_is_shown_in_the_present_form(row: dict[str, Any], changes: Any) -> None:
    assert record(row)["changes"] == changes
    assert upcast(row["type"], json.loads(row["data"])) == {"v": DATA_VERSION, "changes": changes}


def test_an_old_log_folds_into_its_task() -> None:
    states: list[Task | None] = [None]
    for row in ROWS:
        states.append(evolve(states[-1], from_row(row)))
    assert states[3] == Task(
        id=ROWS[0]["task_id"],
        user_id="ann",
        title="Buy oat milk",
        description=None,
        completed=True,
        created_at=datetime(2026, 11, 20, 6, 0, 1, tzinfo=UTC),
        updated_at=datetime(2026, 11, 20, 6, 0, 3, tzinfo=UTC),
        version=3,
    )
    assert states[4] is None


def test_an_old_log_verifies_as_it_was_hashed() -> None:
    last = hash_chain.GENESIS
    for row in ROWS:
        event = from_row(row)
        last = hash_chain.link(
            last, hash_chain.digest(header(event), json.loads(row["data"]), meta(event.metadata), event.salt)
        )
        assert last == row["hash"]
    assert independent.chain(ROWS) == [row["hash"] for row in ROWS]


def test_a_restoration_from_before_a_field_was_added_brings_a_task_back_with_its_default() -> None:
    """`description` stands for a field that is younger than the event; `evolve` wants them all."""
    restored = {"version": 1, "created_at": "2026-11-20T06:00:01Z"}
    changes = {"title": {"from": None, "to": "Buy milk"}, "completed": {"from": None, "to": True}}
    payload = decode("TaskRestored", {"v": DATA_VERSION, "restored": restored, "changes": changes})
    assert isinstance(payload, TaskRestored)
    assert payload.after == {"title": "Buy milk", "description": None, "completed": True}


@pytest.mark.parametrize(
    "data",
    [
        {"v": 1},
        {"v": 1, "task": None},
        {"v": 1, "task": [1]},
        {"v": True, "task": {}},
        {"v": 2},
        {"v": 2, "changes": 7},
        [],
    ],
)
def test_damaged_data_is_refused_and_not_guessed_at(data: Any) -> None:
    with pytest.raises(UnknownEvent, match="TaskCreated"):
        decode("TaskCreated", data)
