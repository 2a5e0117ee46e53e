"""The answer about many tasks that are put back is made in slices, between which other requests run."""

import orjson
import pytest
from uuid_utils.compat import uuid7

from api.routers.restore import restored_tasks
from commands.restore_all import TaskPutBack
from tests.arrange import busy_loop, end_a_slice_at_each_step


@pytest.mark.parametrize("number", [0, 1, 200, 201, 5000])
async def test_other_requests_run_while_it_is_made(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    end_a_slice_at_each_step(monkeypatch)
    changes = [TaskPutBack(uuid7(), f"task {n}", "TaskRestored", ("title",), n or None) for n in range(number)]
    expected = orjson.dumps({"dry_run": True, "changes": changes}, default=str)
    async with busy_loop() as loop:
        body = await restored_tasks("ann", changes, dry_run=True)
    assert bytes(body) == expected
    assert loop.turns >= number // 200
