"""Attacks on authentication: each is refused, and no token gets into the log."""

import asyncio
import base64
import hmac
import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from fastapi.routing import iter_route_contexts

from api.app import create_app
from config import logs
from tests.issuer import Issuer, SigningKey, issuing
from tests.service import SECRET, Service, bearer, listening, serving, settings, token
from tests.tokens import segment

pytestmark = pytest.mark.once

KEYS = {
    each.kid: each for each in (SigningKey.new("ed"), SigningKey.new("ec", "ES256"), SigningKey.new("rsa", "RS256"))
}
ED, EC, RSA = KEYS.values()
THEIRS = SigningKey.new("ed")
"""The attacker's own key, under the id of a real one."""
TASK_ID = "019a9e3c-5f3a-7c21-9d52-3d0c5f0e8a11"


@dataclass
class Target:
    """A service that takes tokens of both kinds, the issuer of one, a server of the attacker's, and the log so far."""

    service: Service
    issuer: Issuer
    attacker: Issuer
    _capsys: pytest.CaptureFixture[str]

    async def get(self, bad: str, path: str = "/api/ann/tasks") -> httpx2.Response:
        return await self.service.client.get(path, headers={b"Authorization": b"Bearer " + bad.encode("latin-1")})

    async def refuses(self, bad: str, says: str) -> None:
        """Check that a token gets 401 and the reason, and that neither it nor a telling part is in answer or log."""
        logs.configure("INFO", "json")  # to the test's own standard error, not the fixture's
        self._capsys.readouterr()
        answer = await self.get(bad)
        lines = [json.loads(line) for line in self._capsys.readouterr().err.splitlines()]
        [refused] = [line for line in lines if line["event"] == "token refused"]
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith('Bearer error="invalid_token", error_description="')
        assert answer.headers["content-type"] == "application/problem+json"
        assert re.search(says, answer.json()["hint"]), answer.json()["hint"]
        assert refused["reason"] == answer.json()["hint"]
        for part in [bad, *(part for part in bad.split(".")[1:] if len(part) > 4)]:
            assert part not in answer.text
            assert part not in str(dict(answer.headers))
            assert part not in json.dumps(lines, ensure_ascii=False)


