"""Contract, section 2: who may ask for what."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.service import Service, bearer, serving, token

TASKS = "/api/ann/tasks"
ID = "019a9e3c-5f3a-7c21-9d52-3d0c5f0e8a11"
ROUTES = [
    ("GET", ""),
    ("POST", ""),
    ("GET", f"/{ID}"),
    ("PUT", f"/{ID}"),
    ("PATCH", f"/{ID}"),
    ("PATCH", f"/{ID}/complete"),
    ("DELETE", f"/{ID}"),
]


def _unsigned(**claims: Any) -> str:
    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'none', 'typ': 'JWT'})}.{part({'sub': 'ann', 'exp': 2**40, **claims})}."


def _hours(number: int) -> datetime:
    return datetime.now(UTC) + timedelta(hours=number)


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_no_route_answers_without_a_token(service: Service, method: str, path: str) -> None:
    answer = await service.client.request(method, TASKS + path, headers={"Authorization": ""}, json={"title": "x"})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["content-type"] == "application/problem+json"
    assert isinstance(answer.json()["detail"], str)


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_no_route_answers_for_another_user(service: Service, method: str, path: str) -> None:
    async with service.as_user("bob") as bob:
        task = (await bob.post("/api/bob/tasks", json={"title": "Bob's"})).json()
        there = path.replace(ID, task["id"])
        body = {"title": "x"} if method != "DELETE" and "complete" not in path else None
        theirs = await service.client.request(method, f"/api/bob/tasks{there}", json=body)
        nowhere = await service.client.request(method, f"/api/bob/tasks{path}", json=body)
        assert (theirs.status_code, nowhere.status_code) == (403, 403)  # whether or not anything is there
        assert theirs.json()["detail"] == nowhere.json()["detail"]
        assert (await bob.get("/api/bob/tasks")).json() == [task]


@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if ID in route[1]])
async def test_another_users_task_under_ones_own_path_is_404(service: Service, method: str, path: str) -> None:
    async with service.as_user("bob") as bob:
        task = (await bob.post("/api/bob/tasks", json={"title": "Bob's"})).json()
        body = {"title": "x"} if method in ("PUT", "PATCH") and "complete" not in path else None
        theirs = await service.client.request(method, TASKS + path.replace(ID, task["id"]), json=body)
        nowhere = await service.client.request(method, TASKS + path, json=body)
        assert (theirs.status_code, nowhere.status_code) == (404, 404)
        assert theirs.json()["detail"] == nowhere.json()["detail"].replace(ID, task["id"])
        assert (await bob.get("/api/bob/tasks")).json() == [task]


@pytest.mark.parametrize("scheme", ["Basic YW5uOng=", "Bearer", "bearer ", "Token x"])
async def test_another_scheme_is_no_token(service: Service, scheme: str) -> None:
    answer = await service.client.get(TASKS, headers={"Authorization": scheme})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_the_scheme_may_be_in_any_case(service: Service) -> None:
    answer = await service.client.get(TASKS, headers={"Authorization": f"bearer {token()}"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("x", "is not a JWT"),
        ("a.b.c", "is not a JWT"),
        ("ü.ü.ü".encode().decode("latin-1"), "is not a JWT"),
        (token(secret="another secret of more than 32 bytes, too"), "can't be verified"),
        (token() + "x", "can't be verified"),
        (_unsigned(), "algorithm"),
        (token(exp=_hours(-1)), "expired"),
        (token(exp=None), "lacks a required claim"),
        (token(nbf=_hours(1)), "isn't valid yet"),
        (token(None), "claim sub"),
        (token(""), "claim sub"),
        (token("u" * 256), "claim sub"),
        (token("a/b"), "claim sub"),
        (token(".."), "claim sub"),
        (token("a\0b"), "claim sub"),
        (token("\ud800"), "claim sub"),
        (token(["ann"]), "claim sub"),
        (token(True), "claim sub"),
        (token({"id": "ann"}), "claim sub"),
    ],
)
async def test_a_token_that_does_not_hold_is_401(service: Service, bad: str, says: str) -> None:
    answer = await service.client.get(TASKS, headers={b"Authorization": f"Bearer {bad}".encode("latin-1")})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith('Bearer error="invalid_token"')
    assert says in answer.json()["detail"]
    assert bad not in answer.text


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
async def test_each_hmac_algorithm_is_taken(service: Service, algorithm: str) -> None:
    answer = await service.client.get(TASKS, headers=bearer(algorithm=algorithm))
    assert answer.status_code == 200


async def test_clocks_may_differ_by_seconds(service: Service) -> None:
    just_now = datetime.now(UTC) - timedelta(seconds=5)
    assert (await service.client.get(TASKS, headers=bearer(exp=just_now))).status_code == 200


async def test_what_the_contract_does_not_ask_for_is_ignored(service: Service) -> None:
    claims = {"jti": 7, "iat": datetime.now(UTC) + timedelta(hours=1)}
    assert (await service.client.get(TASKS, headers=bearer(**claims))).status_code == 200


async def test_issuer_and_audience_are_ignored_unless_configured(service: Service) -> None:
    answer = await service.client.get(TASKS, headers=bearer(iss="https://x.example", aud="https://y.example"))
    assert answer.status_code == 200


async def test_issuer_and_audience_are_checked_where_configured(database: str) -> None:
    async with serving(database, jwt_issuer="https://app.example", jwt_audience="daybook") as service:
        right = {"iss": "https://app.example", "aud": ["other", "daybook"]}
        assert (await service.client.get(TASKS, headers=bearer(**right))).status_code == 200
        for wrong in ({"iss": "https://evil.example"}, {"aud": "other"}, {"iss": None}, {"aud": None}):
            answer = await service.client.get(TASKS, headers=bearer(**{**right, **wrong}))
            assert answer.status_code == 401


@pytest.mark.parametrize(
    ("claim", "claims"),
    [
        ("id", {"id": "ann"}),
        ("user.id", {"user": {"id": "ann"}}),
        ("https://app.example/user", {"https://app.example/user": "ann"}),
    ],
)
async def test_the_user_claim_can_be_another_one(database: str, claim: str, claims: dict[str, Any]) -> None:
    async with serving(database, jwt_user_claim=claim) as service:
        assert (await service.client.get(TASKS, headers=bearer("bob", **claims))).status_code == 200
        assert (await service.client.get(TASKS, headers=bearer("ann"))).status_code == 401


async def test_a_number_names_a_user_too(service: Service) -> None:
    answer = await service.client.get("/api/7/tasks", headers=bearer(7))
    assert answer.status_code == 200


@pytest.mark.parametrize("path", ["Ann", "ann%20", "%61nn%00", "an%6E%CC%81"])
async def test_a_user_is_the_same_only_letter_by_letter(service: Service, path: str) -> None:
    assert (await service.client.get(f"/api/{path}/tasks")).status_code == 403
