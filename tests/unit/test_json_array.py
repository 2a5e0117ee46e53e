"""An array has each document in its present form, and is made in slices, between which other requests run."""

import asyncio
from typing import Any

import orjson
import pytest

from events.projection import task_document
from queries.json_array import json_array
from tests.arrange import end_a_slice_at_each_step
from tests.spec import MILK_TASK


def documents(number: int, length: int) -> list[bytes]:
    return [task_document(MILK_TASK._replace(title="x" * length, version=each)) for each in range(number)]


@pytest.mark.parametrize(("number", "length"), [(1, 10), (99, 10), (100, 10), (101, 10), (60, 20_000), (250, 20_000)])
async def test_the_array_is_the_same_however_long_it_is(number: int, length: int) -> None:
    expected = b"[%b]" % b",".join(documents(number, length))
    assert bytes(await json_array("ann", documents(number, length))) == expected


@pytest.mark.parametrize("length", [10, 20_000])
@pytest.mark.parametrize("place", [0, 19, 20, 120])
async def test_a_document_of_a_former_form_gets_its_new_fields(place: int, length: int) -> None:
    present = documents(121, length)
    former, task = [*present], orjson.loads(present[place])
    former[place] = orjson.dumps({name: task[name] for name in task if name != "priority"})
    assert bytes(await json_array("ann", former)) == b"[%b]" % b",".join(present)


@pytest.mark.parametrize("text", ['ity":', ',"priority":', '\\ity":'])
@pytest.mark.parametrize("field", ["title", "description", "tags"])
async def test_a_text_is_not_taken_for_a_field(field: str, text: str) -> None:
    changed: dict[str, Any] = {field: [text] if field == "tags" else text}
    task = MILK_TASK._replace(**changed)
    former = orjson.loads(task_document(task))
    del former["priority"]
    assert await json_array("ann", [orjson.dumps(former)]) == b"[%b]" % task_document(task)


async def test_no_documents_make_an_empty_array() -> None:
    assert await json_array("ann", []) == b"[]"


async def test_other_requests_run_meanwhile_and_documents_are_freed_once_they_are_copied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    end_a_slice_at_each_step(monkeypatch)
    left, seen = documents(1000, 20_000), list[int]()
    making = asyncio.create_task(json_array("ann", left))
    while not making.done():
        seen.append(len(left))
        await asyncio.sleep(0)
    assert [*dict.fromkeys(seen)] == [*range(1000, -1, -20)]
