"""Tokens of a real Better Auth, as a frontend gets them."""

import asyncio
import json
import os
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest

from tests.npm import install, needs_npm
from tests.service import SECRET, Service, serving

ISSUER = Path(__file__).parents[1] / "better_auth"
pytestmark = [pytest.mark.once, needs_npm]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Install Better Auth from the lock file, unless that is done; start it and yield its URL."""
    install(ISSUER)
    with subprocess.Popen(
        ["node", "issuer.mjs"],
        cwd=ISSUER,
        env={**os.environ, "BETTER_AUTH_SECRET": SECRET},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        line = process.stdout.readline()
        assert line, "it ended before it listened; its own words are above"
        yield json.loads(line)["url"]
        process.stdin.close()  # which ends it
        assert process.wait(10) == 0


class Session(NamedTuple):
    """A user who has just signed up."""

    user: str
    token: str


@pytest.fixture
async def sign_up(url: str) -> "AsyncIterator[SignUp]":
    async with httpx2.AsyncClient(base_url=url) as client:
        yield SignUp(client)


class SignUp(NamedTuple):
    client: httpx2.AsyncClient

    async def at(self, mounted: str, name: str = "ann") -> Session:
        person = {"email": f"{name}-{os.urandom(4).hex()}@example.com", "password": "a long password", "name": name}
        answer = (await self.client.post(f"{mounted}/sign-up/email", json=person)).raise_for_status().json()
        return Session(answer["user"]["id"], answer["token"])

    async def token(self, mounted: str) -> str:
        """Return a token as `authClient.token()` gets it."""
        token: str = (await self.client.get(f"{mounted}/token")).raise_for_status().json()["token"]
        return token


async def listing(service: Service, user: str, token: str) -> httpx2.Response:
    return await service.client.get(f"/api/{user}/tasks", headers={"Authorization": f"Bearer {token}"})


async def test_its_url_alone_is_enough(database: str, url: str, sign_up: SignUp) -> None:
    session = await sign_up.at("/api/auth")
    token = await sign_up.token("/api/auth")
    async with serving(database, better_auth_url=url, jwt_secret=None) as service:
        headers = {"Authorization": f"Bearer {token}"}
        there = f"/api/{session.user}/tasks"
        task = (await service.client.post(there, json={"title": "Buy milk"}, headers=headers)).raise_for_status().json()
        assert task["user_id"] == session.user
        assert (await listing(service, session.user, token)).json() == [task]
        assert (await listing(service, "ann", token)).status_code == 403


@pytest.mark.parametrize("mounted", ["/es256", "/es512", "/ps256", "/rs256"])
async def test_each_of_its_algorithms_and_another_mount_point(
    database: str, url: str, sign_up: SignUp, mounted: str
) -> None:
    session = await sign_up.at(mounted)
    token = await sign_up.token(mounted)
    async with serving(database, better_auth_url=url + mounted, jwt_secret=None) as service:
        assert (await listing(service, session.user, token)).status_code == 200


async def test_its_tokens_are_not_anothers(database: str, url: str, sign_up: SignUp) -> None:
    """Tokens of the other instance have the same kind, issuer and audience, but a different key."""
    session = await sign_up.at("/es256")
    token = await sign_up.token("/es256")
    async with serving(database, better_auth_url=url) as service:
        assert (await listing(service, session.user, token)).status_code == 401


async def test_a_key_that_it_has_just_made_is_taken_at_once(database: str, url: str, sign_up: SignUp) -> None:
    session = await sign_up.at("/rotating")
    first = await sign_up.token("/rotating")
    async with serving(database, better_auth_url=f"{url}/rotating") as service:
        assert (await listing(service, session.user, first)).status_code == 200
        while (second := await sign_up.token("/rotating")).split(".")[0] == first.split(".")[0]:
            await asyncio.sleep(0.1)  # it rotates after a second
        assert (await listing(service, session.user, second)).status_code == 200
        assert (await listing(service, session.user, first)).status_code == 200


async def test_its_issuer_and_audience_are_its_origin(database: str, url: str, sign_up: SignUp) -> None:
    session = await sign_up.at("/api/auth")
    token = await sign_up.token("/api/auth")
    elsewhere = url.replace("127.0.0.1", "localhost")
    async with serving(database, jwt_jwks_url=f"{url}/api/auth/jwks", better_auth_url=elsewhere) as service:
        answer = await listing(service, session.user, token)
        assert answer.status_code == 401
        assert answer.json()["hint"] == f"The token's issuer (iss) isn't {elsewhere}."
    async with serving(database, jwt_jwks_url=f"{url}/api/auth/jwks", jwt_issuer=url, jwt_audience=url) as service:
        assert (await listing(service, session.user, token)).status_code == 200


async def test_a_session_token_is_refused_with_a_word_of_what_it_is(database: str, url: str, sign_up: SignUp) -> None:
    session = await sign_up.at("/api/auth")
    async with serving(database, better_auth_url=url) as service:
        for opaque in (session.token, sign_up.client.cookies["better-auth.session_token"]):
            answer = await listing(service, session.user, opaque)
            assert answer.status_code == 401
            assert "session token" in answer.json()["hint"]


async def test_the_cached_session_is_signed_with_the_shared_secret_and_names_the_user_elsewhere(
    database: str, sign_up: SignUp
) -> None:
    """Better Auth's cookie cache "jwt" is signed with BETTER_AUTH_SECRET by HS256, and has the user under user.id."""
    session = await sign_up.at("/cookie")
    cached = sign_up.client.cookies["better-auth.session_data"]
    assert re.fullmatch(r"eyJ[^.]+\.[^.]+\.[^.]+", cached)
    async with serving(database) as service:
        assert "claim sub" in (await listing(service, session.user, cached)).json()["hint"]
    async with serving(database, jwt_user_claim="user.id") as service:
        assert (await listing(service, session.user, cached)).status_code == 200


