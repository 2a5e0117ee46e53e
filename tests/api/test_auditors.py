"""An auditor may read others' tasks and logs, and each read is recorded (docs/http-api.md, "Auditors")."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest

from api.user_turns import READS
from db import time_slices
from events.store import log
from tests.arrange import end_a_slice_at_each_step
from tests.conftest import on_plain_postgres
from tests.processes import Serving
from tests.service import SECRET, TASKS, Service, bearer, serving, sql

pytestmark = pytest.mark.once

ACCESS = "/api/ann/audit/access"
EVE = bearer("eve", auditor=True, scope="audit:read")
CANARY = "Buy milk"
THEN = "2100-01-01T00:00:00Z"


@pytest.fixture
async def service(database: str) -> AsyncIterator[Service]:
    """Yield the app, which knows auditors by the claim `auditor`."""
    async with serving(database, auditor_claim="auditor") as service:
        yield service


def reads(task: dict[str, Any]) -> list[str]:
    """Return each request of an auditor that is let in, for a user's task."""
    path = f"{TASKS}/{task['id']}"
    return [
        *("/api/ann/audit", "/api/ann/audit?format=csv", "/api/ann/audit?format=ndjson", "/api/ann/audit/head", ACCESS),
        *(f"{path}/history", f"{TASKS}?as_of={THEN}", f"{path}?as_of={THEN}", f"{path}?version=1"),
    ]


async def accesses(service: Service, user: str = "ann") -> list[dict[str, Any]]:
    answer = await service.client.get(f"/api/{user}/audit/access", headers=bearer(user))
    assert answer.status_code == 200
    found: list[dict[str, Any]] = answer.json()
    return found


async def test_each_read_is_on_record_once_where_its_user_sees_it(service: Service, task: dict[str, Any]) -> None:
    for number, read in enumerate(reads(task)):
        answer = await service.client.get(read, headers={**EVE, "X-Request-ID": f"read-{number}"})
        assert answer.status_code == 200, read
        newest, *others = await accesses(service)
        assert len(others) == number, read
        assert list(newest) == ["id", "at", "auditor", "actor", "path", "request_id"]
        assert newest["path"] == read.partition("?")[0]
        assert (newest["auditor"], newest["actor"], newest["request_id"]) == ("eve", "eve", f"read-{number}")
    assert await accesses(service, "eve") == []


async def test_the_auditor_sees_what_the_user_sees(service: Service, task: dict[str, Any]) -> None:
    for read in reads(task):
        if read != ACCESS:
            own, audited = [await service.client.get(read, headers=headers) for headers in (bearer(), EVE)]
            assert audited.content == own.content
            assert audited.headers.get("etag") == own.headers.get("etag")


async def test_an_auditors_look_at_the_record_is_in_what_they_see(service: Service) -> None:
    [seen] = (await service.client.get(ACCESS, headers=EVE)).json()
    assert seen == (await accesses(service))[0]
    assert seen["path"] == ACCESS


async def test_a_head_request_an_unchanged_answer_and_a_missing_task_are_reads_too(
    service: Service, task: dict[str, Any]
) -> None:
    client, past = service.client, f"{TASKS}?as_of={THEN}"
    tag = (await client.get(past)).headers["etag"]
    for number, read in enumerate(reads(task), start=1):
        assert (await client.head(read, headers=EVE)).status_code == 200
        assert len(await accesses(service)) == number
    before = len(await accesses(service))
    assert (await client.get(past, headers={**EVE, "If-None-Match": tag})).status_code == 304
    missing = f"{TASKS}/01980d6f-6d7a-7cc0-8000-000000000000/history"
    assert (await client.get(missing, headers=EVE)).status_code == 404
    assert [each["path"] for each in await accesses(service)][:-before] == [missing, TASKS]


