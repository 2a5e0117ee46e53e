"""A token's claims decide who acts, and what its bearer may do (docs/http-api.md, "Authentication")."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr

from api.app import create_app
from config.settings import Settings
from tests.service import SECRET, TASKS, Service, bearer, serving

pytestmark = pytest.mark.once

AUDIT = "/api/ann/audit"
DOCUMENT = create_app(Settings(jwt_secret=SecretStr(SECRET))).openapi()
ROUTES = [
    (method.upper(), path)
    for path, operations in DOCUMENT["paths"].items()
    for method in operations
    if path.startswith("/api/")
]
PAST = [
    ("GET", "/api/{user_id}/tasks?as_of=2100-01-01T00:00:00Z"),
    ("GET", "/api/{user_id}/tasks/{task_id}?as_of=2100-01-01T00:00:00Z"),
    ("GET", "/api/{user_id}/tasks/{task_id}?version=1"),
]
AUDITED = {
    *PAST,
    ("GET", "/api/{user_id}/audit"),
    ("GET", "/api/{user_id}/audit/head"),
    ("GET", "/api/{user_id}/audit/access"),
    ("GET", "/api/{user_id}/tasks/{task_id}/history"),
}
"""All that an auditor may ask of another user."""
ID = "01980d6f-6d7a-7cc0-8000-000000000000"


@pytest.fixture
async def service(database: str) -> AsyncIterator[Service]:
    """Yield the app, which knows auditors by the claim `roles.auditor`."""
    async with serving(database, auditor_claim="roles.auditor") as service:
        yield service


def auditor(user: str, scope: str | None = "audit:read", *, claim: Any = True, **claims: Any) -> dict[str, str]:
    return bearer(user, scope=scope, roles={"auditor": claim}, **claims)


async def answer(service: Service, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
    """Return the status, and the type of the problem. A feed that begins is cut off."""
    address = path.replace("{user_id}", "ann").replace("{task_id}", ID)
    if address.endswith("/stream"):
        headers = {**headers, "Last-Event-ID": "7"}  # past the log's end: 410, where it is let in
    got = await service.client.request(method, address, headers={"Authorization": "", **headers}, json={})
    problem = got.headers["content-type"].startswith("application/problem") if got.content else False
    return got.status_code, got.json()["type"].rpartition("/")[2] if problem else ""


TOKENS: dict[str, dict[str, str]] = {
    "none": {},
    "the user's": bearer("ann"),
    "to read": bearer("ann", scope="openid tasks:read"),
    "to read and write": bearer("ann", scope="tasks:read tasks:write"),
    "of an agent": bearer("ann", act={"sub": "agent-7"}),
    "of an agent, to read": bearer("ann", act={"sub": "agent-7"}, scp=["tasks:read"]),
    "another user's": bearer("bob"),
    "of another user's agent": bearer("bob", act={"sub": "ann"}),
    "an auditor's": auditor("eve"),
    "an auditor's who may write": auditor("eve", "audit:read tasks:read tasks:write"),
    "an auditor's agent's": auditor("eve", act={"sub": "agent-7"}),
    "the user's, who is an auditor": auditor("ann"),
    "the user's, who is an auditor and may write": auditor("ann", "audit:read tasks:write"),
    "the user's, to audit, without the claim": bearer("ann", scope="audit:read"),
    "another user's, to audit, without the claim": bearer("eve", scope="audit:read"),
    "another user's, with the claim, without the scope": auditor("eve", None),
    "another user's, with the claim, to read and write": auditor("eve", "tasks:read tasks:write"),
    **{
        f"another user's, with a claim of {claim!r}": auditor("eve", claim=claim)
        for claim in ("true", 1, 1.0, [True], {"auditor": True}, "yes", False, None)
    },
    "another user's, with the claim elsewhere": bearer("eve", scope="audit:read", auditor=True),
}


def expected(method: str, path: str, kind: str) -> tuple[int, str] | None:
    """Return the refusal of a route for a kind of token; None if it is let in."""
    if kind == "none":
        return 401, "not-authenticated"
    if kind.startswith(("another", "of another")):
        return 403, "not-yours"
    if kind.startswith("an auditor's"):
        return None if (method, path) in AUDITED else (403, "not-yours")
    if kind.endswith(("to read", "is an auditor", "without the claim")) and method != "GET":
        return 403, "read-only"
    return None


@pytest.mark.parametrize("kind", TOKENS)
async def test_each_route_and_each_kind_of_token(service: Service, kind: str) -> None:
    for method, path in [*ROUTES, *PAST]:
        got = await answer(service, method, path, TOKENS[kind])
        if refusal := expected(method, path, kind):
            assert (method, path, *got) == (method, path, *refusal)
        else:
            assert got[0] not in (401, 403), (method, path)
    assert len(ROUTES) > 15
    assert {*ROUTES, *PAST} >= AUDITED


async def test_without_the_setting_there_are_no_auditors(database: str) -> None:
    async with serving(database) as service:
        for method, path in [*ROUTES, *PAST]:
            got = await answer(service, method, path, TOKENS["an auditor's"])
            assert (method, path, *got) == (method, path, 403, "not-yours")


async def test_head_is_a_read(service: Service) -> None:
    got = await service.client.head(TASKS, headers=TOKENS["to read"])
    assert got.status_code == 200


async def test_a_write_without_the_scope_leaves_nothing_and_says_what_it_takes(service: Service) -> None:
    got = await service.client.post(TASKS, json={"title": "x"}, headers=TOKENS["to read"])
    assert got.headers["www-authenticate"] == 'Bearer error="insufficient_scope", scope="tasks:write"'
    assert "tasks:write" in got.json()["hint"]
    assert (await service.client.get(AUDIT)).json() == []


@pytest.mark.parametrize("scope", ["", "openid profile", [], ["email"], "tasks:reader", None])
async def test_scopes_of_others_say_nothing(service: Service, scope: Any) -> None:
    got = await service.client.post(TASKS, json={"title": "x"}, headers=bearer("ann", scope=scope))
    assert got.status_code == 201


@pytest.mark.parametrize("claims", [{"scope": 7}, {"scp": {"tasks:read": True}}, {"scope": ["tasks:read", 7]}])
async def test_scopes_that_cannot_be_read_are_401(service: Service, claims: dict[str, Any]) -> None:
    got = await service.client.get(TASKS, headers=bearer("ann", **claims))
    assert got.status_code == 401
    assert "scopes" in got.json()["hint"]


@pytest.mark.parametrize("claims", [{"scp": ["openid tasks:read"]}, {"scope": ["openid", "email tasks:read"]}])
async def test_scopes_of_a_list_may_have_spaces_between_them(service: Service, claims: dict[str, Any]) -> None:
    for more, status in (([], 403), (["tasks:write"], 201)):
        given = {name: scopes + more for name, scopes in claims.items()}
        got = await service.client.post(TASKS, json={"title": "x"}, headers=bearer("ann", **given))
        assert got.status_code == status


async def actors(service: Service, query: str = "") -> list[str]:
    return [each["actor"] for each in (await service.client.get(f"{AUDIT}?order=asc{query}")).json()]


async def test_who_acts_for_the_user_is_on_record_and_can_be_filtered_by(service: Service) -> None:
    client = service.client
    agent = bearer("ann", act={"sub": "https://agents.example/7", "act": {"sub": "before it"}})
    task = (await client.post(TASKS, json={"title": "x"}, headers=agent)).headers["location"]
    await client.patch(f"{task}/complete")
    operations = [{"op": "create", "title": "y"}, {"op": "delete", "id": task.rpartition("/")[2]}]
    await client.post("/api/ann/batch", json={"operations": operations}, headers=bearer("ann", act={"sub": "agent-8"}))
    await client.post("/api/ann/undo", headers=agent)
    await client.post("/api/ann/restore", json={"as_of": "2020-01-01T00:00:00Z"}, headers=agent)
    whole = await actors(service)
    uri = "https://agents.example/7"
    assert whole == [uri, "ann", "agent-8", "agent-8", uri, *[uri] * (len(whole) - 5)]
    assert len(whole) > 5
    assert await actors(service, "&actor=agent-8") == ["agent-8"] * 2
    assert await actors(service, "&actor=agent-8&actor=ann") == ["ann", "agent-8", "agent-8"]
    assert await actors(service, "&actor=ann&type=TaskCreated") == []
    assert await actors(service, "&actor=nobody") == []
    exported = await client.get(f"{AUDIT}?format=ndjson&actor=ann")
    assert len(exported.text.splitlines()) == 1


async def test_only_the_claim_act_says_who_acts(service: Service) -> None:
    claims = {"act": {"sub": "agent-7"}, "act.sub": "somebody"}
    await service.client.post(TASKS, json={"title": "x"}, headers=bearer("ann", **claims))
    assert await actors(service) == ["agent-7"]
    refused = await service.client.get(TASKS, headers=bearer("ann", act={}, **{"act.sub": "somebody"}))
    assert refused.status_code == 401


async def test_the_log_line_names_an_actor_who_is_not_the_user(
    database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(database, log_format="json") as service:
        capsys.readouterr()
        for headers in (bearer("ann", act={"sub": "agent-7"}), bearer("ann")):
            await service.client.get(TASKS, headers=headers)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    named = [(line["user"], line.get("actor")) for line in lines if line["event"] == "request"]
    assert named == [("ann", "agent-7"), ("ann", None)]


async def test_a_teams_list_names_who_acts(database: str) -> None:
    async with serving(database, jwt_user_claim="org.id", jwt_actor_claim="sub") as service:

        def member(name: str, **claims: Any) -> dict[str, str]:
            return bearer(name, org={"id": "ann"}, **claims)

        for headers in (member("eve"), member("joe"), member("joe", act={"sub": "agent-7"})):
            assert (await service.client.post(TASKS, json={"title": "x"}, headers=headers)).status_code == 201
        events = (await service.client.get(AUDIT, headers=member("eve"))).json()
        assert [event["actor"] for event in events] == ["agent-7", "joe", "eve"]
        refused = await service.client.get(TASKS, headers=bearer(None, org={"id": "ann"}))
        assert refused.status_code == 401
        assert "sub" in refused.json()["hint"]


@pytest.mark.parametrize(
    "act",
    ["agent-7", 7, [], {}, {"sub": ""}, {"sub": None}, {"sub": ["a"]}, {"sub": "x" * 256}, {"sub": "a\0b"}],
)
async def test_an_actor_that_cannot_be_read_is_401(service: Service, act: Any) -> None:
    got = await service.client.post(TASKS, json={"title": "x"}, headers=bearer("ann", act=act))
    assert got.status_code == 401
    assert "act.sub" in got.json()["hint"]
