"""Priority, due date and tags of a task, and when it was completed (docs/http-api.md, "Tasks")."""

from calendar import monthrange
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from api.schemas import NewTask
from api.times import read_due_date
from events.serialization import rfc3339
from queries.tasks import Now
from tests.service import TASKS, Service

NOTHING: dict[str, Any] = {"priority": None, "due_date": None, "tags": [], "completed_at": None}


def shown(task: dict[str, Any]) -> dict[str, Any]:
    return {name: task[name] for name in NOTHING}


async def test_a_task_has_none_of_them_unless_given(service: Service) -> None:
    made = (await service.client.post(TASKS, json={"title": "x"})).json()
    assert shown(made) == NOTHING
    cleared = {"title": "x", "priority": None, "due_date": None, "tags": None}
    assert shown((await service.client.post(TASKS, json=cleared)).json()) == NOTHING
    empty = {"title": "x", "priority": "", "due_date": "", "tags": []}
    assert shown((await service.client.post(TASKS, json=empty)).json()) == NOTHING


async def test_they_are_kept_and_changed_and_cleared(service: Service) -> None:
    given_ = {"title": "x", "priority": "High", "due_date": "2026-12-01T18:00:00+02:00", "tags": ["home ", "b", "home"]}
    made = (await service.client.post(TASKS, json=given_)).json()
    whole = {"priority": "high", "due_date": "2026-12-01T16:00:00.000000Z", "tags": ["home", "b"], "completed_at": None}
    assert shown(made) == whole
    path = f"{TASKS}/{made['id']}"
    assert (await service.client.get(path)).json() == made
    changed = (await service.client.patch(path, json={"due_date": "2026-12-01", "tags": ["b", "home"]})).json()
    assert shown(changed) == {**whole, "due_date": "2026-12-01", "tags": ["b", "home"]}
    put = (await service.client.put(path, json={"title": "y"})).json()
    assert shown(put) == shown(changed)  # what a client doesn't know is kept
    assert shown((await service.client.patch(path, json={"priority": None, "due_date": "", "tags": None})).json()) == {
        **NOTHING
    }
    history = (await service.client.get(f"{path}/history")).json()
    assert history[1]["changes"] == {
        "due_date": {"from": "2026-12-01T16:00:00.000000Z", "to": "2026-12-01"},
        "tags": {"from": ["home", "b"], "to": ["b", "home"]},
    }
    restored = (await service.client.post(f"{path}/restore", json={"version": 1})).json()
    assert shown(restored) == whole
    await service.client.delete(path)
    assert shown((await service.client.post(f"{path}/restore")).json()) == whole


async def test_when_a_task_was_completed_is_said(service: Service) -> None:
    made = (await service.client.post(TASKS, json={"title": "x", "completed": True})).json()
    assert made["completed_at"] == made["created_at"]
    path = f"{TASKS}/{made['id']}"
    renamed = (await service.client.patch(path, json={"title": "y"})).json()
    assert renamed["completed_at"] == made["created_at"]
    assert (await service.client.patch(f"{path}/complete")).json()["completed_at"] is None
    again = (await service.client.patch(f"{path}/complete")).json()
    assert again["completed_at"] == again["updated_at"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"priority": "urgent"}, "Priority must be 'low', 'medium' or 'high'."),
        ({"priority": 1}, "Priority must be 'low', 'medium' or 'high'."),
        ({"due_date": "tomorrow"}, "Due date must be a date (2026-12-01), or a time with its offset from UTC "),
        ({"due_date": "2026-02-29"}, "Due date must be a date"),
        ({"due_date": "2026-12-01T18:00:00"}, "Due date must be a date"),
        ({"due_date": "20261201"}, "Due date must be a date"),
        ({"due_date": 20261201}, "Due date must be a date"),
        ({"due_date": "0001-01-01T00:00:00+14:00"}, "Due date must be a date"),
        ({"tags": "home"}, "Tags must be a list."),
        ({"tags": [1]}, "Tags must be text."),
        ({"tags": [""]}, "Tags must not be empty."),
        ({"tags": ["x" * 51]}, "Tags must have at most 50 characters."),
        ({"tags": ["a\nb"]}, "Tags must not contain control characters (U+000A)."),
        ({"tags": ["\u200b"]}, "Tags must hold something visible."),
        ({"tags": [f"tag {number}" for number in range(21)]}, "Tags must have at most 20 entries."),
    ],
)
async def test_what_cannot_be_meant_is_refused(service: Service, body: dict[str, Any], message: str) -> None:
    for answer in (
        await service.client.post(TASKS, json={"title": "x", **body}),
        await service.client.patch(f"{TASKS}/01a1faae-b46b-7282-813f-2d77eb9b3c64", json=body),
    ):
        assert answer.status_code == 422
        assert answer.json()["detail"].startswith(message)


