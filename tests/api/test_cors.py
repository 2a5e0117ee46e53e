"""CORS (docs/http-api.md, "Health, documentation and CORS"): only pages of the configured origins may call."""

import httpx2
import pytest
from starlette.responses import Response

from api import openapi
from api.middleware import SecurityHeaders
from api.server import protocol
from tests.service import TASKS, Service, listening, serving
from tests.sockets import connected

pytestmark = pytest.mark.once

APP, OTHER = "https://app.example.com", "https://evil.example"
EXPOSED = {
    *("ETag", "Link", "Location", "X-Request-ID", "Daybook-Seq", "RateLimit", "RateLimit-Policy"),
    *("Idempotency-Replayed", "Content-Disposition"),
    *("Allow", "Retry-After", "WWW-Authenticate"),
}


async def preflight(service: Service, origin: str, *, method: str = "PATCH", headers: str = "") -> httpx2.Response:
    asked = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    return await service.client.options(TASKS, headers={"Authorization": "", **asked})


def names(answer: httpx2.Response, header: str) -> set[str]:
    return set(answer.headers[header].split(", "))


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
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
        assert "CORS_ORIGINS" in asked.json()["hint"]
        assert origin in asked.json()["hint"]
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
        assert "CORS_ORIGINS" in (await preflight(closed, APP)).json()["hint"]
        assert "access-control-allow-origin" not in (await closed.client.get(TASKS, headers={"Origin": APP})).headers


async def test_a_star_lets_every_page_in(database: str) -> None:
    async with serving(database, cors_origins="*") as service:
        answer = await service.client.get(TASKS, headers={"Origin": OTHER})
        assert answer.headers["access-control-allow-origin"] == OTHER


APPS = ["capacitor://localhost", "ionic://localhost", "tauri://localhost", "http://tauri.localhost", "app://-"]


@pytest.mark.parametrize("origin", [*APPS, "https://pr-7.example.app", "https://daybook-git-x-ann.vercel.app"])
async def test_apps_and_previews_may_call_where_they_were_named(database: str, origin: str) -> None:
    named = ",".join([*APPS, "https://*.example.app", "https://daybook-*-ann.vercel.app"])
    async with serving(database, cors_origins=named, environment="production") as service:
        assert (await preflight(service, origin)).headers["access-control-allow-origin"] == origin
        answer = await service.client.get(TASKS, headers={"Origin": origin})
        assert answer.headers["access-control-allow-origin"] == origin
        assert "Origin" in names(answer, "vary")
        assert (await preflight(service, "https://a.b.example.app")).status_code == 400


async def test_a_page_may_call_a_private_address_if_it_may_call_at_all(database: str) -> None:
    asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Private-Network": "true"}
    async with serving(database, cors_origins=APP) as service:
        answer = await service.client.options(TASKS, headers={"Origin": APP, **asked})
        assert (answer.status_code, answer.headers["access-control-allow-private-network"]) == (200, "true")
        answer = await service.client.options(TASKS, headers={"Origin": OTHER, **asked})
        assert answer.status_code == 400
        assert "access-control-allow-private-network" not in answer.headers
        assert OTHER in answer.json()["hint"]


async def test_an_origin_in_half_a_head_is_found_at_once_and_only_if_it_can_be_sent_back(database: str) -> None:
    """A search that tried each blank anew took seconds, in which nobody was answered."""
    async with serving(database, cors_origins="*") as service, listening(service.asgi, service.state) as port:
        for origin, then in ((APP + " " * 60_000, APP), ("a" + " " * 60_000 + "b", None), ("http://a\x01b", None)):
            async with connected(port) as connection:
                head = f"GET / HTTP/1.1\r\nHost: x\r\nOrigin: {origin}\r\nX: y\r\n\0"
                await connection.send(head.encode())
                answer = await connection.answer()
            assert answer.status == 400
            assert answer.headers.get("access-control-allow-origin") == then


async def test_a_refused_preflight_says_what_is_wrong_with_it(database: str) -> None:
    async with serving(database, cors_origins=APP) as service:
        hint = (await preflight(service, APP, method="BREW")).json()["hint"]
        assert "BREW is no method" in hint
        assert "CORS_ORIGINS" not in hint
        assert "sandboxed frame" in (await preflight(service, "null")).json()["hint"]
        assert len((await preflight(service, "https://" + "x" * 9000)).json()["hint"]) < 400


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n%bAuthorization: Bearer " + b"x" * 70_000 + b"\r\n\r\n", 401),
        (b"GET / HTTP/1.1\r\nAuthorization: Bearer " + b"x" * 70_000 + b"\r\n%b\r\n", 401),
        (b"GET / HTTP/1.1\r\n%bX-Long: " + b"x" * 70_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n%bX-Long: ", 408),
        (b"GET / HTTP/1.1\r\n%b", 408),
        (b"GET / HTTP/1.1\r\n%bX-Bad : x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n%bTransfer-Encoding: gzip\r\n\r\nx", 400),
        (b"POST / HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\nno chunk", 400),
        (b"CONNECT x:80 HTTP/1.1\r\n%b\r\n", 400),
    ],
)
@pytest.mark.parametrize("origin", [APP, OTHER, None])
async def test_refusals_before_there_is_a_request_can_be_read_too(
    database: str, monkeypatch: pytest.MonkeyPatch, request_: bytes, status: int, origin: str | None
) -> None:
    monkeypatch.setattr(protocol, "_SLOWEST", 0.5)
    header = f"Origin: {origin}\r\n".encode() if origin else b""
    async with (
        serving(database, cors_origins=APP) as service,
        listening(service.asgi, service.state) as port,
        connected(port) as connection,
    ):
        await connection.send(request_ % header)
        answer = await connection.answer()
    assert answer.status == status
    assert answer.headers["vary"] == "origin"
    assert answer.headers.get("access-control-allow-origin") == (APP if origin == APP else None)
    if origin == APP:
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert {*answer.headers["access-control-expose-headers"].split(", ")} == {each.lower() for each in EXPOSED}


def test_every_header_that_the_document_has_can_be_read() -> None:
    always = {"Cache-Control", "X-Content-Type-Options"}  # the first is safelisted; nobody reads the second
    assert {*openapi._HEADERS} - always <= EXPOSED


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
