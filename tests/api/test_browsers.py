"""Contract, section 6: what browsers are told, so that pages of the right origins may call, and others may not."""

import httpx2
import pytest
from starlette.responses import Response

from api.middleware import SecurityHeaders
from tests.service import Service, serving

pytestmark = pytest.mark.once

TASKS = "/api/ann/tasks"
APP, OTHER = "https://app.example.com", "https://evil.example"
EXPOSED = {"ETag", "Link", "Location", "X-Request-ID", "Idempotency-Replayed", "Retry-After", "WWW-Authenticate"}


async def preflight(service: Service, origin: str, *, method: str = "PATCH", headers: str = "") -> httpx2.Response:
    asked = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    return await service.client.options(TASKS, headers={"Authorization": "", **asked})


def names(answer: httpx2.Response, header: str) -> set[str]:
    return set(answer.headers[header].split(", "))


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
async def test_a_page_of_a_given_origin_may_ask_for_every_method(database: str, method: str) -> None:
    async with serving(database, cors_origins=f"https://x.example, {APP}/") as service:
        answer = await preflight(service, APP, method=method, headers="authorization,idempotency-key,if-match,baggage")
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == APP
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert method in names(answer, "access-control-allow-methods")
        assert answer.headers["access-control-allow-headers"] == "authorization,idempotency-key,if-match,baggage"
        assert "Origin" in answer.headers["vary"]


async def test_answers_and_errors_alike_can_be_read_by_such_a_page(database: str) -> None:
    async with serving(database, cors_origins=APP) as service:
        for path, status in ((TASKS, 200), ("/api/bob/tasks", 403), (f"{TASKS}/x", 400), ("/nope", 404)):
            answer = await service.client.get(path, headers={"Origin": APP})
            assert answer.status_code == status
            assert answer.headers["access-control-allow-origin"] == APP
            assert answer.headers["access-control-allow-credentials"] == "true"
            assert names(answer, "access-control-expose-headers") == EXPOSED
        unauthenticated = await service.client.get(TASKS, headers={"Origin": APP, "Authorization": ""})
        assert unauthenticated.status_code == 401
        assert unauthenticated.headers["access-control-allow-origin"] == APP


@pytest.mark.parametrize(
    "origin", [OTHER, "null", f"{APP}.evil.example", "http://app.example.com", f"{APP}:8443", APP.upper()]
)
async def test_a_page_of_another_origin_may_not(database: str, origin: str) -> None:
    async with serving(database, cors_origins=APP) as service:
        asked = await preflight(service, origin)
        assert asked.status_code == 400
        assert asked.headers["content-type"] == "application/problem+json"
        assert "CORS_ORIGINS" in asked.json()["detail"]
        assert asked.json()["request_id"] == asked.headers["x-request-id"]
        for answer in (asked, await service.client.get(TASKS, headers={"Origin": origin})):
            assert "access-control-allow-origin" not in answer.headers


async def test_in_development_next_js_may_and_in_production_only_better_auths_own_origin(database: str) -> None:
    async with serving(database, better_auth_url=f"{APP}/") as development:
        for origin in ("http://localhost:3000", "http://127.0.0.1:3000", APP):
            assert (await preflight(development, origin)).status_code == 200
    async with serving(database, better_auth_url=APP, environment="production") as production:
        assert (await preflight(production, APP)).status_code == 200
        assert (await preflight(production, "http://localhost:3000")).status_code == 400
    async with serving(database, environment="production") as closed:
        assert (await preflight(closed, APP)).status_code == 405
        assert "access-control-allow-origin" not in (await closed.client.get(TASKS, headers={"Origin": APP})).headers


async def test_a_star_lets_every_page_in(database: str) -> None:
    async with serving(database, cors_origins="*") as service:
        answer = await service.client.get(TASKS, headers={"Origin": OTHER})
        assert answer.headers["access-control-allow-origin"] == OTHER


@pytest.mark.parametrize(
    "path", ["/api/ann/audit", "/api/ann/audit/head", "/api/bob/tasks", "/nope", "/health", "/livez", "/openapi.json"]
)
async def test_answers_are_what_they_say_they_are_and_nobody_keeps_them(service: Service, path: str) -> None:
    answer = await service.client.get(path)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"


async def test_an_answer_that_says_itself_how_it_may_be_kept_is_believed() -> None:
    app = SecurityHeaders(Response(headers={"Cache-Control": "private, no-cache"}))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://x") as client:
        assert (await client.get("/")).headers["cache-control"] == "private, no-cache"
