"""The issuer's keys, fetched from a real server that fails on demand, by a clock of the test's own."""

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from api.auth.claims import BadToken
from api.auth.jwks import IssuerKey, KeysUnavailable, UnknownKey, UnusableKey, open_jwks
from api.auth.verifier import Verifier
from tests.issuer import ALGORITHMS, FAILURES, Clock, SigningKey, cache, issuing

OLD, NEW = SigningKey.new("old"), SigningKey.new("new")


async def test_a_key_is_fetched_once_and_stays_the_same_object() -> None:
    async with issuing(OLD) as issuer, cache(issuer, Clock()) as jwks:
        first = await jwks.key("old")
        assert first.algorithms == {"EdDSA"}
        assert await jwks.key("old") is first
        assert issuer.requests == 1


async def test_many_at_once_share_one_fetch() -> None:
    async with issuing(OLD) as issuer, cache(issuer, Clock()) as jwks:
        keys = await asyncio.gather(*(jwks.key("old") for _ in range(100)))
        assert len(set(map(id, keys))) == 1
        assert issuer.requests == 1


@pytest.mark.parametrize("first", [True, False], ids=["the first fetch", "for a new key"])
async def test_a_request_that_gives_up_waiting_does_not_end_the_others_fetch(*, first: bool) -> None:
    clock = Clock()
    async with issuing(OLD) as issuer, cache(issuer, clock) as jwks:
        if not first:
            await jwks.key("old")
            issuer.publish(OLD, NEW)
            clock.now += 1
        asked = issuer.requests
        issuer.gate.clear()
        impatient, patient = [asyncio.create_task(jwks.key("old" if first else "new")) for _ in range(2)]
        while issuer.requests == asked:
            await asyncio.sleep(0)
        impatient.cancel()
        issuer.gate.set()
        assert (await patient).algorithms == {"EdDSA"}
        assert impatient.cancelled()


async def test_a_new_key_is_found_at_once() -> None:
    clock = Clock()
    async with issuing(OLD) as issuer, cache(issuer, clock) as jwks:
        old = await jwks.key("old")
        issuer.publish(OLD, NEW)
        clock.now += 0.1
        await jwks.key("new")
        assert await jwks.key("old") is old


async def test_a_flood_of_unknown_keys_fetches_once_in_ten_seconds() -> None:
    clock = Clock()
    async with issuing(OLD) as issuer, cache(issuer, clock) as jwks:
        await jwks.key("old")
        for _ in range(21):
            clock.now += 1
            answers = await asyncio.gather(*(jwks.key(f"x{n}") for n in range(50)), return_exceptions=True)
            assert {type(answer) for answer in answers} == {UnknownKey}
        assert issuer.requests == 1 + 3
        await jwks.key("old")


async def test_a_flood_does_not_keep_a_new_key_out_for_longer_than_ten_seconds() -> None:
    clock = Clock()
    async with issuing(OLD) as issuer, cache(issuer, clock) as jwks:
        await jwks.key("old")
        clock.now += 1
        with pytest.raises(UnknownKey):
            await jwks.key("x")
        issuer.publish(OLD, NEW)
        clock.now += 9.9
        with pytest.raises(UnknownKey):
            await jwks.key("new")
        clock.now += 0.1
        await jwks.key("new")


