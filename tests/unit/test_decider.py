"""Each rule of the decider, as given events, when a command, then events."""

from dataclasses import replace
from datetime import timedelta

import pytest

from commands.commands import CreateTask, DeleteTask, EraseTask, RestoreTask, ToggleTask, UndoEvent, UpdateTask
from commands.decider import (
    ChangedSince,
    NotRestorable,
    TaskExists,
    TaskNotFound,
    TaskState,
    VersionMismatch,
    decide,
    moment,
)
from commands.precondition import EntityTag, Precondition
from events.task import (
    Fields,
    TaskCreated,
    TaskDeleted,
    TaskErased,
    TaskEvent,
    TaskRestored,
    TaskToggled,
    TaskUpdated,
    fields,
)
from tests.spec import DAWN, MILK, TASK, USER, Ids, fold, given, hash_at

ID: Ids = {"user_id": USER, "task_id": TASK}


def test_a_task_is_created_as_asked() -> None:
    given().when(CreateTask(**ID, fields={"title": "Buy milk", "description": "2 litres", "completed": True})).then(
        TaskCreated("Buy milk", "2 litres", True)
    )


def test_a_task_is_not_created_twice() -> None:
    given(MILK).when(CreateTask(**ID, fields={"title": "Buy milk"})).then_raises(TaskExists)


def test_a_deleted_tasks_id_stays_taken() -> None:
    given(MILK, TaskDeleted("Buy milk")).when(CreateTask(**ID, fields={"title": "Buy milk"})).then_raises(TaskExists)


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


def test_a_task_that_never_existed_cannot_be_changed() -> None:
    for command in (UpdateTask(**ID, fields={"title": "x"}), ToggleTask(**ID), DeleteTask(**ID)):
        given().when(command).then_raises(TaskNotFound)


def test_a_deleted_task_cannot_be_changed() -> None:
    for command in (UpdateTask(**ID, fields={"title": "x"}), ToggleTask(**ID), DeleteTask(**ID)):
        given(MILK, TaskDeleted("Buy milk", None, False)).when(command).then_raises(TaskNotFound)


def tags(*versions: int) -> set[EntityTag]:
    """Name versions, whatever their events are."""
    return {EntityTag(version) for version in versions}


ELSEWHERE = b"another log's hash, as"
"""Before a restore from a backup there was another event with the same number."""


@pytest.mark.parametrize(
    "seen",
    [tags(1), tags(3, 2, 1), {EntityTag(1, hash_at(1)[:8])}, {EntityTag(1, ELSEWHERE), *tags(1)}, None],
)
def test_a_command_meant_for_the_present_version_is_carried_out(seen: set[EntityTag] | None) -> None:
    given(MILK).when(ToggleTask(**ID, precondition=Precondition(seen))).then(TaskToggled(True))


@pytest.mark.parametrize(
    ("known", "carried_out"),
    [(tags(1), False), (tags(2), True), ({EntityTag(1, hash_at(1)[:8])}, False), ({EntityTag(1, ELSEWHERE[:8])}, True)],
)
def test_a_command_not_meant_for_what_is_known_is_carried_out_on_anything_else(
    known: set[EntityTag], carried_out: bool
) -> None:
    toggled = given(MILK).when(ToggleTask(**ID, precondition=Precondition(none_match=known)))
    if carried_out:
        toggled.then(TaskToggled(True))
    else:
        toggled.then_raises(VersionMismatch)


@pytest.mark.parametrize(
    "others", [tags(2), tags(1, 2), tags(), {EntityTag(3, ELSEWHERE[:8])}, {EntityTag(2, hash_at(3))}]
)
def test_a_command_meant_for_other_versions_is_refused_also_where_it_would_change_nothing(
    others: set[EntityTag],
) -> None:
    seen = given(MILK, TaskToggled(True), TaskToggled(False))
    for command in (
        UpdateTask(**ID, fields={"title": "x"}, precondition=Precondition(others)),
        UpdateTask(**ID, fields={}, precondition=Precondition(others)),
        ToggleTask(**ID, precondition=Precondition(others)),
        DeleteTask(**ID, precondition=Precondition(others)),
    ):
        seen.when(command).then_raises(VersionMismatch, match="at version 3")


