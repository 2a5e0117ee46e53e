"""Documents of former forms are answered with all fields, in their places, and remembered tasks count all texts."""

from typing import Any

import orjson
import pytest

from events.projection import present_form, task_document
from events.task import Task
from queries.remembered_tasks import size_of
from tests.spec import DAWN, MILK_TASK

DONE = MILK_TASK._replace(completed=True, completed_at=DAWN)


@pytest.mark.parametrize(
    ("task", "lacking"),
    [
        (MILK_TASK, ["priority", "due_date", "tags", "completed_at"]),
        (DONE, ["priority"]),  # as when the field is the only one that was added
        (DONE._replace(title=',"priority":', tags=["a"]), ["priority", "due_date"]),
    ],
)
def test_a_document_of_a_former_form_has_all_fields_in_their_places(task: Task, lacking: list[str]) -> None:
    document = orjson.loads(task_document(task))
    former = orjson.dumps({name: value for name, value in document.items() if name not in lacking})
    assert present_form(former) == task_document(task)


def test_a_document_of_the_present_form_is_answered_as_it_is() -> None:
    document = task_document(DONE)
    assert present_form(document) is document


@pytest.mark.parametrize("field", [name for name, type_ in Task.__annotations__.items() if type_ in (str, str | None)])
def test_each_text_of_a_remembered_task_counts(field: str) -> None:
    longer: dict[str, Any] = {field: "x" * 5000}
    assert size_of(MILK_TASK._replace(**longer)) >= size_of(MILK_TASK) + 5000 - 255


def test_tags_of_a_remembered_task_count() -> None:
    assert size_of(MILK_TASK._replace(tags=["x" * 50] * 20)) == size_of(MILK_TASK) + 1000
