"""Metrics of the API, and the endpoint that shows them."""

import asyncio
from typing import Any

import pytest

from db.pool import Pool
from tests.conftest import on_plain_postgres
from tests.service import TASKS, Service, serving, sql, value


def requests(method: str, route: str, status: int) -> float:
    labels = {"method": method, "route": route, "status": str(status)}
    return value("daybook_http_request_duration_seconds_count", **labels)


@pytest.mark.parametrize(
    ("method", "path", "route", "status"),
    [
        ("GET", TASKS, "/api/{user_id}/tasks", 200),
        ("GET", "/api/bob/tasks", "/api/{user_id}/tasks", 403),
        ("GET", f"{TASKS}/01a1faae-1629-7326-8868-5894cfd36f95", "/api/{user_id}/tasks/{task_id}", 404),
        ("GET", "/wp-login.php", "none", 404),
    ],
)
async def test_requests_are_counted_by_route_and_status(
    service: Service, method: str, path: str, route: str, status: int
) -> None:
    before = requests(method, route, status)
    assert (await service.client.request(method, path)).status_code == status
    assert requests(method, route, status) == before + 1


async def test_clients_cannot_make_up_labels(service: Service) -> None:
    before = requests("other", "none", 404)
    for method in ("PROPFIND", "BREW"):
        await service.client.request(method, "/nowhere")
    assert requests("other", "none", 404) == before + 2


async def test_commands_are_counted_by_what_came_of_them(service: Service) -> None:
    def count(outcome: str) -> float:
        return value("daybook_commands_total", command="ToggleTask", outcome=outcome)

    outcomes = ("done", "unchanged", "replayed", "refused")
    before = {outcome: count(outcome) for outcome in outcomes}
    path = (await service.client.post(TASKS, json={"title": "x"})).headers["location"] + "/complete"
    done: dict[str, Any] = {"json": {"completed": True}}
    await service.client.patch(path, headers={"Idempotency-Key": "k"}, **done)
    await service.client.patch(path, headers={"Idempotency-Key": "k"}, **done)
    await service.client.patch(path, **done)
    assert (await service.client.patch(path, headers={"If-Match": '"1"'})).status_code == 412
    assert {outcome: count(outcome) - before[outcome] for outcome in outcomes} == dict.fromkeys(outcomes, 1)


async def test_a_write_that_finds_another_first_is_counted(service: Service) -> None:
    before = value("daybook_append_conflicts_total")
    path = (await service.client.post(TASKS, json={"title": "x"})).headers["location"] + "/complete"
    await asyncio.gather(*(service.client.patch(path) for _ in range(20)))
    assert value("daybook_append_conflicts_total") > before


async def test_a_write_that_fails_is_counted(service: Service, pool: Pool) -> None:
    labels = {"command": "CreateTask", "outcome": "failed"}
    before = value("daybook_commands_total", **labels)
    await sql(pool, "ALTER TABLE events RENAME TO away")
    assert (await service.client.post(TASKS, json={"title": "x"})).status_code == 500
    assert value("daybook_commands_total", **labels) == before + 1


@on_plain_postgres
@pytest.mark.parametrize(
    ("condition", "sqlstate", "why"),
    [
        ("disk_full", "53100", "The database's disk is full."),
        ("query_canceled", "57014", "The database didn't get to it in time."),
        ("read_only_sql_transaction", "25006", "The database takes no writes just now."),
        ("out_of_memory", "53200", "The database can't be reached."),
    ],
)
async def test_a_write_that_the_database_could_not_do_says_why_and_is_counted_by_its_sqlstate(
    service: Service, pool: Pool, condition: str, sqlstate: str, why: str
) -> None:
    before = value("daybook_database_errors_total", sqlstate=sqlstate) or 0
    await sql(
        pool,
        f"""
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '{condition}'; END $$
    """,
    )
    await sql(pool, "CREATE TRIGGER fail BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION fail()")
    refused = await service.client.post(TASKS, json={"title": "x"})
    assert refused.status_code == 503
    assert refused.json()["hint"] == f"{why} Nothing was changed: send the same request again."
    assert value("daybook_database_errors_total", sqlstate=sqlstate) == before + 1
    assert (await service.client.get(TASKS)).status_code == 200
    assert (await service.client.get("/readyz")).status_code == 200  # reads are served


async def test_connections_in_use_are_none_when_nothing_is_asked(service: Service) -> None:
    await asyncio.gather(*(service.client.get(TASKS) for _ in range(30)))
    assert value("daybook_pool_in_use") == value("daybook_pool_waiting") == 0


async def test_numbers_are_told_on_the_apis_own_port_only_where_that_was_asked_for(
    service: Service, database: str
) -> None:
    assert (await service.client.get("/metrics")).status_code == 404
    async with serving(database, metrics_public=True) as public:
        answer = await public.client.get("/metrics", headers={"Authorization": ""})
        assert answer.headers["content-type"].startswith("text/plain; version=")
        assert "daybook_commands_total" in answer.text
        assert "/metrics" not in (await public.client.get("/openapi.json")).json()["paths"]
