"""A signed head proves who said it, also to code that shares nothing with the service's (docs/http-api.md)."""

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from api.app import create_app
from cli.verify import CannotVerify, for_people, verify_file
from config.errors import BadSettings
from config.settings import Settings
from tests.service import SECRET, TASKS, Service, serving

pytestmark = pytest.mark.once

HEAD, KEYS = "/api/ann/audit/head", "/.well-known/jwks.json"


def pem(key: Ed25519PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def openssl(folder: Path, text: str) -> int:
    """Return the status of openssl's check of a text by `signature` and `public.der`."""
    verify = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-keyform", "DER", "-inkey", "public.der"]
    return subprocess.run([*verify, "-in", text, "-sigfile", "signature"], cwd=folder, capture_output=True).returncode


async def kept(service: Service, folder: Path) -> dict[str, Any]:
    """Write a log of two events, its head and the keys as files; return the head as it was answered."""
    await service.client.post(TASKS, json={"title": "Buy milk"})
    await service.client.post(TASKS, json={"title": "Buy tea"})
    for path, name in ((HEAD, "head.json"), (KEYS, "keys.json"), ("/api/ann/audit?format=ndjson", "ann.ndjson")):
        (folder / name).write_bytes((await service.client.get(path)).content)
    head: dict[str, Any] = json.loads((folder / "head.json").read_text())
    return head


async def test_openssl_finds_a_signed_head_right(database: str, tmp_path: Path) -> None:
    async with serving(database, daybook_signing_key=pem(Ed25519PrivateKey.generate())) as service:
        head = await kept(service, tmp_path)
        [key] = (await service.client.get(KEYS, headers={"Authorization": ""})).json()["keys"]
    header, payload, signature = head.pop("signed").split(".")
    assert json.loads(decoded(header)) == {"alg": "EdDSA", "kid": key["kid"], "typ": "daybook-head"}
    claims = json.loads(decoded(payload))
    assert (claims.pop("sub"), claims.pop("iat") > 1.7e9, claims) == ("ann", True, head)
    for name, content in (
        ("public.der", bytes.fromhex("302a300506032b6570032100") + decoded(key["x"])),  # RFC 8410, section 4
        ("signature", decoded(signature)),
        ("text", f"{header}.{payload}".encode()),
        ("other", f"{header}.{payload}x".encode()),
    ):
        (tmp_path / name).write_bytes(content)
    assert (openssl(tmp_path, "text"), openssl(tmp_path, "other")) == (0, 1)


async def test_verify_checks_who_signed_a_head(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with serving(database, daybook_signing_key=pem(Ed25519PrivateKey.generate())) as service:
        head = await kept(service, tmp_path)
    async with serving(database, daybook_signing_key=pem(Ed25519PrivateKey.generate())) as service:
        (tmp_path / "other-keys.json").write_bytes((await service.client.get(KEYS)).content)

    def verified(head: Any, keys: str = "keys.json", export: str = "ann.ndjson") -> None:
        Path("kept.json").write_text(json.dumps(head))
        found = verify_file(export, head="kept.json", after=None, keys=keys)
        key = json.loads(decoded(head["signed"].split(".")[0]))["kid"]
        assert (found.report.mismatch, found.signed_by) == (None, (key,))
        assert for_people(found).endswith(f"\nThe head's signature holds, by the key {key}.")

    verified(head)
    (tmp_path / "marked.json").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "keys.json").read_bytes())
    verified(head, "marked.json")
    parts = head["signed"].split(".")
    forged = base64.urlsafe_b64encode(json.dumps({**json.loads(decoded(parts[1])), "sub": "bob"}).encode())
    for changed, says in (
        ({**head, "seq": 1}, "isn't the one that was signed"),
        ({**head, "hash": "00" * 32}, "isn't the one that was signed"),
        ({**head, "at": "2020-01-01T00:00:00.000001Z"}, "isn't the one that was signed"),
        ({**head, "signed": ".".join((parts[0], forged.rstrip(b"=").decode(), parts[2]))}, "signature doesn't hold"),
        ({**head, "signed": head["signed"][:-3]}, "signature doesn't hold"),
        ({**head, "signed": "no signature"}, "signature doesn't hold"),
        ({name: value for name, value in head.items() if name != "signed"}, "the head isn't signed"),
    ):
        with pytest.raises(CannotVerify, match=says):
            verified(changed)
    with pytest.raises(CannotVerify, match="a key that isn't among these"):
        verified(head, "other-keys.json")
    for keys in ("head.json", "ann.ndjson"):
        with pytest.raises(CannotVerify, match=r"aren't what /.well-known/jwks.json answers"):
            verified(head, keys)


async def test_a_signed_head_of_another_user_is_no_proof(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with serving(database, daybook_signing_key=pem(Ed25519PrivateKey.generate())) as service:
        await kept(service, tmp_path)
        async with service.as_user("bob") as bob:
            (tmp_path / "bobs.json").write_bytes((await bob.get("/api/bob/audit/head")).content)
    with pytest.raises(CannotVerify, match=r"bobs.json: this head is bob's, and ann.ndjson is another user's log"):
        verify_file("ann.ndjson", head="bobs.json", after=None, keys="keys.json")


async def test_without_a_key_heads_are_not_signed(service: Service) -> None:
    assert (await service.client.get(HEAD)).json() == {"seq": 0, "hash": "", "at": None}
    assert (await service.client.get(KEYS)).json() == {"keys": []}


@pytest.mark.parametrize("kind", ["text", "public", "encrypted"])
def test_what_is_no_key_stops_the_start_and_is_not_shown(kind: str) -> None:
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    text = {"text": "hunter2", "public": public, "encrypted": pem(key).replace("PRIVATE", "ENCRYPTED PRIVATE")}[kind]
    with pytest.raises(BadSettings, match="DAYBOOK_SIGNING_KEY: must be an Ed25519 key in PEM") as refused:
        create_app(Settings.model_validate({"jwt_secret": SECRET, "daybook_signing_key": text}))
    assert "hunter2" not in str(refused.value)