async def test_members_of_an_organization_share_a_list_and_those_who_left_do_not(database: str, url: str) -> None:
    """The team's tokens name its list, as docs/guides/teams.md shows."""
    async with (
        httpx2.AsyncClient(base_url=f"{url}/team", headers={"Origin": url}) as ann,
        httpx2.AsyncClient(base_url=f"{url}/team", headers={"Origin": url}) as eve,
        serving(
            database, better_auth_url=f"{url}/team", jwt_secret=None, jwt_user_claim="list", jwt_actor_claim="sub"
        ) as service,
    ):

        async def ask(client: httpx2.AsyncClient, path: str, **body: object) -> dict[str, object]:
            answer: dict[str, object] = (await client.post(path, json=body)).raise_for_status().json()
            return answer

        async def add(client: httpx2.AsyncClient) -> int:
            token = (await client.get("/token")).raise_for_status().json()["token"]
            headers = {"Authorization": f"Bearer {token}"}
            return (await service.client.post(f"{there}/tasks", json={"title": "x"}, headers=headers)).status_code

        ids = [(await SignUp(client).at("", name)).user for client, name in ((ann, "ann"), (eve, "eve"))]
        team = await ask(ann, "/organization/create", name="Acme", slug="acme")
        there = f"/api/{team['id']}"
        refused = await eve.post("/organization/set-active", json={"organizationId": team["id"]})
        assert refused.status_code == 403
        assert (await add(ann), await add(eve)) == (201, 403)
        email = (await eve.get("/get-session")).json()["user"]["email"]
        invited = {"email": email, "role": "member", "organizationId": team["id"]}
        invitation = await ask(ann, "/organization/invite-member", **invited)
        await ask(eve, "/organization/accept-invitation", invitationId=invitation["id"])
        await ask(eve, "/organization/set-active", organizationId=team["id"])
        assert (await add(ann), await add(eve)) == (201, 201)
        token = (await ann.get("/token")).json()["token"]
        events = await service.client.get(f"{there}/audit", headers={"Authorization": f"Bearer {token}"})
        assert [event["actor"] for event in events.json()] == [ids[1], ids[0], ids[0]]
        await ask(ann, "/organization/remove-member", memberIdOrEmail=email, organizationId=team["id"])
        assert (await eve.get("/get-session")).json()["session"]["activeOrganizationId"] == team["id"]
        assert (await add(ann), await add(eve)) == (201, 403)
