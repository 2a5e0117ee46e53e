"""The one rule that folds events into a task."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from events.task import (
    Fields,
    ImpossibleEvent,
    Task,
    TaskDeleted,
    TaskEvent,
    TaskRestored,
    TaskToggled,
    TaskUpdated,
    evolve,
)
from tests.spec import DAWN, MILK, TASK, USER, event, fold


def test_a_creation_makes_version_1() -> None:
    at = DAWN + timedelta(seconds=1)
    assert fold(MILK) == Task(
        id=TASK,
        user_id=USER,
        title="Buy milk",
        description=None,
        completed=False,
        priority=None,
        due_date=None,
        tags=[],
        created_at=at,
        updated_at=at,
        completed_at=None,
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


def test_a_task_keeps_the_time_of_its_last_completion() -> None:
    renamed = TaskUpdated({"title": "Buy milk"}, {"title": "Buy oat milk"})
    task = fold(MILK, TaskToggled(True), renamed)
    assert task is not None
    assert (task.completed_at, task.updated_at) == (DAWN + timedelta(seconds=2), DAWN + timedelta(seconds=3))
    again = fold(MILK, TaskToggled(True), TaskToggled(False), TaskUpdated({"completed": False}, {"completed": True}))
    assert again is not None
    assert again.completed_at == DAWN + timedelta(seconds=4)
    reopened = fold(MILK, TaskToggled(True), TaskToggled(False))
    assert reopened is not None
    assert reopened.completed_at is None


def test_a_deletion_leaves_nothing() -> None:
    assert fold(MILK, TaskDeleted("Buy milk", None, False)) is None


@pytest.mark.parametrize("payload", [TaskUpdated({}, {}), TaskToggled(True), TaskDeleted("Buy milk", None, False)])
def test_no_event_follows_without_a_task(payload: TaskEvent) -> None:
    with pytest.raises(ImpossibleEvent, match=f"{type(payload).__name__} as version 1 .* no task"):
        evolve(None, event(payload, 1))


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


EMPTY: Fields = {"priority": None, "due_date": None, "tags": []}
DELETED = TaskDeleted("Buy milk", None, False)
BACK = TaskRestored(1, DAWN, {}, {**EMPTY, "title": "Buy milk", "description": None, "completed": True})


def test_a_restoration_brings_a_task_back_as_old_as_it_was() -> None:
    assert fold(MILK, DELETED, BACK) == Task(
        id=TASK,
        user_id=USER,
        title="Buy milk",
        description=None,
        completed=True,
        priority=None,
        due_date=None,
        tags=[],
        created_at=DAWN,
        updated_at=DAWN + timedelta(seconds=3),
        completed_at=DAWN + timedelta(seconds=3),
        version=3,
    )


def test_a_restoration_of_what_is_there_changes_its_fields_and_no_others() -> None:
    toggled = fold(MILK, TaskToggled(True))
    task = fold(MILK, TaskToggled(True), TaskRestored(1, DAWN, {"completed": True}, {"completed": False}))
    assert toggled is not None
    assert task == toggled._replace(
        completed=False, completed_at=None, version=3, updated_at=DAWN + timedelta(seconds=3)
    )


@pytest.mark.parametrize(
    ("payload", "version"),
    [
        (TaskRestored(1, DAWN, {"title": "x"}, {"title": "y"}), 3),  # only a part of the task
        (BACK, 1),  # nothing can have been before it
        (BACK, 2),  # nor a deletion
        (replace(BACK, version=3), 3),  # as it was after itself
    ],
)
def test_a_task_that_never_existed_is_not_restored(payload: TaskEvent, version: int) -> None:
    with pytest.raises(ImpossibleEvent):
        evolve(None, event(payload, version))


def test_a_field_that_a_later_release_adds_to_a_restoration_is_ignored() -> None:
    more: Any = {**BACK.after, "colour": "red"}
    assert fold(MILK, DELETED, replace(BACK, after=more)) == fold(MILK, DELETED, BACK)
