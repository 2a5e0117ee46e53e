"""An array of long documents is made in slices, between which other requests run."""

import asyncio

import pytest

from events.projection import array_of, task_document
from queries.json_array import json_array
from tests.arrange import end_a_slice_at_each_step
from tests.spec import MILK_TASK


def documents(number: int, length: int) -> list[bytes]:
    return [task_document(MILK_TASK._replace(title="x" * length, version=each)) for each in range(number)]


@pytest.mark.parametrize("number", [1, 2, 100])
@pytest.mark.parametrize("length", [10, 300_000])
async def test_the_array_is_the_same_however_long_it_is(number: int, length: int) -> None:
    assert bytes(await json_array("ann", documents(number, length))) == array_of(documents(number, length))


async def test_no_documents_make_an_empty_array() -> None:
    assert await json_array("ann", []) == b"[]"


async def test_other_requests_run_between_long_documents_and_each_is_freed_once_it_is_copied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    end_a_slice_at_each_step(monkeypatch)
    left, seen = documents(20, 20_000), list[int]()
    making = asyncio.create_task(json_array("ann", left))
    while not making.done():
        seen.append(len(left))
        await asyncio.sleep(0)
    assert [*dict.fromkeys(seen)] == [*range(20, -1, -1)]
