"""Limits on how many requests a user, and an address, may send (docs/http-api.md, "Rate limits").

Each has a bucket of tokens. Buckets are in a file that all processes of a machine share, so that a limit holds for all
workers together (docs/adr/0032).
"""

import asyncio
import fcntl
import hashlib
import math
import os
import random
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.middleware import PROBES
from api.problems import RateLimitExceeded, problem_response
from config.rates import Rate, Rates

_BUCKET = struct.Struct("=8sq")
"""A bucket: the digest of its key, and the time at which it is full again, in ns of the monotonic clock."""
_WAYS = 8
"""Buckets among which a key may have its place."""
_GROUPS = 8192
_GROUP_SIZE = _BUCKET.size * _WAYS
_SECOND = 1_000_000_000
REFUSED_AFTER = 0.2
"""Seconds, and up to twice as many, after which a request past the limit is refused.

At once, a client that asks again on each of its connections would have thousands refused a second, and fill the cores.
"""


class _Verdict(NamedTuple):
    """A decision: may the request be carried out, the whole tokens left, and seconds until all, or one, are there."""

    allowed: bool
    left: int
    full_in: int
    next_in: int


class Buckets:
    """Buckets of tokens, shared by all processes that open the same file.

    A bucket is known by one time, at which it is full again (the generic cell rate algorithm). One that is full needs
    no place: it gives way to another key's. There is room for 65,536 others; past that, the fullest one gives way.

    The file isn't mapped into memory: if it is cut off, as by `: > rate_limits`, a map would kill the process (SIGBUS),
    and a read finds that buckets are missing, which then count as full.
    """

    def __init__(self, path: Path, *, longest: int) -> None:
        """Open the file, and make it if there is none. `longest` is the largest `Rate.seconds`. Raises `OSError`."""
        self._longest = longest * _SECOND
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            self._reserve_space()
        except BaseException:
            self.close()
            raise

    def _reserve_space(self) -> None:
        """Make the file as long as it can get, so that a full disk is an error now, and not at a request."""
        with self._locked(), open(self._file, "ab", closefd=False) as file:
            file.write(bytes(max(0, _GROUP_SIZE * _GROUPS - file.tell())))

    def close(self) -> None:
        """Close the file. Its content stays."""
        os.close(self._file)

    def take(self, key: str, rate: Rate) -> _Verdict:
        """Take a token out of the key's bucket, if there is one."""
        digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        name, group = digest[:8], int.from_bytes(digest[8:]) % _GROUPS
        whole = rate.seconds * _SECOND
        with self._locked():
            now = time.monotonic_ns()
            offset, full = self._place(name, group * _GROUP_SIZE, now)
            if full > now + whole:  # of another rate than it has now
                full = now
            after = full + whole // rate.requests
            if allowed := after <= now + whole:
                os.pwrite(self._file, _BUCKET.pack(name, after), offset)
                full = after
        left = (now + whole - full) * rate.requests // whole
        return _Verdict(allowed, left, _seconds(full - now), max(1, _seconds(after - now - whole)))

    def _place(self, name: bytes, start: int, now: int) -> tuple[int, int]:
        """Find the key's bucket in its group, else the place of the fullest one. Return its offset and time."""
        fullest, least = start, None
        group = os.pread(self._file, _GROUP_SIZE, start).ljust(_GROUP_SIZE, b"\0")
        for number, (found, full) in enumerate(_BUCKET.iter_unpack(group)):
            offset = start + number * _BUCKET.size
            if not now < full <= now + self._longest:  # full by now, or of before a restart of the machine
                full = now
            if found == name:
                return offset, full
            if least is None or full < least:
                fullest, least = offset, full
        return fullest, now

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)


def _seconds(nanoseconds: int) -> int:
    return math.ceil(nanoseconds / _SECOND)


@lru_cache(1024)
def _network(address: str) -> str:
    """Return the IPv6 network of 64 bits, all of whose addresses one client may have; else the address itself."""
    try:
        found = ip_address(address)
    except ValueError:  # what a proxy has named otherwise
        return address
    if isinstance(found, IPv4Address):
        return address
    return str(found.ipv4_mapped or IPv6Address(int(found) >> 64 << 64))


class Limits:
    """The limits in force, and the buckets that they are held by."""

    def __init__(self, rates: Rates, buckets: Buckets) -> None:
        self.rates = rates
        self._buckets = buckets

    async def admit_user(self, scope: Scope, user_id: str) -> None:
        """Count a request of a user. Raises `RateLimitExceeded`, after a while."""
        if self.rates.user:
            await self._admit(scope, "user", user_id, self.rates.user)

    async def admit_address(self, scope: Scope, address: str) -> None:
        """Count a request from an address; of IPv6, from its network of 64 bits. Raises as `admit_user`."""
        if self.rates.address:
            await self._admit(scope, "address", _network(address), self.rates.address)

    async def _admit(self, scope: Scope, policy: str, key: str, rate: Rate) -> None:
        verdict = self._buckets.take(f"{policy}:{key}", rate)
        scope["state"]["rate_limit"] = (
            f'"{policy}";q={rate.requests};w={rate.seconds}',
            f'"{policy}";r={verdict.left};t={verdict.full_in}',
        )
        if not verdict.allowed:
            with suppress(asyncio.CancelledError):  # the service stops: it is refused at once
                await asyncio.sleep(REFUSED_AFTER * random.uniform(1, 2))  # noqa: S311 - so that they don't come at once
            raise RateLimitExceeded(
                hint=f"At most {rate.requests} requests in {rate.seconds} s for each {policy}: send fewer.",
                headers={"Retry-After": str(verdict.next_in)},
            )


class RateLimiting:
    """Middleware that limits requests by their address, and adds the headers of the last limit that was looked at."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].removeprefix(scope.get("root_path", "")) in PROBES:
            return await self.app(scope, receive, send)

        async def send_with_limit(message: Message) -> None:
            if message["type"] == "http.response.start" and "rate_limit" in scope["state"]:
                policy, left = scope["state"]["rate_limit"]
                more = ((b"ratelimit-policy", policy.encode()), (b"ratelimit", left.encode()))
                message["headers"] = [*message.get("headers", ()), *more]
            await send(message)

        client = scope.get("client")
        try:
            if client:
                await scope["state"]["limits"].admit_address(scope, client[0])
        except RateLimitExceeded as problem:
            answer = problem_response(problem, request_id=scope["state"]["request_id"])
            return await answer(scope, receive, send_with_limit)
        return await self.app(scope, receive, send_with_limit)