@pytest.mark.parametrize("how", FAILURES)
async def test_known_keys_go_on_while_the_issuer_is_away(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    async with issuing(OLD) as issuer, cache(issuer, clock) as jwks:
        key = await jwks.key("old")
        await issuer.fail(how)
        monkeypatch.setattr("api.auth.jwks_response._TIMEOUT_SECONDS", 0.1)
        for _ in range(5):
            clock.now += 600
            assert await jwks.key("old") is key
            with pytest.raises(KeysUnavailable) as caught:
                await jwks.key("new")
            assert 1 <= caught.value.seconds <= 10
        monkeypatch.undo()
        issuer.publish(NEW)
        await issuer.recover()
        clock.now += 10
        await jwks.key("new")
        with pytest.raises(UnknownKey):
            await jwks.key("old")


async def test_an_unreachable_issuer_is_asked_once_in_ten_seconds() -> None:
    clock = Clock()
    async with issuing(OLD) as issuer, cache(issuer, clock) as jwks:
        await jwks.key("old")
        await issuer.fail("500")
        clock.now += 600
        asked = issuer.requests
        for _ in range(30):
            await jwks.key("old")
            if jwks._fetching:
                await jwks._fetching
            clock.now += 1
        assert issuer.requests == asked + 3


async def test_requests_do_not_wait_for_an_unreachable_issuer() -> None:
    clock = Clock()
    async with issuing(OLD) as issuer, cache(issuer, clock) as jwks:
        key = await jwks.key("old")
        await issuer.fail("500")
        clock.now += 600
        await jwks.key("old")
        issuer.gate.clear()  # from here on it hangs, and whoever waits for it hangs too
        clock.now += 10
        assert await at_once(jwks.key("old")) is key
        assert jwks._fetching


async def at_once(coroutine: Coroutine[Any, Any, IssuerKey]) -> IssuerKey:
    """Return the coroutine's result, and fail if it waits for anything."""
    task = asyncio.create_task(coroutine)
    await asyncio.sleep(0)
    assert task.done()
    return await task


async def test_a_refusal_says_when_to_try_again() -> None:
    clock = Clock()
    async with issuing(OLD) as issuer, cache(issuer, clock) as jwks:
        await issuer.fail("500")
        for seconds in (10, 10, 7, 4, 1):  # the first fetch was due anyway
            with pytest.raises(KeysUnavailable) as caught:
                await jwks.key("old")
            assert caught.value.seconds == seconds
            clock.now += 3


async def test_the_first_fetch_serves_unknown_keys_too() -> None:
    async with issuing(OLD) as issuer, cache(issuer, Clock()) as jwks:
        with pytest.raises(UnknownKey):
            await jwks.key("x")
        assert issuer.requests == 1


async def test_a_key_published_during_a_fetch_is_found_by_the_next_one_at_once() -> None:
    clock = Clock()
    async with issuing(OLD) as issuer, cache(issuer, clock) as jwks:
        await jwks.key("old")
        clock.now += 240
        issuer.body = json.dumps({"keys": issuer.keys}).encode()
        issuer.gate.clear()
        await jwks.key("old")
        while issuer.requests == 1:
            await asyncio.sleep(0)

        def publish(_: object) -> None:
            issuer.publish(OLD, NEW)
            issuer.body = None

        clock.now += 1
        waiting = [asyncio.create_task(jwks.key("new")) for _ in range(5)]
        await asyncio.sleep(0)
        fetching = jwks._fetching
        assert fetching
        fetching.add_done_callback(publish)
        issuer.gate.set()
        assert len({id(await each) for each in waiting}) == 1
        assert issuer.requests == 3


async def test_before_the_first_keys_no_token_is_called_bad() -> None:
    clock = Clock()
    async with issuing(OLD) as issuer, cache(issuer, clock) as jwks:
        await issuer.fail("refused")
        with pytest.raises(KeysUnavailable):
            await jwks.key("old")
        await issuer.recover()
        clock.now += 10
        await jwks.key("old")


async def test_a_dropped_key_is_trusted_for_five_minutes_at_most() -> None:
    clock = Clock()
    async with issuing(OLD, NEW) as issuer, cache(issuer, clock) as jwks:
        new = await jwks.key("new")
        issuer.publish(NEW)
        clock.now += 300
        with pytest.raises(UnknownKey):
            await jwks.key("old")
        assert await jwks.key("new") is new


async def test_a_key_dropped_while_the_issuer_was_away_is_not_trusted_when_an_idle_service_wakes() -> None:
    clock = Clock()
    async with issuing(OLD, NEW) as issuer, cache(issuer, clock) as jwks:
        await jwks.key("old")
        await issuer.fail("500")
        clock.now += 300
        await jwks.key("old")
        issuer.publish(NEW)
        await issuer.recover()
        clock.now += 3600
        with pytest.raises(UnknownKey):
            await jwks.key("old")


async def test_no_request_waits_for_a_second_fetch_after_a_failed_one() -> None:
    clock = Clock()
    async with issuing(OLD) as issuer, cache(issuer, clock) as jwks:
        await jwks.key("old")
        await issuer.fail("500")
        clock.now += 300
        asked = issuer.requests
        with pytest.raises(KeysUnavailable):
            await jwks.key("new")
        assert issuer.requests == asked + 1


async def test_an_inner_address_is_not_asked_of_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    async with issuing(OLD) as issuer, open_jwks(issuer.origin) as jwks:
        assert (await jwks.key("old")).algorithms == {"EdDSA"}


async def test_no_request_of_a_busy_service_waits_for_the_keys_to_be_fetched_again() -> None:
    clock = Clock()
    async with issuing(OLD) as issuer, cache(issuer, clock) as jwks:
        key = await jwks.key("old")
        issuer.gate.clear()
        clock.now += 240
        assert await jwks.key("old") is key  # while the fetch is under way
        assert jwks._fetching
        issuer.gate.set()
        await jwks._fetching
        clock.now += 239
        assert await jwks.key("old") is key
        assert issuer.requests == 2


async def test_a_key_that_was_replaced_under_its_id_is_another_one() -> None:
    clock = Clock()
    async with issuing(SigningKey.new("same")) as issuer, cache(issuer, clock) as jwks:
        first = await jwks.key("same")
        issuer.publish(SigningKey.new("same"))
        clock.now += 300
        assert await jwks.key("same") is not first


async def test_closing_ends_a_fetch_that_is_under_way() -> None:
    async with issuing(OLD) as issuer:
        async with cache(issuer, Clock()) as jwks:
            issuer.gate.clear()
            fetching = jwks.fetch()
            while not issuer.requests:
                await asyncio.sleep(0)
        assert fetching.cancelled()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_each_kind_of_key_verifies_its_own_algorithms(algorithm: str) -> None:
    key = SigningKey.new("k", algorithm)
    async with issuing(key) as issuer, cache(issuer, Clock()) as jwks:
        assert (await jwks.key("k")).algorithms == {algorithm}
        issuer.keys = [key.jwk(alg=None)]
        await jwks.fetch()
        either = {"PS256", "RS256"}
        assert (await jwks.key("k")).algorithms == (either if algorithm in either else {algorithm})


@pytest.mark.parametrize("name", ["EdDSA", "Ed25519", None])
async def test_both_names_of_an_ed25519_keys_algorithm_are_the_same(name: str | None) -> None:
    async with issuing() as issuer, cache(issuer, Clock()) as jwks:
        issuer.keys = [OLD.jwk(alg=name)]
        assert (await jwks.key("old")).algorithms == {"EdDSA"}
        verifier = Verifier(keys=jwks)
        assert (await verifier.verify(OLD.token())).user == "ann"
        assert (await verifier.verify(OLD.token(headers={"alg": "Ed25519"}))).user == "ann"
        with pytest.raises(BadToken, match="signature isn't"):
            await verifier.verify(SigningKey.new("old").token(headers={"alg": "Ed25519"}))


RSA = SigningKey.new("k", "RS256")
EC = SigningKey.new("k", "ES256")
WEAK = SigningKey("k", "RS256", rsa.generate_private_key(65537, 1024))  # noqa: S505 - that is the point


@pytest.mark.parametrize(
    ("jwk", "reason"),
    [
        (RSA.jwk(d="AQAB"), "private half"),
        (RSA.jwk(use="enc"), "isn't for signatures"),
        (WEAK.jwk(), "less than 2048 bits"),
        (RSA.jwk(alg="HS256"), "alg"),
        (RSA.jwk(alg="ES256"), "alg"),
        (RSA.jwk(alg="Ed25519"), "alg"),
        (EC.jwk(alg="ESP256"), "alg"),
        (OLD.jwk(kid="k", alg="Ed448"), "alg"),
        (RSA.jwk(alg=["RS256"]), "alg"),
        (RSA.jwk(n=None), "can't be read"),
        (RSA.jwk(n=7), "can't be read"),
        (RSA.jwk(e=""), "can't be read"),
        (EC.jwk(crv="P-521"), "alg"),
        (EC.jwk(crv="P-521", alg="ES512"), "can't be read"),
        (EC.jwk(crv="secp256k1"), "type"),
        (EC.jwk(y=EC.jwk()["x"]), "can't be read"),
        (OLD.jwk(kid="k", x="AAAA"), "can't be read"),
        (OLD.jwk(kid="k", crv="X25519"), "type"),
        (OLD.jwk(kid="k", crv=["Ed25519"]), "type"),
        ({"kty": "oct", "kid": "k", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA", "alg": "HS256"}, "type"),
        ({"kid": "k"}, "type"),
    ],
)
async def test_a_key_that_is_not_fit_verifies_nothing_and_does_not_spoil_the_others(
    jwk: dict[str, Any], reason: str
) -> None:
    async with issuing() as issuer, cache(issuer, Clock()) as jwks:
        issuer.keys = [jwk, OLD.jwk(), {"kty": "RSA"}, 7]  # type: ignore[list-item] # hostile
        with pytest.raises(UnusableKey, match=reason):
            await jwks.key("k")
        await jwks.key("old")