@pytest.mark.parametrize(
    ("seen", "when"),
    [
        (tags(2), "by now"),
        ({EntityTag(2, ELSEWHERE[:8])}, "by now"),
        ({EntityTag(1, ELSEWHERE[:8])}, "again, after a restore from a backup"),
    ],
)
def test_a_refusal_tells_who_was_first_from_a_log_that_was_restored(seen: set[EntityTag], when: str) -> None:
    given(MILK).when(ToggleTask(**ID, precondition=Precondition(seen))).then_raises(
        VersionMismatch, match=f"^The task is at version 1 {when}: "
    )


def test_a_missing_task_is_not_found_under_any_precondition() -> None:
    given().when(ToggleTask(**ID, precondition=Precondition(tags(1)))).then_raises(TaskNotFound)


DELETED = TaskDeleted("Oat milk", "2 litres", True)
LIFE = (
    TaskCreated("Buy milk", "2 litres", False),
    TaskUpdated({"title": "Buy milk"}, {"title": "Oat milk"}),
    TaskToggled(True),
    DELETED,
)
BORN = DAWN + timedelta(seconds=1)
EMPTY = Fields(priority=None, due_date=None, tags=[])
LAST = Fields(title="Oat milk", description="2 litres", completed=True, **EMPTY)


@pytest.mark.parametrize("version", [3, None])
def test_a_deleted_task_comes_back_as_it_last_was(version: int | None) -> None:
    given(*LIFE).when(RestoreTask(**ID, version=version)).then(TaskRestored(3, BORN, {}, LAST))


def test_a_deleted_task_can_come_back_as_it_once_was() -> None:
    given(*LIFE).when(RestoreTask(**ID, version=1)).then(
        TaskRestored(1, BORN, {}, Fields(title="Buy milk", description="2 litres", completed=False, **EMPTY))
    )


def test_a_restoration_of_what_is_there_records_only_what_changed() -> None:
    given(*LIFE[:3]).when(RestoreTask(**ID, version=2)).then(
        TaskRestored(2, BORN, {"completed": True}, {"completed": False})
    )
    given(*LIFE[:3]).when(RestoreTask(**ID, version=1)).then(
        TaskRestored(1, BORN, {"title": "Oat milk", "completed": True}, {"title": "Buy milk", "completed": False})
    )


@pytest.mark.parametrize("version", [3, None])
def test_a_restoration_to_what_it_is_leaves_no_event(version: int | None) -> None:
    given(*LIFE[:3]).when(RestoreTask(**ID, version=version)).then()


def test_a_task_can_be_deleted_and_brought_back_again_and_again() -> None:
    back = TaskRestored(3, BORN, {}, LAST)
    given(*LIFE, back, DELETED).when(RestoreTask(**ID)).then(replace(back, version=5))
    given(*LIFE, back).when(RestoreTask(**ID, version=1)).then(
        TaskRestored(1, BORN, {"title": "Oat milk", "completed": True}, {"title": "Buy milk", "completed": False})
    )


@pytest.mark.parametrize("seen", [tags(4), tags(1, 4), {EntityTag(4, hash_at(4)[:8])}, None])
def test_a_restoration_meant_for_the_deletion_is_carried_out(seen: set[EntityTag] | None) -> None:
    given(*LIFE).when(RestoreTask(**ID, precondition=Precondition(seen))).then(TaskRestored(3, BORN, {}, LAST))


@pytest.mark.parametrize("version", [None, 1, 4, 9])
def test_a_restoration_meant_for_another_version_is_refused(version: int | None) -> None:
    given(*LIFE).when(RestoreTask(**ID, version=version, precondition=Precondition(tags(3)))).then_raises(
        VersionMismatch, match="version 4"
    )


def test_a_task_that_never_existed_cannot_be_restored() -> None:
    given().when(RestoreTask(**ID, precondition=Precondition(tags(1)))).then_raises(TaskNotFound)
    given().when(RestoreTask(**ID)).then_raises(TaskNotFound)
    given().when(RestoreTask(**ID, version=1)).then_raises(TaskNotFound)


def test_a_version_that_never_was_or_was_the_deletion_cannot_be_restored() -> None:
    given(*LIFE).when(RestoreTask(**ID, version=5)).then_raises(NotRestorable, match="has versions 1 to 4")
    given(*LIFE).when(RestoreTask(**ID, version=4)).then_raises(NotRestorable, match="Version 4 is the task's deletion")


