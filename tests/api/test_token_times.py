"""The times in a token: impossible ones are refused with a sentence (RFC 7519, sections 2 and 4.1)."""

import time
from typing import Any

import pytest

from api.auth.claims import BadToken
from api.auth.verifier import Verifier
from tests.service import SECRET
from tests.tokens import signed

NOW, DAY = int(time.time()), 24 * 60 * 60
NUMBER = "must be a number: the seconds since 1970"
AHEAD = "more than a hundred years ahead: it must be in seconds, not in milliseconds"


@pytest.mark.parametrize(
    ("claims", "says"),
    [
        ({"exp": (NOW + DAY) * 1000}, f"exp lies {AHEAD}"),
        ({"exp": (NOW - 900) * 1000}, f"exp lies {AHEAD}"),
        ({"exp": (NOW + DAY) * 10**6}, f"exp lies {AHEAD}"),
        ({"exp": (NOW + DAY) * 10**9}, f"exp lies {AHEAD}"),
        ({"exp": 10**30}, f"exp lies {AHEAD}"),
        ({"exp": 10**400}, f"exp lies {AHEAD}"),
        ({"exp": float("inf")}, f"exp lies {AHEAD}"),
        ({"exp": str(NOW + DAY)}, f"exp {NUMBER}"),
        ({"exp": "soon"}, f"exp {NUMBER}"),
        ({"exp": True}, f"exp {NUMBER}"),
        ({"exp": [NOW + DAY]}, f"exp {NUMBER}"),
        ({"exp": {}}, f"exp {NUMBER}"),
        ({"exp": float("nan")}, f"exp {NUMBER}"),
        ({"exp": 900}, "exp lies before the year 2000; it must be the seconds since 1970, not from now on"),
        ({"exp": -900}, "exp lies before the year 2000"),
        ({"exp": float("-inf")}, "exp lies before the year 2000"),
        ({"exp": NOW - 900}, "has expired"),
        ({"exp": NOW - 900.5}, "has expired"),
        ({"exp": None}, "lacks a required claim"),
        ({"nbf": NOW * 1000}, f"nbf lies {AHEAD}"),
        ({"nbf": 10**400}, f"nbf lies {AHEAD}"),
        ({"nbf": float("inf")}, f"nbf lies {AHEAD}"),
        ({"nbf": str(NOW)}, f"nbf {NUMBER}"),
        ({"nbf": True}, f"nbf {NUMBER}"),
        ({"nbf": None}, f"nbf {NUMBER}"),
        ({"nbf": float("nan")}, f"nbf {NUMBER}"),
        ({"nbf": NOW + DAY}, "isn't valid yet"),
    ],
)
async def test_times_that_cannot_be_meant_are_refused_and_say_what_they_must_be(
    claims: dict[str, Any], says: str
) -> None:
    with pytest.raises(BadToken) as refused:
        await Verifier(secret=SECRET).verify(signed({"sub": "ann", "exp": NOW + DAY, **claims}))
    assert says in str(refused.value)


async def test_an_expiry_of_1e400_is_refused() -> None:
    with pytest.raises(BadToken, match="exp lies more than a hundred years ahead"):
        await Verifier(secret=SECRET).verify(signed(b'{"sub":"ann","exp":1e400}'))


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": NOW + DAY + 0.5},
        {"exp": NOW + 99 * 365 * 86_400},
        {"nbf": NOW - 900.5},
        {"nbf": 0},
        {"nbf": -900},
        *({"iat": each} for each in (NOW * 1000, str(NOW), None, True, 10**400, float("inf"), "soon")),
    ],
)
async def test_times_that_hold_are_taken_and_when_it_was_issued_is_not_asked(claims: dict[str, Any]) -> None:
    assert (await Verifier(secret=SECRET).verify(signed({"sub": "ann", "exp": NOW + DAY, **claims}))).user == "ann"
