"""A token that can't be read is refused with a sentence that names the fault."""

import json

import pytest

from api.auth.claims import BadToken
from api.auth.verifier import Verifier
from tests.issuer import Clock, SigningKey, cache, issuing
from tests.service import SECRET, token
from tests.tokens import segment, signed

HEADER, CLAIMS, SIGNATURE = token(exp=2**32).split(".")  # always the same one, since tests are named by it
GOOD = f"{HEADER}.{CLAIMS}.{SIGNATURE}"


async def reason(bad: str, verifier: Verifier | None = None) -> str:
    """Return the reason why the token is refused."""
    with pytest.raises(BadToken) as refused:
        await (verifier or Verifier(secret=SECRET)).verify(bad)
    return str(refused.value)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (f"{HEADER}.{CLAIMS}.{SIGNATURE[:-1]}!", "signature (the last of three parts) is damaged"),
        (f"{HEADER}.{CLAIMS}.{SIGNATURE[:-2]}", "signature (the last of three parts) is damaged"),
        (f"{HEADER}.{CLAIMS}.{SIGNATURE[:-3]}", "signature (the last of three parts) is damaged"),
        (f"{HEADER}.{CLAIMS}.{SIGNATURE[:-4]}", "signature (the last of three parts) is damaged"),
        (f"{HEADER}.{CLAIMS}.{SIGNATURE[:12]}", "signature (the last of three parts) is damaged"),
        (f"{HEADER}.{CLAIMS}.{SIGNATURE}AAAA", "signature (the last of three parts) is damaged"),
        (f"{GOOD}==", "signature (the last of three parts) is damaged"),
        (f"{GOOD}\u00e9", "signature (the last of three parts) is damaged"),
        (f"{HEADER}.{CLAIMS}.ab+/", "signature (the last of three parts) is damaged"),
        (f"{HEADER}.{CLAIMS}.", "signature (the last of three parts) is missing"),
        (f"{HEADER}.{CLAIMS}", "signature (the last of three parts) is missing"),
        (f"{HEADER}.!{CLAIMS}.{SIGNATURE}", "payload (the second of three parts) is damaged"),
        (f"{HEADER}.{CLAIMS}=.{SIGNATURE}", "payload (the second of three parts) is damaged"),
        (f"{HEADER}..{SIGNATURE}", "payload (the second of three parts) is missing"),
        (HEADER, "payload (the second of three parts) is missing"),
        (f"{HEADER}!.{CLAIMS}.{SIGNATURE}", "not a JWT, or its header (the first of three parts) is damaged"),
        (f"{HEADER[:-6]}.{CLAIMS}.{SIGNATURE}", "not a JWT, or its header (the first of three parts) is damaged"),
        (f"{segment([1])}.{CLAIMS}.{SIGNATURE}", "not a JWT, or its header (the first of three parts) is damaged"),
        (f".{CLAIMS}.{SIGNATURE}", "not a JWT, or its header (the first of three parts) is damaged"),
        ("..", "not a JWT, or its header (the first of three parts) is damaged"),
        (f"{GOOD}.{SIGNATURE}", "has 4 parts and not three"),
        (f"{GOOD}.{GOOD}", "has 6 parts and not three"),
        (f"{HEADER}..{CLAIMS}.{CLAIMS}.{SIGNATURE}", "is encrypted (a JWE)"),
        ("Ml7XkqPqYgDFZfV4m3rqVMwTBbZZHkSt", "is not a JWT; a session token or cookie won't do"),
        ("Ml7XkqPqYgDFZfV4m3rqVMwTBbZZHkSt.Zm9vYmFy%3D", "is not a JWT; a session token or cookie won't do"),
        ("", "is not a JWT"),
        (signed(b"hello"), "payload (the second of three parts) isn't a JSON object"),
        (signed([1]), "payload (the second of three parts) isn't a JSON object"),
        (signed(b'{"exp":' + b"9" * 5000 + b"}"), "payload (the second of three parts) isn't a JSON object"),
        (signed({}, crit=["x"], x=1), "header asks for an extension (crit)"),
        (signed({}, b64=False, crit=["b64"]), "header asks for an extension (b64)"),
        (signed({}, kid=7), "header must name its key (kid) as text"),
    ],
)
async def test_a_damaged_token_is_told_which_of_its_parts_is_damaged(bad: str, says: str) -> None:
    assert says in await reason(bad)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (f"Bearer {GOOD}", "Bearer stands twice"),
        (f"bearer  {GOOD}", "Bearer stands twice"),
        (f"Bearer: {GOOD}", "Bearer stands twice"),
        ("Bearer", "Bearer stands twice"),
        (f'"{GOOD}"', "is in quotes"),
        (f"'{GOOD}'", "is in quotes"),
        (f"`{GOOD}`", "is in quotes"),
        (f"{GOOD[:60]}\n{GOOD[60:]}", "white space"),
        (f"{GOOD[:60]} {GOOD[60:]}", "white space"),
        (f"\t{GOOD}", "white space"),
        (f"{HEADER}. {CLAIMS}.{SIGNATURE}", "white space"),
        (json.dumps({"token": GOOD}), "send the token alone"),
        (f"<{GOOD}>", "send the token alone"),
        ("<JWT>", "send the token alone"),
        ("${token}", "send the token alone"),
        ("$TOKEN", "send the token alone"),
        ("undefined", "stands for none"),
        ("null", "stands for none"),
        ("None", "stands for none"),
        ("NaN", "stands for none"),
        ("false", "stands for none"),
        ("[object Object]", "stands for none"),
        ("[object Promise]", "stands for none"),
    ],
)
async def test_characters_around_a_token_or_instead_of_one_are_named(bad: str, says: str) -> None:
    assert says in await reason(bad)


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "ES512", "RS256"])
async def test_a_signature_of_an_issuer_that_was_cut_is_damaged_and_not_another_keys(algorithm: str) -> None:
    key = SigningKey.new("k", algorithm)
    async with issuing(key) as issuer, cache(issuer, Clock()) as jwks:
        verifier = Verifier(keys=jwks)
        good = key.token()
        body, _, signature = good.rpartition(".")
        assert (await verifier.verify(good)).user == "ann"
        for cut in (signature[: len(signature) // 4 * 4 - 8], segment(b"\1\2\3")):
            says = await reason(f"{body}.{cut}", verifier)
            assert "damaged" in says or algorithm == "RS256"
        other = SigningKey.new("k", algorithm).token()
        assert "isn't that of the key" in await reason(other, verifier)


async def test_padding_is_taken_as_some_issuers_send_it() -> None:
    assert (await Verifier(secret=SECRET).verify(f"{GOOD}=")).user == "ann"