async def test_what_is_refused_and_what_is_the_users_own_leaves_no_record(
    service: Service, task: dict[str, Any]
) -> None:
    client, path = service.client, f"{TASKS}/{task['id']}"
    for read in reads(task):
        assert (await client.get(read)).status_code == 200
        assert (await client.get(read, headers=bearer("bob"))).status_code == 403
    for refused in (TASKS, path, f"{TASKS}/stats", f"{TASKS}/changes", "/api/ann/audit/stream"):
        assert (await client.get(refused, headers=EVE)).status_code == 403
    for broken in (
        f"{path}?as_of={THEN}&version=1",
        "/api/ann/audit?limit=0",
        f"{TASKS}?as_of=x",
        f"{TASKS}/x/history",
    ):
        assert (await client.get(broken, headers=EVE)).status_code == 400
    for method, changed in (("POST", TASKS), ("DELETE", path), ("POST", "/api/ann/undo"), ("POST", f"{path}/restore")):
        answer = await client.request(method, changed, json={"title": "x"}, headers=EVE)
        assert answer.status_code == 403
        assert "audit/head" in answer.json()["hint"]
    assert await accesses(service) == []
    assert len((await client.get("/api/ann/audit")).json()) == 1


async def test_the_record_is_there_before_the_answer_begins(service: Service, task: dict[str, Any]) -> None:
    for number, read in enumerate(reads(task), start=1):
        path, _, query = read.partition("?")
        at_first: list[int] = []

        async def send(message: Any, at_first: list[int] = at_first) -> None:
            if message["type"] == "http.response.start":
                at_first.append(await service.pool.fetchval("SELECT count(*) FROM accesses WHERE user_id = 'ann'"))

        async def receive() -> Any:
            await asyncio.Event().wait()

        scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(b"authorization", EVE["Authorization"].encode())],
            "client": None,
        }
        await service.asgi(scope, receive, send)
        assert at_first == [number], read


@pytest.mark.parametrize(
    "fault",
    [
        "DROP FUNCTION daybook_record_access",
        "ALTER TABLE accesses ADD CHECK (auditor <> 'eve') NOT VALID",
        "ALTER TABLE accesses RENAME TO gone",
    ],
)
async def test_what_cannot_be_recorded_is_not_answered(service: Service, task: dict[str, Any], fault: str) -> None:
    await sql(service.pool, fault)
    for read in reads(task):
        answer = await service.client.get(read, headers=EVE)
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable"), read
        assert "retry-after" in answer.headers
        assert CANARY not in answer.text
        assert task["id"] not in answer.text
    assert CANARY in (await service.client.get("/api/ann/audit")).text


async def test_all_workers_add_to_one_record(database: str, folder: Path) -> None:
    variables = {"DATABASE_URL": database, "JWT_SECRET": SECRET, "AUDITOR_CLAIM": "auditor"}
    with Serving(folder, "--workers", "2", **variables) as serving:
        serving.wait_until_ready()

        async def read(number: int) -> str:
            async with httpx2.AsyncClient(base_url=serving.url, timeout=60) as client:
                answer = await client.get("/api/ann/audit/head", headers={**EVE, "X-Request-ID": f"read-{number}"})
                assert answer.status_code == 200
                return answer.headers["x-request-id"]

        sent = await asyncio.gather(*(read(number) for number in range(30)))
        async with httpx2.AsyncClient(base_url=serving.url, timeout=60) as client:
            found = (await client.get(ACCESS, headers=bearer())).json()
        assert serving.stop() == 0
    assert sorted(each["request_id"] for each in found) == sorted(sent)
    assert [each["id"] for each in found] == sorted((each["id"] for each in found), reverse=True)


async def test_the_record_comes_in_pages(service: Service) -> None:
    client = service.client
    for number in range(5):
        await client.get("/api/ann/audit/head", headers={**EVE, "X-Request-ID": f"read-{number}"})
    url, pages = f"{ACCESS}?limit=2&x=y", []
    while url:
        page = await client.get(url)
        pages.append([each["request_id"] for each in page.json()])
        assert set(page.links) <= {"next"}
        url = page.links.get("next", {}).get("url", "")
    assert pages == [["read-4", "read-3"], ["read-2", "read-1"], ["read-0"]]
    oldest = (await accesses(service))[-1]["id"]
    assert (await client.get(f"{ACCESS}?before={oldest}")).json() == []
    for wrong in ("limit=0", "limit=1001", "before=7"):
        assert (await client.get(f"{ACCESS}?{wrong}")).status_code == 400