def test_an_event_happens_now_but_after_the_last_one_whatever_the_clock_says() -> None:
    task = fold(MILK)
    assert task is not None
    assert moment(DAWN, None) == DAWN
    last = task.updated_at
    assert moment(last + timedelta(hours=1), last) == last + timedelta(hours=1)
    assert moment(last, last) == last + timedelta(microseconds=1)
    assert moment(last - timedelta(hours=1), last) == last + timedelta(microseconds=1)


RENAMED = TaskUpdated({"title": "Buy milk"}, {"title": "Buy oat milk"})
DELETED = TaskDeleted("Buy milk")
BACK = TaskRestored(1, fold(MILK).created_at, {}, fields(MILK))  # type: ignore[union-attr]


def undo(version: int, **more: Precondition) -> UndoEvent:
    return UndoEvent(**ID, version=version, **more)


def test_an_undo_takes_back_what_the_event_changed() -> None:
    given(MILK).when(undo(1)).then(DELETED)
    given(MILK, RENAMED).when(undo(2)).then(TaskUpdated({"title": "Buy oat milk"}, {"title": "Buy milk"}))
    given(MILK, TaskToggled(True)).when(undo(2)).then(TaskToggled(False))
    given(MILK, DELETED).when(undo(2)).then(BACK)
    given(MILK, DELETED, BACK).when(undo(3)).then(DELETED)
    again = TaskRestored(1, BACK.created_at, {"title": "Buy oat milk"}, {"title": "Buy milk"})
    given(MILK, RENAMED, again).when(undo(3)).then(RENAMED)


def test_an_undo_can_be_undone() -> None:
    given(MILK, RENAMED, TaskUpdated({"title": "Buy oat milk"}, {"title": "Buy milk"})).when(undo(3)).then(RENAMED)


def test_an_undo_leaves_what_later_events_changed_elsewhere() -> None:
    noted = TaskUpdated({"description": None}, {"description": "2 litres"})
    given(MILK, RENAMED, noted, TaskToggled(True)).when(undo(2)).then(
        TaskUpdated({"title": "Buy oat milk"}, {"title": "Buy milk"})
    )


def refused(*facts: TaskEvent, version: int) -> list[str]:
    with pytest.raises(ChangedSince) as refusal:
        given(*facts).when(undo(version)).then()
    return [*refusal.value.fields]


def test_an_undo_names_what_later_events_changed() -> None:
    both = TaskUpdated({"title": "Buy milk", "completed": False}, {"title": "x", "completed": True})
    assert refused(MILK, RENAMED, version=1) == ["title"]
    assert refused(MILK, both, TaskToggled(False), version=2) == ["completed"]
    assert refused(MILK, both, TaskUpdated({"title": "x"}, {"title": "y"}), TaskToggled(False), version=2) == [
        "title",
        "completed",
    ]


def test_an_undo_of_what_is_gone_or_came_back_since_is_refused() -> None:
    assert refused(MILK, RENAMED, TaskDeleted("Buy oat milk"), version=2) == []
    assert refused(MILK, DELETED, BACK, version=2) == []


def test_an_undo_of_a_deletion_names_what_changed_before_a_later_deletion() -> None:
    again = (MILK, DELETED, BACK, RENAMED, TaskDeleted("Buy oat milk"))
    assert refused(*again, version=2) == ["title"]
    given(*again).when(undo(5)).then(replace(BACK, version=4, after={**BACK.after, "title": "Buy oat milk"}))
    given(MILK, DELETED, BACK, DELETED).when(undo(2)).then(BACK)


def test_a_value_that_was_changed_and_changed_back_can_be_undone() -> None:
    back = TaskUpdated({"title": "x"}, {"title": "Buy oat milk"})
    given(MILK, RENAMED, TaskUpdated({"title": "Buy oat milk"}, {"title": "x"}), back).when(undo(2)).then(
        TaskUpdated({"title": "Buy oat milk"}, {"title": "Buy milk"})
    )


def test_an_undo_has_the_tasks_precondition() -> None:
    stale = Precondition(match={EntityTag(1)})
    given(MILK, RENAMED).when(undo(2, precondition=stale)).then_raises(VersionMismatch)


def test_an_erasure_that_is_recorded_is_not_refused_for_its_condition() -> None:
    deleted = given(MILK, TaskDeleted("Buy milk"))
    condition = Precondition(match=frozenset({EntityTag(2)}))
    command = EraseTask(**ID, reason=None, precondition=condition)
    deleted.when(command).then(TaskErased(None))
    assert decide(command, TaskState(version=3, hash=b"hash", at=DAWN, erased=True)) is None
