"""The wire names every field of a task that a user may set: one that is forgotten would be lost without a word."""

import pytest

from api import schemas
from events.task import FIELDS


@pytest.mark.parametrize("model", [schemas.NewTask, schemas.TaskChanges, schemas.Changes])
def test_every_field_is_on_the_wire(model: type) -> None:
    assert [name for name in model.__annotations__ if name != "id"] == [*FIELDS]


def test_a_task_is_answered_with_every_field() -> None:
    assert {*FIELDS} <= {*schemas.Task.__annotations__}