async def test_who_acts_for_an_auditor_is_on_record_too(database: str) -> None:
    async with serving(database, auditor_claim="auditor", jwt_user_claim="org", jwt_actor_claim="sub") as service:
        for claims in ({}, {"act": {"sub": "agent-7"}}):
            headers = bearer("mia", org="auditors", auditor=True, scope="audit:read", **claims)
            assert (await service.client.get("/api/ann/audit", headers=headers)).status_code == 200
        found = (await service.client.get(ACCESS, headers=bearer("joe", org="ann"))).json()
    assert [(each["auditor"], each["actor"]) for each in found] == [("auditors", "agent-7"), ("auditors", "mia")]


async def test_the_recorded_path_is_the_services_own(database: str) -> None:
    async with serving(database, auditor_claim="auditor", root_path="/daybook") as service:
        await service.client.get("/daybook//api/Ä%20b/audit/?x=y", headers=EVE)
        [access] = await accesses(service, "Ä b")
    assert access["path"] == "/api/Ä b/audit"


@pytest.mark.parametrize("user", ["%00", "x" * 256, "a%00b"])
async def test_a_path_that_names_nobody_is_400(service: Service, user: str) -> None:
    answer = await service.client.get(f"/api/{user}/audit", headers=EVE)
    assert answer.status_code == 400
    assert await service.pool.fetchval("SELECT count(*) FROM accesses") == 0


async def test_the_limits_are_the_auditors(database: str, tmp_path: Path) -> None:
    async with serving(
        database, auditor_claim="auditor", rate_limit="user:2/600", daybook_data_dir=tmp_path
    ) as service:
        head = "/api/ann/audit/head"
        got = [(await service.client.get(head, headers=EVE)).status_code for _ in range(3)]
        assert got == [200, 200, 429]
        assert [(await service.client.get(head)).status_code for _ in range(2)] == [200, 200]
        assert await service.pool.fetchval("SELECT count(*) FROM accesses") == 2


@on_plain_postgres  # on a cluster, ann's long read holds the turn of her server
async def test_the_turns_are_the_auditors(
    service: Service, task: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(log.READ_BATCH + 1):  # so that the past is a long read
        await service.client.post(TASKS, json={"title": "x"})
    of_users, long_reads = service.state["turns"].reads, service.state["store"].long_reads
    connections = service.pool._turns
    for _ in range(READS):
        await of_users.acquire("ann")
    seen: set[str | None] = set()
    end_a_slice_at_each_step(monkeypatch)  # and so wait for another one
    schedulers, loop = time_slices._schedulers, asyncio.get_running_loop()

    async def watch() -> None:
        """Note at each turn of the loop whose turns are held or waited for: none begins and ends in a single one."""
        while True:
            slices = schedulers[loop]._waiting if loop in schedulers else ()
            seen.update(connections._held, connections._waiting, slices)
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    async with long_reads.turn("ann"):
        for read in reads(task):
            assert (await service.client.get(read, headers=EVE)).status_code == 200, read
    watching.cancel()
    assert seen - {None} == {"eve"}
    for _ in range(READS):
        of_users.release("ann")
    assert not of_users.of_users
    assert not long_reads.users.of_users


async def test_the_log_line_names_the_auditor_and_the_audited_user(
    database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(database, log_format="json", auditor_claim="auditor") as service:
        capsys.readouterr()
        for path, headers in (("/api/ann/audit", EVE), (TASKS, EVE), ("/api/eve/audit", EVE), ("/api/ann/audit", {})):
            await service.client.get(path, headers=headers)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    named = [(line["user"], line.get("audited")) for line in lines if line["event"] == "request"]
    assert named == [("eve", "ann"), ("eve", "ann"), ("eve", None), ("ann", None)]


async def test_ids_of_the_record_are_in_the_order_of_time(service: Service) -> None:
    for _ in range(3):
        await service.client.get("/api/ann/audit/head", headers=EVE)
    found = await accesses(service)
    assert {UUID(each["id"]).version for each in found} == {7}
    assert [each["at"] for each in found] == sorted((each["at"] for each in found), reverse=True)
