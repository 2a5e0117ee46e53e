"""Events of earlier releases stay readable: one of each type as stored in each form, with its hash."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from events import hash_chain
from events.records import record
from events.serialization import DATA_VERSION, UnknownEvent, decode, from_row, header, meta, upcast
from events.task import (
    FIELDS,
    Task,
    TaskCreated,
    TaskDeleted,
    TaskEvent,
    TaskRestored,
    TaskToggled,
    TaskUpdated,
    evolve,
)
from tests import independent

HEX = ("fingerprint", "salt", "hash")
VERIFIER = Path(__file__).parents[2] / "clients/typescript/src/verify/changes.ts"


def stored(name: str) -> list[dict[str, Any]]:
    return [
        {
            **row,
            **{name: row[name] and bytes.fromhex(row[name]) for name in HEX},
            "id": UUID(row["id"]),
            "task_id": UUID(row["task_id"]),
            "at": datetime.fromisoformat(row["at"]),
            "data": json.dumps(row["data"]),
            "personal": None,
        }
        for row in json.loads((Path(__file__).parent / name).read_text())
    ]


ROWS = stored("form_1.json")
ROWS_2 = stored("form_2.json")
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
        priority=None,
        due_date=None,
        tags=[],
        created_at=datetime(2026, 11, 20, 6, 0, 1, tzinfo=UTC),
        updated_at=datetime(2026, 11, 20, 6, 0, 3, tzinfo=UTC),
        completed_at=datetime(2026, 11, 20, 6, 0, 3, tzinfo=UTC),
        version=3,
    )
    assert states[4] is None


BORN = datetime(2026, 11, 20, 6, 0, 1, tzinfo=UTC)
FACTS_2: list[TaskEvent] = [
    *FACTS,
    TaskRestored(
        3,
        BORN,
        {},
        {
            "title": "Buy oat milk",
            "description": None,
            "completed": True,
            "priority": None,
            "due_date": None,
            "tags": [],
        },
    ),
    TaskRestored(
        1,
        BORN,
        {"title": "Buy oat milk", "description": None, "completed": True},
        {"title": "Buy milk", "description": "2 litres", "completed": False},
    ),
]


@pytest.mark.parametrize(("row", "payload"), [*zip(ROWS_2, FACTS_2, strict=True)])
def test_an_event_of_form_2_is_read_as_what_happened(row: dict[str, Any], payload: TaskEvent) -> None:
    data = json.loads(row["data"])
    assert data["v"] == 2
    assert from_row(row).payload == payload
    assert record(row)["changes"] == data["changes"]  # as an export of then has them
    assert upcast(row["type"], data) == {**data, "v": DATA_VERSION}


def test_a_log_of_form_2_folds_into_a_task_with_empty_fields() -> None:
    task = None
    for row in ROWS_2:
        task = evolve(task, from_row(row))
    assert task is not None
    assert (task.title, task.completed, task.version) == ("Buy milk", False, 6)
    assert (task.priority, task.due_date, task.tags, task.completed_at) == (None, None, [], None)


@pytest.mark.parametrize("rows", [ROWS, ROWS_2])
def test_an_old_log_verifies_as_it_was_hashed(rows: list[dict[str, Any]]) -> None:
    last = hash_chain.GENESIS
    for row in rows:
        event = from_row(row)
        last = hash_chain.link(
            last, hash_chain.digest(header(event), json.loads(row["data"]), meta(event.metadata), event.salt)
        )
        assert last == row["hash"]
    assert independent.chain(rows) == [row["hash"] for row in rows]


@pytest.mark.parametrize(
    "data",
    [
        {"v": 1},
        {"v": 1, "task": None},
        {"v": 1, "task": [1]},
        {"v": True, "task": {}},
        {"v": 2},
        {"v": 2, "changes": 7},
        {"v": 3},
        {"v": 3, "changes": 7},
        [],
    ],
)
def test_damaged_data_is_refused_and_not_guessed_at(data: Any) -> None:
    with pytest.raises(UnknownEvent, match="TaskCreated"):
        decode("TaskCreated", data)


def test_the_verifier_in_typescript_knows_each_form_and_field() -> None:
    source = VERIFIER.read_text()
    [forms] = re.findall(r"\(\[([\d, ]+)\] as unknown\[\]\)\.includes\(form\)", source)
    [fields] = re.findall(r"const FIELDS = \[(.*?)\];", source, re.DOTALL)
    assert json.loads(f"[{forms}]") == list(range(1, DATA_VERSION + 1))
    assert tuple(re.findall(r'"(\w+)"', fields)) == tuple(FIELDS)
