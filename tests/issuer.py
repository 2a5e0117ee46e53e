"""An issuer of tokens, as tests need one: it publishes its keys over real HTTP, and fails on demand."""

import asyncio
import gzip
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import httpx2
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

from api.auth.jwks import Jwks

_MAKERS: dict[str, Callable[[], Any]] = {
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "PS256": lambda: rsa.generate_private_key(65537, 2048),
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
}
ALGORITHMS = list(_MAKERS)


@dataclass(frozen=True)
class SigningKey:
    """A key pair, and the id and algorithm under which its public half is published."""

    kid: str
    algorithm: str
    private: Any

    @classmethod
    def new(cls, kid: str = "k1", algorithm: str = "EdDSA") -> Self:
        return cls(kid, algorithm, _MAKERS[algorithm]())

    def jwk(self, **changes: Any) -> dict[str, Any]:
        """Return what is published; a member given as None is left out."""
        public = get_default_algorithms()[self.algorithm].to_jwk(self.private.public_key(), as_dict=True)
        public.pop("key_ops", None)
        jwk = {**public, "kid": self.kid, "alg": self.algorithm, **changes}
        return {name: value for name, value in jwk.items() if value is not None}

    def token(self, user: object = "ann", /, *, headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """Make a token as Better Auth does: only `alg` and `kid` in the header. A claim given as None is left out."""
        all_claims = {"sub": user, "exp": datetime.now(UTC) + timedelta(minutes=15), **claims}
        return jwt.encode(
            {name: value for name, value in all_claims.items() if value is not None},
            self.private,
            self.algorithm,
            {"typ": None, "kid": self.kid, **(headers or {})},
        )

    def bearer(self, user: object = "ann", /, **claims: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(user, **claims)}"}


@dataclass
class Clock:
    """A monotonic clock that stands still until it is set forward; in seconds."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Issuer:
    """A server of keys. What it answers can be changed at any moment."""

    port: int = 0
    keys: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200
    body: bytes | None = None
    """Instead of the keys."""
    headers: str = ""
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """It answers only while this is set."""
    requests: int = 0
    _server: asyncio.Server | None = None

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def publish(self, *keys: SigningKey) -> None:
        self.keys = [key.jwk() for key in keys]

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked = await reader.readuntil(b"\r\n\r\n")
            self.requests += 1
            await self.gate.wait()
            body = json.dumps({"keys": self.keys}).encode() if self.body is None else self.body
            status = 200 if b" /elsewhere " in asked else self.status
            head = f"HTTP/1.1 {status} Whatever\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{self.headers}"
            writer.write(f"{head}\r\n".encode() + body)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the other side had enough
        finally:
            writer.close()

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        """Start to listen; always at the same port."""
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", self.port, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse connections."""
        assert self._server
        self._server.close()
        await self._server.wait_closed()

    async def fail(self, how: str) -> None:
        """Fail in one of the ways of `FAILURES`."""
        match how:
            case "refused":
                await self.stop()
            case "silent":
                self.gate.clear()
            case "500":
                self.status = 500
            case "no JSON":
                self.body = b"<html>Welcome</html>"
            case "no JWKS":
                self.body = b'{"error": "try later"}'
            case "endless":
                self.body = b'{"keys": [' + b" " * 2 * 1024 * 1024 + b"]}"
            case "compressed":
                self.body = gzip.compress(json.dumps({"keys": self.keys}).encode())
                self.headers = "Content-Encoding: gzip\r\n"
            case "redirected":
                self.status, self.headers = 307, f"Location: http://localhost:{self.port}/elsewhere\r\n"

    async def recover(self) -> None:
        """Work again after `fail`."""
        self.gate.set()
        self.status, self.body, self.headers = 200, None, ""
        if not (self._server and self._server.is_serving()):
            await self.start()


FAILURES = ["refused", "silent", "500", "no JSON", "no JWKS", "endless", "compressed", "redirected"]


@asynccontextmanager
async def issuing(*keys: SigningKey) -> AsyncIterator[Issuer]:
    """Yield an issuer that is reachable and publishes these keys."""
    issuer = Issuer()
    issuer.publish(*keys)
    issuer.gate.set()
    await issuer.start()
    try:
        yield issuer
    finally:
        issuer.gate.set()
        await issuer.stop()


@asynccontextmanager
async def cache(issuer: Issuer, clock: Clock) -> AsyncIterator[Jwks]:
    """Yield a cache as `open_jwks` makes it, but with this clock and without the first fetch."""
    async with httpx2.AsyncClient() as client:
        jwks = Jwks(f"{issuer.origin}/jwks", client, clock=clock)
        yield jwks
        await jwks.close()