async def test_twenty_tags_of_any_script_keep_their_order(service: Service) -> None:
    tags = [f"{number} Ελλ \U0001f469\u200d\U0001f467 'q' \\ % _ , {{}}" for number in range(20)]
    made = (await service.client.post(TASKS, json={"title": "x", "tags": tags})).json()
    assert made["tags"] == tags
    for tag in tags:
        assert [task["id"] for task in (await service.client.get(TASKS, params={"tag": tag})).json()] == [made["id"]]
    assert (await service.client.get(TASKS, params={"tag": tags[0][:-1]})).json() == []


_ZONES = (
    *("Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Africa/Cairo", "Australia/Lord_Howe"),
    *("Asia/Kathmandu", "Pacific/Apia", "Pacific/Kiritimati", "Pacific/Niue", "UTC"),
)


@given(st.integers(0, 10000), st.integers(0, 13), st.integers(0, 32))
@example(1, 1, 1)
@example(9999, 12, 31)
@example(2000, 2, 29)
@example(1900, 2, 29)
@example(2028, 2, 29)
@example(2026, 2, 29)
def test_a_date_is_kept_as_it_is_if_the_calendar_has_it(year: int, month: int, day: int) -> None:
    text = f"{year:04}-{month:02}-{day:02}"
    if 1 <= year <= 9999 and 1 <= month <= 12 and 1 <= day <= monthrange(year, month)[1]:
        assert read_due_date(text) == text
    else:
        with pytest.raises(ValueError, match="must be a date"):
            read_due_date(text)


@given(st.datetimes(), st.integers(-14 * 60, 14 * 60))
@example(datetime(1, 1, 1), 60)  # noqa: DTZ001 - the offset is beside it
@example(datetime(9999, 12, 31, 23, 59, 59, 999999), -60)  # noqa: DTZ001 - as above
@example(datetime(2028, 2, 29, 23, 30), -60)  # noqa: DTZ001 - as above
def test_a_moment_of_any_offset_is_one_in_utc(moment: datetime, minutes: int) -> None:
    offset = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
    sent = f"{moment.isoformat(timespec='microseconds')}{offset}"
    try:
        utc = moment - timedelta(minutes=minutes)
    except OverflowError:  # in UTC it is outside of the calendar
        with pytest.raises(ValueError, match="must be a date"):
            read_due_date(sent)
    else:
        assert read_due_date(sent) == f"{utc.isoformat(timespec='microseconds')}Z"


@given(
    st.dates(date(1995, 1, 1), date(2037, 12, 31)),
    st.timedeltas(timedelta(hours=-40), timedelta(hours=40)),
    st.sampled_from(_ZONES),
)
def test_a_date_is_over_when_its_day_has_ended_in_the_zone(day: date, since: timedelta, name: str) -> None:
    zone = ZoneInfo(name)
    end = datetime.combine(day + timedelta(days=1), time(0), zone).astimezone(UTC)  # of 23, 24 or 25 hours, or none
    for moment in (end + since, end - timedelta(microseconds=1), end):
        now = Now.at(moment, zone)
        assert now.is_past(day.isoformat()) == (moment >= end)
        assert now.is_past(rfc3339(end)) == (moment > end)
        assert not now.is_past(None)


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12).map(lambda begins: f"{begins}x")


@given(st.lists(texts, max_size=25), st.lists(st.integers(0, 24), max_size=10))
def test_tags_of_any_script_keep_their_order_and_count_once(tags: list[str], repeated: list[int]) -> None:
    sent = [*tags, *(tags[number] for number in repeated if number < len(tags))]
    distinct = [tag.strip() for at, tag in enumerate(sent) if tag.strip() not in [each.strip() for each in sent[:at]]]
    if len(distinct) <= 20:
        assert NewTask.model_validate({"title": "x", "tags": sent}).tags == distinct
    else:
        with pytest.raises(ValidationError, match="at most 20"):
            NewTask.model_validate({"title": "x", "tags": sent})


@pytest.mark.parametrize(("number", "is_taken"), [(20, True), (21, False)])
def test_a_tag_that_is_given_twice_does_not_count_towards_twenty(*, number: int, is_taken: bool) -> None:
    sent = [f"tag {each}" for each in range(number)]
    sent.insert(3, "tag 0")
    if is_taken:
        assert NewTask.model_validate({"title": "x", "tags": sent}).tags == [f"tag {each}" for each in range(number)]
    else:
        with pytest.raises(ValidationError):
            NewTask.model_validate({"title": "x", "tags": sent})


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "POST"])
async def test_counts_are_only_read(service: Service, method: str) -> None:
    answer = await service.client.request(method, f"{TASKS}/stats", json={"title": "x"})
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
