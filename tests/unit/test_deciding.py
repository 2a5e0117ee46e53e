"""Every rule of the write side, as given events, when a command, then events."""

from datetime import timedelta

from commands.task import (
    CreateTask,
    DeleteTask,
    TaskExists,
    TaskNotFound,
    ToggleTask,
    UpdateTask,
    moment,
)
from events.task import TaskCreated, TaskDeleted, TaskToggled, TaskUpdated
from tests.spec import DAWN, TASK, USER, Ids, fold, given

MILK = TaskCreated("Buy milk", None, False)
ID: Ids = {"user_id": USER, "task_id": TASK}


def test_a_task_is_created_as_asked() -> None:
    given().when(CreateTask(**ID, title="Buy milk", description="2 litres", completed=True)).then(
        TaskCreated("Buy milk", "2 litres", True)
    )


def test_a_task_is_not_created_twice() -> None:
    given(MILK).when(CreateTask(**ID, title="Buy milk")).then_raises(TaskExists)


def test_an_update_records_only_what_changed() -> None:
    given(MILK).when(UpdateTask(**ID, fields={"title": "Buy oat milk", "description": None, "completed": False})).then(
        TaskUpdated({"title": "Buy milk"}, {"title": "Buy oat milk"})
    )


def test_an_update_records_every_field_that_changed() -> None:
    given(MILK).when(UpdateTask(**ID, fields={"title": "Milk", "description": "now", "completed": True})).then(
        TaskUpdated(
            {"title": "Buy milk", "description": None, "completed": False},
            {"title": "Milk", "description": "now", "completed": True},
        )
    )


def test_an_update_can_clear_the_description() -> None:
    given(TaskCreated("Buy milk", "2 litres", False)).when(UpdateTask(**ID, fields={"description": None})).then(
        TaskUpdated({"description": "2 litres"}, {"description": None})
    )


def test_an_update_that_changes_nothing_leaves_no_event() -> None:
    given(MILK).when(UpdateTask(**ID, fields={"title": "Buy milk", "completed": False})).then()


def test_an_empty_update_leaves_no_event() -> None:
    given(MILK).when(UpdateTask(**ID, fields={})).then()


def test_a_toggle_turns_completed_over_and_back() -> None:
    given(MILK).when(ToggleTask(**ID)).then(TaskToggled(True))
    given(MILK, TaskToggled(True)).when(ToggleTask(**ID)).then(TaskToggled(False))


def test_setting_completed_is_safe_to_repeat() -> None:
    given(MILK).when(ToggleTask(**ID, completed=True)).then(TaskToggled(True))
    given(MILK, TaskToggled(True)).when(ToggleTask(**ID, completed=True)).then()


def test_a_deletion_keeps_the_task_as_it_last_was() -> None:
    given(MILK, TaskToggled(True)).when(DeleteTask(**ID)).then(TaskDeleted("Buy milk", None, True))


def test_what_was_never_there_cannot_be_changed() -> None:
    for command in (UpdateTask(**ID, fields={"title": "x"}), ToggleTask(**ID), DeleteTask(**ID)):
        given().when(command).then_raises(TaskNotFound)


def test_what_was_deleted_cannot_be_changed() -> None:
    for command in (UpdateTask(**ID, fields={"title": "x"}), ToggleTask(**ID), DeleteTask(**ID)):
        given(MILK, TaskDeleted("Buy milk", None, False)).when(command).then_raises(TaskNotFound)


def test_an_event_happens_now_but_after_the_last_one_whatever_the_clock_says() -> None:
    task = fold(MILK)
    assert task is not None
    assert moment(DAWN, None) == DAWN
    assert moment(task.updated_at + timedelta(hours=1), task) == task.updated_at + timedelta(hours=1)
    assert moment(task.updated_at, task) == task.updated_at + timedelta(microseconds=1)
    assert moment(task.updated_at - timedelta(hours=1), task) == task.updated_at + timedelta(microseconds=1)