@pytest.fixture
async def target(unchanged_database: str, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[Target]:
    async with (
        issuing(*KEYS.values()) as issuer,
        issuing(THEIRS) as attacker,
        serving(unchanged_database, jwt_jwks_url=f"{issuer.origin}/jwks") as service,
    ):
        yield Target(service, issuer, attacker, capsys)


def forged(header: Any, sign: Callable[[bytes], bytes] = lambda _: b"", **claims: Any) -> str:
    """Forge a token by hand, since libraries refuse to make such ones."""
    body = f"{segment(header)}.{segment({'sub': 'ann', 'exp': 2**40, **claims})}"
    return f"{body}.{segment(sign(body.encode()))}"


def hmac_with(key: bytes, digest: str = "sha256") -> Callable[[bytes], bytes]:
    return lambda body: hmac.new(key, body, digest).digest()


def always(signature: bytes) -> Callable[[bytes], bytes]:
    return lambda _: signature


def public_forms(key: SigningKey) -> list[bytes]:
    """Return all forms that somebody may take for "the public key's bytes"."""
    public = key.private.public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    jwk = key.jwk()
    coordinate = jwk.get("x") or jwk["n"]
    raw = base64.urlsafe_b64decode(coordinate + "=" * (-len(coordinate) % 4))
    return [pem, pem.strip(), der, raw, coordinate.encode(), json.dumps(jwk).encode()]


def hours(number: float) -> datetime:
    return datetime.now(UTC) + timedelta(hours=number)


async def test_the_target_takes_good_tokens_of_both_kinds(target: Target) -> None:
    for good in (*(key.token() for key in KEYS.values()), token()):
        assert (await target.get(good)).status_code == 200


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", "", None, 0, ["EdDSA"], {"EdDSA": 1}])
async def test_no_signature_at_all(target: Target, name: Any) -> None:
    for kid in ({}, {"kid": "ed"}):
        await target.refuses(forged({"alg": name, **kid}), "algorithm|not a JWT")
    await target.refuses(forged({"kid": "ed"}), "algorithm|not a JWT")


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize("kid", KEYS)
async def test_the_public_keys_bytes_as_a_shared_secret(target: Target, algorithm: str, kid: str) -> None:
    for key in public_forms(KEYS[kid]):
        bad = forged({"alg": algorithm, "kid": kid}, hmac_with(key, algorithm.replace("HS", "sha")))
        await target.refuses(bad, "signature isn't")


async def test_the_public_keys_bytes_where_no_secret_is_set(unchanged_database: str) -> None:
    async with (
        issuing(RSA) as issuer,
        serving(unchanged_database, jwt_jwks_url=f"{issuer.origin}/jwks", jwt_secret=None) as service,
    ):
        for key in (b"", *public_forms(RSA)):
            bad = forged({"alg": "HS256", "kid": "rsa"}, hmac_with(key))
            answer = await service.client.get("/api/ann/tasks", headers={"Authorization": f"Bearer {bad}"})
            assert answer.status_code == 401
            assert "no JWT_SECRET" in answer.json()["hint"]


async def test_the_shared_secret_for_an_issuers_algorithm(target: Target) -> None:
    for algorithm in ("EdDSA", "ES256", "RS256", "PS256"):
        await target.refuses(forged({"alg": algorithm, "kid": "ed"}, hmac_with(SECRET.encode())), "algorithm|signature")


async def test_another_type_of_key_under_a_known_id(target: Target) -> None:
    for kid in KEYS:
        for algorithm in ("EdDSA", "ES256", "ES512", "RS256", "PS256"):
            if algorithm != KEYS[kid].algorithm:
                bad = SigningKey.new(kid, algorithm).token()
                await target.refuses(bad, "algorithm isn't its key's")


async def test_the_same_type_of_key_under_a_known_id(target: Target) -> None:
    await target.refuses(THEIRS.token(), "signature isn't")


async def test_a_good_keys_token_under_another_keys_id(target: Target) -> None:
    await target.refuses(ED.token(headers={"kid": "ec"}), "algorithm isn't its key's")


@pytest.mark.parametrize(
    "name",
    ["RS384", "PS512", "ES384", "ES256K", "ESP256", "Ed448", "ed25519", "RSA-OAEP", "dir", "HS1", "hs256", "eddsa"],
)
async def test_an_algorithm_that_is_not_taken(target: Target, name: str) -> None:
    await target.refuses(
        forged({"alg": name, "kid": "rsa"}, hmac_with(SECRET.encode())), "algorithm that isn't accepted"
    )


@pytest.mark.parametrize(
    "kid",
    [
        "../../../../dev/null",
        "/etc/passwd",
        "file:///dev/null",
        "{attacker}/jwks",
        "ed' OR '1'='1",
        "ed\0",
        "ed\n",
        " ed",
        "ED",
        "\ufeffed",
        "k" * 5000,
        "__class__",
        "",
    ],
)
async def test_a_key_id_that_is_a_path_a_url_or_a_trick(target: Target, kid: str) -> None:
    await target.refuses(
        THEIRS.token(headers={"kid": kid.format(attacker=target.attacker.origin)}), "key isn't among those"
    )
    assert target.attacker.requests == 0
    assert target.issuer.requests <= 2  # when it started, and for the first unknown key


@pytest.mark.parametrize("kid", [7, None, ["ed"], {"kid": "ed"}, True])
async def test_a_key_id_that_is_no_text(target: Target, kid: Any) -> None:
    await target.refuses(forged({"alg": "EdDSA", "kid": kid}, always(b"x" * 64)), "name its key")


@pytest.mark.parametrize("signed_by", ["the attacker", "the issuer"])
@pytest.mark.parametrize("name", ["jku", "x5u", "jwk", "x5c"])
async def test_a_header_that_brings_its_own_key_is_ignored(target: Target, name: str, signed_by: str) -> None:
    where = f"{target.attacker.origin}/jwks"
    value = {"jku": where, "x5u": where, "jwk": THEIRS.jwk(), "x5c": ["MIIB"]}[name]
    if signed_by == "the issuer":
        assert (await target.get(ED.token(headers={name: value}))).status_code == 200
    else:
        await target.refuses(THEIRS.token(headers={name: value}), "signature isn't")
        await target.refuses(THEIRS.token(headers={name: value, "kid": "theirs"}), "key isn't among those")
    assert target.attacker.requests == 0


async def test_an_extension_that_must_be_understood(target: Target) -> None:
    await target.refuses(ED.token(headers={"crit": ["exp"], "exp": 1}), r"extension \(crit\)")
    unencoded = forged({"alg": "EdDSA", "kid": "ed", "b64": False, "crit": ["b64"]}, always(b"x" * 64))
    await target.refuses(unencoded, r"extension \(b64\)")


@pytest.mark.parametrize("kind", ["shared", "issued"])
@pytest.mark.parametrize(
    ("claims", "says"),
    [
        ({"exp": hours(-1)}, "expired"),
        ({"exp": datetime.now(UTC) - timedelta(seconds=11)}, "expired"),
        ({"exp": 0}, "expired"),
        ({"exp": "soon"}, "exp must be a number"),
        ({"exp": [2**40]}, "exp must be a number"),
        ({"exp": float("inf")}, "exp lies more than a hundred years ahead"),
        ({"exp": None}, "lacks a required claim"),
        ({"nbf": hours(1)}, "isn't valid yet"),
        ({"nbf": "soon"}, "nbf must be a number"),
        ({"sub": None}, "claim sub"),
        ({"sub": ""}, "claim sub"),
        ({"sub": "u" * 256}, "claim sub"),
        ({"sub": "ann/tasks"}, "claim sub"),
        ({"sub": ".."}, "claim sub"),
        ({"sub": "ann\0"}, "claim sub"),
        ({"sub": ["ann"]}, "claim sub"),
        ({"sub": {"id": "ann"}}, "claim sub"),
        ({"sub": True}, "claim sub"),
        ({"sub": 1.5}, "claim sub"),
    ],
)
async def test_claims_that_do_not_hold(target: Target, kind: str, claims: dict[str, Any], says: str) -> None:
    await target.refuses(ED.token(**claims) if kind == "issued" else token(**claims), says)


@pytest.mark.parametrize(
    "wrong", ["https://evil.example", "https://app.example/", "https://app.example.evil.example", ""]
)
async def test_another_issuer_or_audience(unchanged_database: str, wrong: str) -> None:
    right = {"iss": "https://app.example", "aud": "https://app.example"}
    async with (
        issuing(ED) as issuer,
        serving(
            unchanged_database,
            jwt_jwks_url=f"{issuer.origin}/jwks",
            jwt_issuer="https://app.example",
            jwt_audience="https://app.example",
        ) as service,
    ):
        for sign in (ED.bearer, bearer):
            assert (await service.client.get("/api/ann/tasks", headers=sign(**right))).status_code == 200
            wrongs: list[dict[str, Any]] = [
                {"iss": wrong},
                {"aud": wrong},
                {"aud": [wrong]},
                {"iss": None},
                {"aud": None},
            ]
            for claims in (*wrongs, {"aud": []}):
                answer = await service.client.get("/api/ann/tasks", headers=sign(**{**right, **claims}))
                assert answer.status_code == 401, claims


async def test_better_auths_origin_is_asked_of_its_own_tokens_and_not_of_the_shared_secrets(
    unchanged_database: str,
) -> None:
    async with issuing(ED) as issuer, serving(unchanged_database, better_auth_url=issuer.origin) as service:
        its_own = {"iss": issuer.origin, "aud": issuer.origin}
        assert (await service.client.get("/api/ann/tasks", headers=ED.bearer(**its_own))).status_code == 200
        assert (await service.client.get("/api/ann/tasks", headers=ED.bearer())).status_code == 401
        assert (await service.client.get("/api/ann/tasks", headers=bearer())).status_code == 200


@pytest.mark.parametrize(
    "bad",
    [
        "x" * 1024 * 1024,
        "a." * 512 * 1024,
        segment({"alg": "HS256", "pad": "x" * 800_000}) + ".e30.c2ln",
        segment(b"[" * 11_000) + ".e30.c2ln",
        segment(b'{"alg":' + b"[" * 11_000) + ".e30.c2ln",
        segment({"alg": "HS256"}) + "." + segment(b"{" * 11_000) + ".c2ln",
    ],
    ids=["1 MB", "1 MB of dots", "1 MB header", "deep", "deep inside", "deep claims"],
)
async def test_a_token_that_is_meant_to_exhaust(target: Target, bad: str) -> None:
    await target.refuses(bad, "too long|not a JWT|signature (isn't|.* is damaged)")


async def test_a_token_may_have_16_384_characters(target: Target) -> None:
    long = token(pad="")
    longest = token(pad="x" * ((16_384 - len(long)) * 3 // 4))
    assert 16_380 <= len(longest) <= 16_384
    assert (await target.get(longest)).status_code == 200
    await target.refuses(token(pad="x" * 12_400), "too long")


async def test_signatures_that_are_bent(target: Target) -> None:
    good = ED.token()
    body, _, signature = good.rpartition(".")
    for bent in (
        f"{body}.",
        f"{body}.{signature[:-4]}",
        f"{body}.{signature}{signature}",
        f"{body}.{'A' * len(signature)}",
    ):
        await target.refuses(bent, "signature isn't|signature .* is (damaged|missing)")
    head, claims, _ = good.split(".")
    await target.refuses(f"{head}.{segment({'sub': 'bob', 'exp': 2**40})}.{signature}", "signature isn't")
    await target.refuses(f"{segment({'alg': 'EdDSA', 'kid': 'ed', 'x': 1})}.{claims}.{signature}", "signature isn't")
    await target.refuses(f"{good}.{signature}", "4 parts")


async def test_the_neutral_point_as_a_signature_of_everything(target: Target) -> None:
    for signature in (b"\0" * 64, b"\1" + b"\0" * 63):
        await target.refuses(forged({"alg": "EdDSA", "kid": "ed"}, always(signature)), "signature isn't")
        await target.refuses(forged({"alg": "ES256", "kid": "ec"}, always(signature)), "signature isn't")


async def test_the_key_id_chooses_among_published_keys_only(target: Target) -> None:
    own = ed25519.Ed25519PrivateKey.generate()
    bad = jwt.encode({"sub": "ann", "exp": hours(1)}, own, "EdDSA", {"kid": "own"})
    await target.refuses(bad, "key isn't among those")
    await target.refuses(jwt.encode({"sub": "ann", "exp": hours(1)}, own, "EdDSA"), "doesn't name its key")


# Ids that look alike, or that a program may normalise to each other, but that are different users.
LOOKALIKES = [
    ("ann", "Ann"),
    ("ann", "ANN"),
    ("ann", "ann "),
    ("ann", " ann"),
    ("ann", "ann\t"),
    ("ann", "ann\u200b"),
    ("ann", "\uff41nn"),
    ("caf\u00e9", "cafe\u0301"),
    ("\u212b", "\u00c5"),
    ("stra\u00dfe", "STRASSE"),
    ("a%20b", "a b"),
    ("%61nn", "ann"),
    ("ann", "%61nn"),
    ("1", "01"),
    ("1", "1.0"),
    ("\u0661", "1"),
    ("ann", "ann\0"),
    ("ann", "ann;x"),
]


@pytest.mark.parametrize(("mine", "theirs"), LOOKALIKES)
async def test_an_id_that_only_looks_the_same_is_another_users(service: Service, mine: str, theirs: str) -> None:
    own = await service.client.post(f"/api/{quote(mine, safe='')}/tasks", json={"title": "x"}, headers=bearer(mine))
    assert own.status_code == 201
    assert own.json()["user_id"] == mine
    there = await service.client.get(f"/api/{quote(theirs, safe='')}/tasks", headers=bearer(mine))
    assert there.status_code == 403
    if "\0" not in theirs:  # which names nobody
        here = await service.client.get(f"/api/{quote(theirs, safe='')}/tasks", headers=bearer(theirs))
        assert here.json() == []


@pytest.mark.parametrize("path", ["%61nn", "a%6en", "%61%6E%6e"])
async def test_percent_encoding_that_changes_nothing_changes_nothing(service: Service, path: str) -> None:
    """`%61` is an `a` for everybody on the way (RFC 3986, section 6.2.2.2)."""
    assert (await service.client.get(f"/api/{path}/tasks")).status_code == 200
    assert (await service.client.get(f"/api/{path}/tasks", headers=bearer("bob"))).status_code == 403


@pytest.mark.parametrize(
    "path", ["/api/ann/../bob/tasks", "/api/ann%2F..%2Fbob/tasks", "/api/./bob/tasks", "/api//bob/tasks"]
)
async def test_dots_lead_nowhere(service: Service, path: str) -> None:
    async with listening(service.asgi) as port:  # a client would take the dots out
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"GET {path} HTTP/1.1\r\nHost: daybook\r\nAuthorization: {bearer()['Authorization']}\r\n"
        writer.write(f"{head}Connection: close\r\n\r\n".encode())
        answer = (await reader.read()).decode()
        writer.close()
    assert answer.partition("\r\n")[0].split()[1] in ("403", "404")


APP = create_app(settings("postgresql://h/d"))
ROUTES = [
    (method, str(route.path))
    for route in iter_route_contexts(APP.routes)
    if str(route.path).startswith("/api")
    for method in sorted(route.methods or ())
]


def at(path: str, user: str, task_id: str = TASK_ID) -> str:
    return path.format(user_id=user, task_id=task_id)


def test_the_routes_are_found() -> None:
    assert len(ROUTES) >= 7


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_every_route_refuses_without_a_token(service: Service, method: str, path: str) -> None:
    for headers in ({"Authorization": ""}, {"Authorization": "Bearer x"}, {"Authorization": "Basic YW5uOng="}):
        answer = await service.client.request(method, at(path, "ann"), headers=headers, json={"title": "x"})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_every_route_refuses_another_users_path(service: Service, method: str, path: str) -> None:
    async with service.as_user("bob") as bob:
        task = (await bob.post("/api/bob/tasks", json={"title": "Bob's"})).json()
        theirs = await service.client.request(method, at(path, "bob", task["id"]), json={"title": "x"})
        nowhere = await service.client.request(method, at(path, "bob"), json={"title": "x"})
        nobody = await service.client.request(method, at(path, "nobody"), content=b"\xff")
        assert [each.status_code for each in (theirs, nowhere, nobody)] == [403, 403, 403]
        assert theirs.json()["detail"] == nowhere.json()["detail"] == nobody.json()["detail"]
        assert (await bob.get("/api/bob/tasks")).json() == [task]


@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if "{task_id}" in route[1]])
async def test_every_route_hides_another_users_task_on_ones_own_path(service: Service, method: str, path: str) -> None:
    async with service.as_user("bob") as bob:
        task = (await bob.post("/api/bob/tasks", json={"title": "Bob's"})).json()
        body = {} if path.endswith(("/complete", "/restore", "/erase")) else {"title": "x"}
        theirs = await service.client.request(method, at(path, "ann", task["id"]), json=body)
        nowhere = await service.client.request(method, at(path, "ann"), json=body)
        assert (theirs.status_code, nowhere.status_code) == (404, 404)
        assert theirs.json()["detail"] == nowhere.json()["detail"]
        assert theirs.json()["hint"] == nowhere.json()["hint"].replace(TASK_ID, task["id"])
        assert (await bob.get("/api/bob/tasks")).json() == [task]
        assert (await service.client.get("/api/ann/tasks")).json() == []
