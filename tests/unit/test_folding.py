"""The one rule that folds events into a task."""

from datetime import timedelta

import pytest

from events.task import Fact, ImpossibleEvent, Task, TaskCreated, TaskDeleted, TaskToggled, TaskUpdated, evolve
from tests.spec import DAWN, TASK, USER, event, fold

MILK = TaskCreated("Buy milk", None, False)


def test_a_creation_makes_version_1() -> None:
    at = DAWN + timedelta(seconds=1)
    assert fold(MILK) == Task(
        id=TASK,
        user_id=USER,
        title="Buy milk",
        description=None,
        completed=False,
        created_at=at,
        updated_at=at,
        version=1,
    )


def test_an_update_changes_its_fields_and_no_others() -> None:
    task = fold(MILK, TaskUpdated({"title": "Buy milk"}, {"title": "Buy oat milk"}))
    assert task is not None
    assert (task.title, task.description, task.completed, task.version) == ("Buy oat milk", None, False, 2)
    assert (task.created_at, task.updated_at) == (DAWN + timedelta(seconds=1), DAWN + timedelta(seconds=2))


def test_a_toggle_sets_completed() -> None:
    task = fold(MILK, TaskToggled(True))
    assert task is not None
    assert (task.completed, task.version, task.updated_at) == (True, 2, DAWN + timedelta(seconds=2))


def test_a_deletion_leaves_nothing() -> None:
    assert fold(MILK, TaskDeleted("Buy milk", None, False)) is None


@pytest.mark.parametrize("fact", [TaskUpdated({}, {}), TaskToggled(True), TaskDeleted("Buy milk", None, False)])
def test_nothing_follows_where_there_is_no_task(fact: Fact) -> None:
    with pytest.raises(ImpossibleEvent, match=f"{type(fact).__name__} as version 1 .* no task"):
        evolve(None, event(fact, 1))


def test_a_task_is_not_created_over_another() -> None:
    with pytest.raises(ImpossibleEvent, match="can't follow a task at version 1"):
        evolve(fold(MILK), event(MILK, 1))


@pytest.mark.parametrize("version", [1, 3])
def test_no_version_is_skipped_or_repeated(version: int) -> None:
    with pytest.raises(ImpossibleEvent):
        evolve(fold(MILK), event(TaskToggled(True), version))


def test_a_creation_is_version_1() -> None:
    with pytest.raises(ImpossibleEvent):
        evolve(None, event(MILK, 2))
