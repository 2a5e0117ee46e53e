"""Reads of the past, restoration, and a history that folds to the present (docs/http-api.md, "History")."""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    multiple,
    rule,
    run_state_machine_as_test,
)

from events.serialization import rfc3339
from events.task import FIELDS, Fields
from tests.conftest import FROM_TEMPLATE, new_database
from tests.service import TASKS, Service, serving
from tests.strategies import accepted_descriptions, accepted_titles, all_fields, changes

TASK_ID = "019a9e3c-5f3a-7c21-9d52-3d0c5f0e8a11"

pytestmark = pytest.mark.once
VIEWS = (
    *("", "completed=true", "sort=title&order=desc", "q=a", "sort=updated_at&limit=2&offset=1"),
    *("priority=high&sort=due_date", "due_after=2000-01-01&sort=priority", "sort=completed_at&order=asc"),
)
"""Ways to ask for the list; each means the same in the past."""

Body = dict[str, Any] | None


def fields(body: Body) -> dict[str, Any]:
    assert body is not None
    return {name: body[name] for name in FIELDS}


class Remembered(RuleBasedStateMachine):
    """A state machine that changes a user's tasks, and keeps what GET answered after each change."""

    tasks = Bundle[str]("tasks")

    def __init__(self, runner: asyncio.Runner, service: Service) -> None:
        super().__init__()
        self.runner, self.service = runner, service

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    @initialize()
    def a_new_user(self) -> None:
        user = f"ann-{uuid4().hex}"
        self.client = self.service.as_user(user)
        self.path = f"/api/{user}/tasks"
        self.versions: dict[str, list[Body]] = {}
        self.moments: list[tuple[str, dict[str, Any], dict[str, Body]]] = []

    async def get(self, path: str = "", query: str = "") -> Any:
        answer = await self.client.get(f"{self.path}{path}{query and '?'}{query}")
        assert answer.status_code in (200, 404), answer.text
        return answer.json() if answer.status_code == 200 else None

    async def remember(self, task: str) -> None:
        """Keep what GET answers now; a version that wasn't there before is the task's next."""
        now = await self.get(f"/{task}")
        known = self.versions.setdefault(task, [])
        there = bool(known) and known[-1] is not None
        if now is None and there:
            known.append(None)
        elif now is not None and now["version"] == len(known) + 1:
            known.append(now)
            self.moments.append((now["updated_at"], {}, {task: now}))
        else:
            assert now == (known[-1] if known else None)
        lists = {view: await self.get(query=view) for view in VIEWS}
        each = {task: versions[-1] for task, versions in self.versions.items()}
        self.moments.append((rfc3339(datetime.now(UTC)), lists, each))

    async def do(self, method: str, task: str, path: str = "", json: Any = None) -> httpx2.Response:
        answer = await self.client.request(method, f"{self.path}/{task}{path}", json=json)
        await self.remember(task)
        return answer

    @rule(target=tasks, fields=all_fields(accepted_titles, accepted_descriptions))
    def create(self, fields: Fields) -> str:
        answer = self.run(self.client.post(self.path, json=fields))
        task: str = answer.json()["id"]
        self.run(self.remember(task))
        return task

    @rule(target=tasks, number=st.integers(2, 3))
    def create_some(self, number: int) -> Any:
        return multiple(*(self.create(fields={"title": "Banana"}) for _ in range(number)))

    @rule(task=tasks, change=changes(accepted_titles, accepted_descriptions))
    def change(self, task: str, change: Any) -> None:
        there = self.versions[task][-1] is not None
        assert self.run(self.do("PATCH", task, json=change.after)).status_code == (200 if there else 404)

    @rule(task=tasks)
    def toggle(self, task: str) -> None:
        self.run(self.do("PATCH", task, "/complete"))

    @rule(task=tasks)
    def delete(self, task: str) -> None:
        self.run(self.do("DELETE", task))

    @rule(task=tasks, back=st.integers(-1, 5))
    def restore_a_version(self, task: str, back: int) -> None:
        version = max(1, len(self.versions[task]) - back)
        self.restored(task, {"version": version}, self.versions[task][version - 1 : version])

    @rule(task=tasks)
    def restore(self, task: str) -> None:
        there = [body for body in self.versions[task] if body is not None]
        self.restored(task, None, [there[-1]])

    def restored(self, task: str, body: Any, then: list[Body]) -> None:
        before = self.versions[task][-1]
        count = len(self.versions[task])
        answer = self.run(self.do("POST", task, "/restore", json=body))
        if not then or then[0] is None:
            assert (answer.status_code, len(self.versions[task])) == (422, count)
            return
        now = answer.json()
        assert answer.status_code == 200
        assert fields(now) == fields(then[0])
        assert now["created_at"] == then[0]["created_at"]
        changed = before is None or fields(before) != fields(now)
        assert now["version"] == count + changed
        assert now == self.versions[task][-1]

    def teardown(self) -> None:
        if hasattr(self, "client"):
            self.run(self.compare())

    async def compare(self) -> None:
        for task, versions in self.versions.items():
            for number, body in enumerate([*versions, None], 1):
                assert await self.get(f"/{task}", f"version={number}") == body
            history = await self.get(f"/{task}/history")
            assert [event["version"] for event in history] == list(range(1, len(versions) + 1))
            assert self.folded(task, history) == versions
        for moment, lists, each in self.moments:
            for view, body in lists.items():
                assert await self.get(query=f"as_of={moment}&{view}") == body
            for task, body in each.items():
                assert await self.get(f"/{task}", f"as_of={moment}") == body
        await self.client.aclose()

    def folded(self, task: str, history: list[dict[str, Any]]) -> list[Body]:
        """Fold each version from the changes alone, without any code of the service."""
        states: list[Body] = []
        state: dict[str, Any] = {}
        completed_at = None
        for event in history:
            for name, change in event["changes"].items():
                assert change["from"] == state.get(name)
                state[name] = change["to"]
            deleted = event["type"] == "TaskDeleted"
            if not deleted:
                state = {"priority": None, "due_date": None, "tags": [], **state}
            completed_at = (completed_at or event["at"]) if state["completed"] else None
            states.append(
                None
                if deleted
                else {
                    "id": task,
                    "user_id": self.path.split("/")[2],
                    **{name: state[name] for name in FIELDS},
                    "created_at": history[0]["at"],
                    "updated_at": event["at"],
                    "completed_at": completed_at,
                    "version": event["version"],
                }
            )
            state = {} if deleted else state
        return states


