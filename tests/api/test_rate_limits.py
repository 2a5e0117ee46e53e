"""Limits on how many requests may come (docs/http-api.md, "Rate limits")."""

import asyncio
import time
from collections import Counter
from pathlib import Path

import httpx2
import pytest

from api.rate_limits import REFUSED_AFTER
from tests.processes import Serving, run
from tests.service import TASKS, Service, bearer, serving

pytestmark = pytest.mark.once


async def test_a_user_is_limited_and_others_are_not(database: str, tmp_path: Path) -> None:
    async with serving(database, rate_limit="user:3/600", daybook_data_dir=tmp_path) as service:
        client = service.client
        answers = [await client.post(TASKS, json={"title": "x"}) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [201, 201, 201, 429]
        assert [answer.headers["ratelimit"] for answer in answers] == [
            f'"user";r={left};t={seconds}' for left, seconds in ((2, 200), (1, 400), (0, 600), (0, 600))
        ]
        assert {answer.headers["ratelimit-policy"] for answer in answers} == {'"user";q=3;w=600'}
        refused = answers[-1]
        assert 190 < int(refused.headers["retry-after"]) <= 200
        assert refused.json()["type"] == "/problems/rate-limited"
        assert "At most 3 requests in 600 s for each user" in refused.json()["hint"]
        assert (await client.get("/api/bob/tasks", headers=bearer("bob"))).status_code == 200
        assert (await client.get(TASKS, headers={"Authorization": ""})).status_code == 401
        assert len((await client.get("/api/bob/audit", headers=bearer("bob"))).json()) == 0


async def test_what_is_refused_for_its_path_or_scope_counts_for_the_tokens_user(database: str, tmp_path: Path) -> None:
    auditor = bearer("ann", auditor=True, scope="audit:read")
    async with serving(
        database, rate_limit="user:4/600", daybook_data_dir=tmp_path, auditor_claim="auditor"
    ) as service:
        client = service.client
        others = "/api/bob/tasks"
        refused = [
            await client.get(others),
            await client.get(others, headers=auditor),
            await client.get(f"/api/{'b' * 256}/audit", headers=auditor),
            await client.post(TASKS, json={"title": "x"}, headers=bearer("ann", scope="tasks:read")),
        ]
        assert [answer.status_code for answer in refused] == [403, 403, 400, 403]
        assert [answer.headers["ratelimit"].partition(";t")[0] for answer in refused] == [
            f'"user";r={left}' for left in (3, 2, 1, 0)
        ]
        assert (await client.get(others)).status_code == 429
        assert (await client.get(TASKS)).status_code == 429
        assert (await client.get(others, headers=bearer("bob"))).status_code == 200


async def test_an_address_is_limited_whoever_asks_and_probes_are_not(database: str, tmp_path: Path) -> None:
    async with serving(
        database, rate_limit="address:2/600", daybook_data_dir=tmp_path, forwarded_allow_ips="192.0.2.7"
    ) as service:
        client = service.client
        for headers, status in (({"Authorization": ""}, 401), (bearer("bob"), 403), (bearer("ann"), 429)):
            assert (await client.get(TASKS, headers=headers)).status_code == status
        refused = await client.get(TASKS, headers={"Origin": "http://localhost:3000"})
        assert refused.headers["ratelimit"].startswith('"address";r=0;')
        assert refused.headers["access-control-allow-origin"] == "http://localhost:3000"
        assert "RateLimit" in refused.headers["access-control-expose-headers"]
        assert (await client.get("/health")).status_code == 200
        other = await client.get(TASKS, headers={"X-Forwarded-For": "203.0.113.9"})
        assert other.status_code == 200


@pytest.mark.parametrize("prefix", ["", "/daybook"])
async def test_probes_are_free_under_a_path_too(database: str, tmp_path: Path, prefix: str) -> None:
    async with serving(
        database, rate_limit="address:1/600", daybook_data_dir=tmp_path, root_path="/daybook"
    ) as service:
        for path in ("/livez", "/readyz", "/health", "/livez/"):
            answer = await service.client.get(prefix + path)
            assert (answer.status_code, "ratelimit" in answer.headers) == (200, False), path
        assert [(await service.client.get(prefix + TASKS)).status_code for _ in range(2)] == [200, 429]


@pytest.mark.parametrize("policy", ["user", "address"])
async def test_a_refusal_comes_late_so_that_a_connection_cannot_ask_for_thousands(
    database: str, tmp_path: Path, policy: str
) -> None:
    async with serving(database, rate_limit=f"{policy}:1/600", daybook_data_dir=tmp_path) as service:
        assert (await service.client.get(TASKS)).status_code == 200
        asked = time.monotonic()
        assert (await service.client.get(TASKS)).status_code == 429
        assert time.monotonic() - asked >= REFUSED_AFTER


async def test_a_month_is_told_in_whole_seconds(database: str, tmp_path: Path) -> None:
    async with serving(database, rate_limit="user:9/2592000", daybook_data_dir=tmp_path) as service:
        answer = await service.client.get(TASKS)
    assert answer.headers["ratelimit-policy"] == '"user";q=9;w=2592000'


async def test_without_a_limit_nothing_is_said_of_one(service: Service) -> None:
    assert "ratelimit" not in (await service.client.get(TASKS)).headers


@pytest.mark.edge
def test_two_workers_keep_one_limit_under_a_hundred_clients(folder: Path) -> None:
    run(folder, "migrate")
    token = run(folder, "token", "ann").stdout.strip()
    with Serving(folder, "--workers", "2", RATE_LIMIT="user:57/86400") as serving_:
        serving_.greeting()

        async def ask() -> Counter[int]:
            bounds = httpx2.Limits(max_connections=100)
            async with httpx2.AsyncClient(limits=bounds, timeout=60) as client:
                url = f"http://127.0.0.1:{serving_.port}{TASKS}"
                answers = await asyncio.gather(
                    *(client.get(url, headers={"Authorization": f"Bearer {token}"}) for _ in range(200))
                )
            return Counter(answer.status_code for answer in answers)

        assert asyncio.run(ask()) == {200: 57, 429: 143}
