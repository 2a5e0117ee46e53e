"""Verified tokens are cached for as long as they hold, and no longer."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest

from api.auth import verifier as tokens
from api.auth.claims import BadToken
from api.auth.jwks import KeysUnavailable
from api.auth.verifier import Verifier
from tests.issuer import Clock, Issuer, SigningKey, cache, issuing
from tests.service import SECRET, token

KEY = SigningKey.new()


@pytest.fixture
def verifications(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the tokens whose signatures were checked, in order."""
    checked: list[str] = []
    decode = jwt.decode

    def noting(jwt: str, *args: Any, **options: Any) -> Any:
        checked.append(jwt)
        return decode(jwt, *args, **options)

    monkeypatch.setattr("jwt.decode", noting)
    return checked


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with issuing(KEY) as issuer:
        yield issuer


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def verifier(issuer: Issuer, clock: Clock) -> AsyncIterator[Verifier]:
    async with cache(issuer, clock) as jwks:
        yield Verifier(secret=SECRET, keys=jwks)


@pytest.mark.parametrize("sign", [token, KEY.token])
async def test_a_signature_is_checked_once(verifier: Verifier, verifications: list[str], sign: Any) -> None:
    mine, theirs = sign("ann"), sign("bob")
    for _ in range(3):
        assert (await verifier.verify(mine)).user == "ann"
        assert (await verifier.verify(theirs)).user == "bob"
    assert verifications == [mine, theirs]


@pytest.mark.parametrize("sign", [token, KEY.token])
async def test_a_remembered_token_expires_like_any_other(verifier: Verifier, sign: Any) -> None:
    expires = int(time.time()) - tokens._LEEWAY + 2
    held = sign(exp=expires)
    assert (await verifier.verify(held)).user == "ann"
    await asyncio.sleep(expires + tokens._LEEWAY - time.time() + 0.01)
    with pytest.raises(BadToken, match="expired"):
        await verifier.verify(held)


async def test_a_bad_token_is_not_remembered_and_checked_each_time(
    verifier: Verifier, verifications: list[str]
) -> None:
    bad = token(secret="another secret of more than 32 bytes, too")
    for _ in range(3):
        with pytest.raises(BadToken):
            await verifier.verify(bad)
    assert verifications == [bad] * 3


async def test_a_dropped_keys_tokens_are_forgotten_with_it(
    verifier: Verifier, verifications: list[str], issuer: Issuer, clock: Clock
) -> None:
    held, new = KEY.token(), SigningKey.new("k2")
    assert (await verifier.verify(held)).user == "ann"
    issuer.publish(new)
    clock.now += 300
    with pytest.raises(BadToken, match="isn't among those"):
        await verifier.verify(held)
    assert verifications == [held]
    assert (await verifier.verify(new.token())).user == "ann"


async def test_a_replaced_keys_tokens_are_forgotten_with_it(verifier: Verifier, issuer: Issuer, clock: Clock) -> None:
    held = KEY.token()
    assert (await verifier.verify(held)).user == "ann"
    issuer.publish(SigningKey.new(KEY.kid))
    clock.now += 300
    with pytest.raises(BadToken, match="signature"):
        await verifier.verify(held)


async def test_a_key_that_becomes_unfit_is_noticed(verifier: Verifier, issuer: Issuer, clock: Clock) -> None:
    held = KEY.token()
    assert (await verifier.verify(held)).user == "ann"
    issuer.keys = [KEY.jwk(d="AAAA")]
    clock.now += 300
    with pytest.raises(BadToken, match="private half"):
        await verifier.verify(held)


async def test_remembered_tokens_hold_while_the_issuer_is_away(
    verifier: Verifier, verifications: list[str], issuer: Issuer, clock: Clock
) -> None:
    held = KEY.token()
    await verifier.verify(held)
    await issuer.fail("refused")
    for _ in range(3):
        clock.now += 600
        assert (await verifier.verify(held)).user == "ann"
    with pytest.raises(KeysUnavailable):
        await verifier.verify(SigningKey.new("unknown").token())
    assert verifications == [held]
    await issuer.recover()


async def test_the_cache_of_tokens_is_bounded_and_drops_the_least_used_first(
    verifier: Verifier, verifications: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "_REMEMBERED", 3)
    first, *others = [token(f"u{n}") for n in range(5)]
    for each in others:
        await verifier.verify(first)
        await verifier.verify(each)
    assert len(verifier._remembered) == 3
    await verifier.verify(first)
    await verifier.verify(others[0])
    assert verifications == [first, *others, others[0]]


async def test_a_token_dropped_while_its_key_is_looked_up_still_holds(
    verifier: Verifier, issuer: Issuer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "_REMEMBERED", 3)
    held = KEY.token()
    await verifier.verify(held)
    clock.now += 300
    issuer.gate.clear()
    waiting = asyncio.create_task(verifier.verify(held))
    await asyncio.sleep(0)
    for n in range(5):
        await verifier.verify(token(f"u{n}"))
    issuer.gate.set()
    assert (await waiting).user == "ann"


async def test_the_cache_does_not_hold_the_token_itself(verifier: Verifier) -> None:
    held = token()
    await verifier.verify(held)
    memory = repr(verifier._remembered)
    assert "ann" in memory
    for part in held.split("."):
        assert part not in memory


async def test_a_token_that_expires_in_the_far_future_is_remembered(verifier: Verifier) -> None:
    held = token(exp=datetime.now(UTC) + timedelta(days=36_000))
    assert (await verifier.verify(held)) == (await verifier.verify(held)) == ("ann", "ann", False, False)