@pytest.mark.timeout(900)
@pytest.mark.unmeasured
def test_the_past_is_what_get_answered_then(server: str, runner: asyncio.Runner) -> None:
    opened = AsyncExitStack()
    try:
        dsn = runner.run(opened.enter_async_context(new_database(server, FROM_TEMPLATE)))
        service = runner.run(opened.enter_async_context(serving(dsn, log_level="ERROR")))
        run_state_machine_as_test(
            lambda: Remembered(runner, service),  # type: ignore[arg-type] # any factory does
            settings=settings(
                max_examples=15,
                stateful_step_count=15,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        runner.run(opened.aclose())


@pytest.fixture
async def life(service: Service) -> list[dict[str, Any]]:
    """Create a task, change it twice, delete and restore it; return each version as it was answered."""
    client = service.client
    task = (await client.post(TASKS, json={"title": "Buy milk", "description": "2 litres"})).json()
    path = f"{TASKS}/{task['id']}"
    changed = (await client.patch(path, json={"title": "Buy oat milk"})).json()
    toggled = (await client.patch(f"{path}/complete")).json()
    await client.delete(path)
    restored = (await client.post(f"{path}/restore")).json()
    return [task, changed, toggled, {}, restored]


async def get(service: Service, path: str, **parameters: Any) -> httpx2.Response:
    return await service.client.get(path, params=parameters)


async def test_a_version_is_answered_with_its_own_etag(service: Service, life: list[dict[str, Any]]) -> None:
    path = f"{TASKS}/{life[0]['id']}"
    for number in (1, 2, 3, 5):
        answer = await get(service, path, version=number)
        assert (answer.status_code, answer.json()) == (200, life[number - 1])
        assert answer.headers["etag"].startswith(f'"{number}-')
    for number in (4, 6, 2**31 - 1):
        assert (await get(service, path, version=number)).status_code == 404


@pytest.mark.parametrize("bad", ["0", "-1", "x", "2147483648", "1.5"])
async def test_a_version_is_a_whole_number_from_1(service: Service, life: list[dict[str, Any]], bad: str) -> None:
    answer = await get(service, f"{TASKS}/{life[0]['id']}", version=bad)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "version")


async def test_a_restoration_is_an_event_of_its_own_and_the_task_as_old_as_it_was(
    service: Service, life: list[dict[str, Any]]
) -> None:
    restored = life[4]
    at = restored["updated_at"]
    assert restored == {**life[2], "version": 5, "updated_at": at, "completed_at": at}
    history = (await get(service, f"{TASKS}/{restored['id']}/history")).json()
    assert [event["type"] for event in history] == [
        "TaskCreated",
        "TaskUpdated",
        "TaskToggled",
        "TaskDeleted",
        "TaskRestored",
    ]
    assert history[3]["changes"]["title"] == {"from": "Buy oat milk", "to": None}
    assert history[4]["changes"]["title"] == {"from": None, "to": "Buy oat milk"}


@pytest.mark.parametrize("version", [0, "1", True, None, 1.5, 2**31])
async def test_a_version_to_restore_is_a_whole_number(
    service: Service, life: list[dict[str, Any]], version: Any
) -> None:
    answer = await service.client.post(f"{TASKS}/{life[0]['id']}/restore", json={"version": version})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "version")


