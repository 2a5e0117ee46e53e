"""Authentication and authorization (docs/http-api.md, "Authentication")."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.issuer import ALGORITHMS, SigningKey, issuing
from tests.service import TASKS, Service, bearer, serving, token

pytestmark = pytest.mark.once


@pytest.mark.parametrize("scheme", ["Basic YW5uOng=", "Bearer", "bearer ", "Token x"])
async def test_a_token_under_another_scheme_is_401(service: Service, scheme: str) -> None:
    answer = await service.client.get(TASKS, headers={"Authorization": scheme})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_the_scheme_may_be_in_any_case(service: Service) -> None:
    answer = await service.client.get(TASKS, headers={"Authorization": f"bearer {token()}"})
    assert answer.status_code == 200


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
async def test_each_hmac_algorithm_is_taken(service: Service, algorithm: str) -> None:
    answer = await service.client.get(TASKS, headers=bearer(algorithm=algorithm))
    assert answer.status_code == 200


async def test_clocks_may_differ_by_seconds(service: Service) -> None:
    just_now = datetime.now(UTC) - timedelta(seconds=5)
    assert (await service.client.get(TASKS, headers=bearer(exp=just_now))).status_code == 200


async def test_claims_that_are_not_asked_for_are_ignored(service: Service) -> None:
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


async def test_an_unreachable_issuers_unknown_tokens_are_503_and_known_ones_hold(database: str) -> None:
    known, new = SigningKey.new("known"), SigningKey.new("new")
    async with issuing(known) as issuer, serving(database, jwt_jwks_url=f"{issuer.origin}/jwks") as service:
        assert (await service.client.get(TASKS, headers=known.bearer())).status_code == 200
        await issuer.fail("refused")
        answer = await service.client.get(TASKS, headers=new.bearer())
        assert answer.status_code == 503
        assert answer.json()["type"] == "/problems/unavailable"
        assert 1 <= int(answer.headers["retry-after"]) <= 10
        for fresh in (known.bearer(), known.bearer(iat=1)):
            assert (await service.client.get(TASKS, headers=fresh)).status_code == 200
        assert (await service.client.get(TASKS, headers=bearer())).status_code == 200
        await issuer.recover()


async def test_the_challenge_escapes_the_values_that_it_quotes(database: str) -> None:
    async with serving(database, jwt_issuer='https://"app"\\\r\nSet-Cookie: x=é') as service:
        answer = await service.client.get(TASKS, headers=bearer(iss="x"))
        assert answer.status_code == 401
        description = "The token's issuer (iss) isn't https://?app????Set-Cookie: x=?."
        assert answer.headers["www-authenticate"] == f'Bearer error="invalid_token", error_description="{description}"'


async def test_the_keys_are_asked_for_when_the_service_starts(database: str) -> None:
    async with issuing(SigningKey.new()) as issuer, serving(database, jwt_jwks_url=f"{issuer.origin}/jwks"):
        while not issuer.requests:
            await asyncio.sleep(0)


async def test_tokens_of_an_issuer_where_there_is_none_are_401_and_say_what_to_set(service: Service) -> None:
    answer = await service.client.get(TASKS, headers=SigningKey.new().bearer())
    assert answer.status_code == 401
    assert "BETTER_AUTH_URL" in answer.json()["hint"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_each_algorithm_of_an_issuer_is_taken_also_where_its_key_does_not_say_which(
    database: str, algorithm: str
) -> None:
    key = SigningKey.new("k", algorithm)
    async with issuing(key) as issuer, serving(database, better_auth_url=issuer.origin, jwt_secret=None) as service:
        issuer.keys = [key.jwk(alg=None)]
        headers = key.bearer(iss=issuer.origin, aud=issuer.origin)
        assert (await service.client.get(TASKS, headers=headers)).status_code == 200
