"""Stored events read back unchanged, and their hashes are those of the design."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given

from events import hash_chain
from events.serialization import UnknownEvent, canonical, decode, encode, from_row, header, meta, rfc3339
from events.task import Event, Metadata, TaskCreated, TaskDeleted, TaskEvent, TaskRestored, TaskToggled, TaskUpdated
from tests import independent
from tests.spec import DAWN, MILK, event
from tests.strategies import events, facts


def digest(event: Event) -> bytes:
    return hash_chain.digest(header(event), encode(event.payload), meta(event.metadata), event.salt)


def as_row(event: Event) -> dict[str, Any]:
    return {
        "id": event.id,
        "user_id": event.user_id,
        "task_id": event.task_id,
        "version": event.version,
        "type": type(event.payload).__name__,
        "at": event.at,
        "actor": event.actor,
        "data": json.dumps(encode(event.payload)),
        "request_id": event.metadata.request_id,
        "client_address": event.metadata.client_address,
        "client_agent": event.metadata.client_agent,
        "idempotency_key": event.metadata.idempotency_key,
        "fingerprint": event.metadata.fingerprint,
        "salt": event.salt,
        "personal": None,
    }


@given(facts)
def test_a_payload_is_decoded_as_it_was_encoded(payload: TaskEvent) -> None:
    assert decode(type(payload).__name__, encode(payload)) == payload


def test_empty_text_is_another_value_than_none() -> None:
    for payload in (
        TaskCreated("x", None, completed=False, due_date=""),
        TaskUpdated({"due_date": None}, {"due_date": ""}),
    ):
        assert decode(type(payload).__name__, encode(payload)) == payload


@given(events)
def test_an_event_is_read_from_its_row_as_it_was(event: Event) -> None:
    assert from_row(as_row(event)) == event


@given(events)
def test_the_digest_is_the_one_that_the_design_describes(event: Event) -> None:
    assert digest(event) == independent.digest(as_row(event))


def test_canonical_json_has_sorted_keys_no_spaces_and_plain_utf_8() -> None:
    assert canonical({"b": "ü\n\u2028\x7f", "a": {"d": None, "c": True}}) == (
        '{"a":{"c":true,"d":null},"b":"ü\\n\u2028\x7f"}'.encode()
    )


def test_the_form_of_stored_data_is_fixed() -> None:
    made = {"title": (None, "Buy milk"), "description": (None, None), "completed": (None, False)}
    assert encode(MILK) == {"v": 3, "changes": {name: {"from": a, "to": b} for name, (a, b) in made.items()}}
    assert encode(TaskDeleted("Buy milk", None, False)) == {
        "v": 3,
        "changes": {name: {"from": b, "to": a} for name, (a, b) in made.items()},
    }
    assert encode(TaskToggled(True)) == {"v": 3, "changes": {"completed": {"from": False, "to": True}}}
    assert encode(TaskUpdated({"title": "x"}, {"title": "y"})) == {
        "v": 3,
        "changes": {"title": {"from": "x", "to": "y"}},
    }
    assert encode(TaskRestored(2, DAWN, {"title": "x"}, {"title": "y"})) == {
        "v": 3,
        "changes": {"title": {"from": "x", "to": "y"}},
        "restored": {"version": 2, "created_at": "2026-11-20T06:00:00.000000Z"},
    }


def test_a_known_event_has_a_known_digest_for_ever() -> None:
    milk = event(MILK, 1)
    old = {"v": 1, "task": {"title": "Buy milk", "description": None, "completed": False}}
    assert hash_chain.digest(header(milk), old, meta(milk.metadata), milk.salt).hex() == (
        "424b8e03362da77b12013881f00bbd20c94b0e0d6ff5f7bae621d07a098350c1"
    )
    of_2 = {**encode(milk.payload), "v": 2}
    assert hash_chain.digest(header(milk), of_2, meta(milk.metadata), milk.salt).hex() == (
        "50d0bdfe6f4570ffdf071ea187444dcb442892320c857f8ef6269a4a4dfe67de"
    )
    assert digest(milk).hex() == "a547e9485421a7da8ab8109adc78e357ab1c3d5e912963d2cb0d29750c5df5a4"


def test_the_first_link_begins_with_nothing() -> None:
    assert hash_chain.link(hash_chain.GENESIS, b"d" * 32) == sha256(b"d" * 32).digest()
    assert hash_chain.link(b"h" * 32, b"d" * 32) == sha256(b"h" * 32 + b"d" * 32).digest()


@pytest.mark.parametrize(
    "change",
    [
        {"user_id": "bob"},
        {"version": 2},
        {"actor": "bob"},
        {"at": datetime(2027, 1, 1, tzinfo=UTC)},
        {"payload": TaskCreated("Buy silk", None, False)},
        {"payload": TaskToggled(True)},
        {"salt": bytes(15) + b"x"},
        {"metadata": Metadata(request_id="another")},
        {"metadata": Metadata()},
        {"metadata": Metadata(request_id="request-1", client_address="192.0.2.1")},
        {"metadata": Metadata(request_id="request-1", idempotency_key="k", fingerprint=bytes(32))},
    ],
)
def test_any_change_of_an_event_changes_its_digest(change: dict[str, Any]) -> None:
    original = event(MILK, 1)
    assert digest(replace(original, **change)) != digest(original)


@pytest.mark.parametrize(
    ("type_", "data"), [("TaskPainted", {"v": 1}), ("TaskCreated", {"v": 99}), ("TaskCreated", {})]
)
def test_an_event_of_a_newer_release_is_refused_and_not_guessed_at(type_: str, data: dict[str, Any]) -> None:
    with pytest.raises(UnknownEvent, match=type_):
        decode(type_, data)


def test_moments_always_have_six_decimals_and_z() -> None:
    assert rfc3339(datetime(2026, 11, 20, 19, 24, 49, tzinfo=UTC)) == "2026-11-20T19:24:49.000000Z"
    assert rfc3339(datetime(2026, 11, 20, 19, 24, 49, 76369, tzinfo=UTC)) == "2026-11-20T19:24:49.076369Z"