async def test_a_task_that_never_existed_has_no_past(service: Service, life: list[dict[str, Any]]) -> None:
    before = "2020-01-01T00:00:00Z"
    assert (await get(service, TASKS, as_of=before)).json() == []
    for path, parameters in (
        (f"{TASKS}/{life[0]['id']}", {"as_of": before}),
        (f"{TASKS}/{TASK_ID}", {"version": 1}),
        (f"{TASKS}/{TASK_ID}", {"as_of": "2100-01-01T00:00:00Z"}),
        (f"{TASKS}/{TASK_ID}/history", {}),
        (f"{TASKS}/{TASK_ID}/history", {"after": 3}),
    ):
        assert (await get(service, path, **parameters)).status_code == 404
    assert (await service.client.post(f"{TASKS}/{TASK_ID}/restore")).status_code == 404


async def test_the_future_is_as_the_present(service: Service, life: list[dict[str, Any]]) -> None:
    future = "2100-01-01T00:00:00Z"
    assert (await get(service, TASKS, as_of=future)).json() == [life[4]]
    assert (await get(service, f"{TASKS}/{life[0]['id']}", as_of=future)).json() == life[4]


@pytest.mark.parametrize(
    "form",
    [
        "{date}T{time}.{micro}Z",
        "{date}t{time}.{micro}z",
        "{date} {time}.{micro}Z",
        "{date}T{time}.{micro}+00:00",
        "{date}T{time}.{micro} 00:00",
        "{date}T{time}.{micro}-00:00",
        "{date}T{time}.{micro}999Z",
    ],
)
async def test_a_moment_may_be_written_in_any_way_that_rfc_3339_allows(
    service: Service, life: list[dict[str, Any]], form: str
) -> None:
    at = life[1]["updated_at"]
    moment = form.format(date=at[:10], time=at[11:19], micro=at[20:26])
    for path in (f"{TASKS}/{life[0]['id']}", TASKS):
        answer = await get(service, path, as_of=moment)
        assert answer.json() in (life[1], [life[1]])


async def test_a_moment_may_have_any_offset(service: Service, life: list[dict[str, Any]]) -> None:
    at = datetime.fromisoformat(life[0]["created_at"])
    for offset in ("+05:30", "-09:00"):
        moment = at.astimezone(datetime.fromisoformat(f"2026-11-20T00:00:00{offset}").tzinfo).isoformat()
        assert (await get(service, TASKS, as_of=moment)).json() == [life[0]]


@pytest.mark.parametrize(
    "bad",
    [
        "now",
        "1763666689",
        "2026-11-20",
        "2026-11-20T19:30:00",
        "2026-11-20T19:30Z",
        "2026-13-20T19:30:00Z",
        "2026-11-20T25:30:00Z",
        "2026-11-20T19:30:00+25:00",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "2026-11-20T19:30:00Z\n",
        "٢٠٢٦-11-20T19:30:00Z",
    ],
)
async def test_a_moment_that_is_none_is_400_and_says_what_is_one(service: Service, bad: str) -> None:
    for path in (TASKS, f"{TASKS}/{TASK_ID}"):
        answer = await get(service, path, as_of=bad)
        assert answer.status_code == 400
        assert answer.json()["hint"].startswith("as_of must be a time with its offset")


async def test_the_first_and_the_last_moment_of_all_can_be_asked_for(service: Service) -> None:
    for moment in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"):
        assert (await get(service, TASKS, as_of=moment)).json() == []


async def test_a_past_list_is_paged_by_a_cursor_of_its_own(service: Service) -> None:
    for number in range(5):
        await service.client.post(TASKS, json={"title": f"Task {number}"})
    expected = (await get(service, TASKS)).json()
    then = expected[0]["created_at"]
    for task in expected:
        await service.client.delete(f"{TASKS}/{task['id']}")
    found: list[Any] = []
    url: str | None = f"{TASKS}?as_of={then}&limit=2"
    while url:
        answer = await service.client.get(url)
        found += answer.json()
        url = answer.links.get("next", {}).get("url")
    assert found == expected
    first = await service.client.get(f"{TASKS}?as_of={then}&limit=2")
    cursor = httpx2.URL(first.links["next"]["url"]).params["cursor"]
    for other in ({}, {"as_of": "2100-01-01T00:00:00Z"}):
        answer = await get(service, TASKS, limit=2, cursor=cursor, **other)
        assert (answer.status_code, "another filter" in answer.json()["hint"]) == (400, True)
