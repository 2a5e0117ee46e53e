"""Bodies that are made to keep the event loop busy."""

from typing import Any

import orjson
import pytest
from fastapi import Request
from pydantic import TypeAdapter, ValidationError

from api.operations import Operations
from api.preconditions import _canonical_body, fingerprint
from api.problems import Invalid
from api.request_body import _has_many_fields, _validate, _without_excess, json_body

_ID = "01a1faae-1629-7326-8868-5894cfd36f95"


def request() -> Request:
    return Request(
        {
            "type": "http",
            "method": "POST",
            "headers": [],
            "query_string": b"",
            "path_params": {"user_id": "ann"},
            "route": type("Route", (), {"path": "/api/{user_id}/batch"}),
        }
    )


async def refusal(body: bytes) -> Invalid:
    with pytest.raises(Invalid) as refused:
        await json_body(Operations)(request(), body)
    return refused.value


def with_fields(number: int, **known: Any) -> dict[str, Any]:
    return {**{f"unknown{each}": each for each in range(number)}, **known}


async def test_of_many_unknown_fields_as_many_are_looked_at_as_are_listed() -> None:
    many = orjson.dumps({"operations": [with_fields(1_000, op="complete", id=_ID, completed="maybe")] * 3})
    few = orjson.dumps({"operations": [with_fields(20, op="complete", id=_ID, completed="maybe")] * 3})
    assert _without_excess(many, {"operations", "op", "id", "completed"}) == few
    errors = (await refusal(many)).errors
    assert errors == (await refusal(few)).errors
    assert len(errors) == 20


def test_few_fields_are_not_counted_however_long_they_are() -> None:
    """To parse a megabyte twice would take twice as long."""
    long = {"op": "create", "title": "long", "description": "x" * 5_000}
    assert not _has_many_fields(orjson.dumps({"operations": [long] * 100}))
    assert _has_many_fields(orjson.dumps({"operations": [with_fields(201)]}))
    assert _has_many_fields(orjson.dumps({"operations": [{**long, **with_fields(20)}] * 100}))


def test_so_it_is_beside_half_a_character() -> None:
    operation = with_fields(1_000, op="complete", id=_ID)
    body = orjson.dumps({"operations": [operation] * 3}).replace(b'"unknown0":0', b'"unknown0":"\\ud800"')
    assert b"\\ud800" in body
    with pytest.raises(ValidationError) as refused:
        _validate(TypeAdapter(Operations), body, {"operations", "op", "id"})
    assert refused.value.error_count() == 3 * 20


async def test_known_fields_behind_many_unknown_ones_are_read() -> None:
    body = {"operations": [with_fields(1_000, op="create", title="Buy milk"), {"op": "delete", "id": _ID}]}
    read = await json_body(Operations)(request(), orjson.dumps(body))
    first, second = read.operations
    assert (first.title, second["op"]) == ("Buy milk", "delete")  # type: ignore[union-attr, index] # one is a model, the other a TypedDict


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b'{"a": [1.0, {"b": 2e0}], "c": -0.0}', b'{"c":0,"a":[1,{"b":2}]}'),
        (b'{"a": 1e308}', b'{ "a":1E+308 }'),
        (b'{"a": 9007199254740992.0}', b'{"a":9007199254740992}'),
        (b"\xef\xbb\xbf{}", b""),
    ],
)
def test_spellings_of_one_body_have_one_fingerprint(one: bytes, other: bytes) -> None:
    assert fingerprint(request(), one) == fingerprint(request(), other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b'{"a": 1}', b'{"a": 1.5}'),
        (b'{"a": "1.0"}', b'{"a": "1"}'),
        (b'{"a": 1e308}', b'{"a": 1e307}'),
        (b"[" * 2_000 + b"1.0" + b"]" * 2_000, b"[" * 2_000 + b"2.0" + b"]" * 2_000),
        (b"[" * 1_000 + b"1.0" + b"]" * 1_000, b"[" * 1_000 + b"2.0" + b"]" * 1_000),
    ],
)
def test_different_bodies_have_different_fingerprints(one: bytes, other: bytes) -> None:
    assert fingerprint(request(), one) != fingerprint(request(), other)


def test_a_large_float_stays_as_short_as_it_was_sent() -> None:
    body = b"[" + b",".join([b"1e308"] * 1_000) + b"]"
    assert len(_canonical_body(body)) < 2 * len(body)
