"""Feeds through faults: each reader has every event once and in order, however often it, or anything else, is cut."""

import asyncio
import json
import os
import random
import signal
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest

from tests.faults.servers import Postgres, children, service
from tests.feeds import reading
from tests.service import bearer

pytestmark = [pytest.mark.once, pytest.mark.unmeasured]

USERS = ("ann", "bob", "cleo")
EVENTS = 150
"""Events of each user."""
OF_A_TEST = {
    "a crash of the database's machine may lose what was acknowledged",
    "the service's login may change the log",
}
"""Warnings about a test's database."""
READERS = 4
"""Readers of each user."""


async def write(url: str, user: str) -> None:
    async with httpx2.AsyncClient(base_url=url, headers=bearer(user), timeout=30) as client:
        for number in range(EVENTS):
            key = {"Idempotency-Key": str(uuid4())}
            while True:
                with suppress(httpx2.TransportError):
                    body = {"title": str(number)}
                    if (await client.post(f"/api/{user}/tasks", json=body, headers=key)).status_code == 201:
                        break
                await asyncio.sleep(0.05)


async def read(port: int, user: str, chance: random.Random) -> list[int]:
    """Read until the last event, and connect again after each cut: its own, and everybody else's."""
    seen: list[int] = []
    while len(seen) < EVENTS:
        last = str(seen[-1] if seen else 0)
        try:
            async with reading(port, f"/api/{user}/audit/stream?after=0", user=user, Last_Event_ID=last) as reader:
                for _ in range(chance.randrange(1, 60) if "200" in reader.head.partition("\r\n")[0] else 0):
                    if len(seen) == EVENTS or (event := await reader.event()) is None:
                        break
                    seen.append(event["seq"])
        except (OSError, asyncio.IncompleteReadError):
            pass
        await asyncio.sleep(0.02)
    return seen


async def test_each_reader_has_every_event_once_and_in_order_whatever_is_killed(folder: Path) -> None:
    chance = random.Random(1)  # noqa: S311 - draws lots
    with Postgres(folder) as postgres, service(folder, postgres.dsn, "--workers", "2") as serving:
        await asyncio.to_thread(serving.wait_until_ready)
        readers = [
            asyncio.create_task(read(serving.port, user, random.Random(f"{user}{number}")))  # noqa: S311 - as above
            for user in USERS
            for number in range(READERS)
        ]
        writers = [asyncio.create_task(write(serving.url, user)) for user in USERS]
        await asyncio.sleep(1)
        workers = [pid for pid in children(serving.process.pid) if b"spawn_main" in cmdline(pid)]
        os.kill(chance.choice(workers), signal.SIGKILL)
        await asyncio.sleep(1)
        postgres.kill()
        await asyncio.to_thread(postgres.start)
        async with asyncio.timeout(120):
            await asyncio.gather(*writers)
            for seen in await asyncio.gather(*readers):
                assert seen == list(range(1, EVENTS + 1))
        assert serving.stop(signal.SIGTERM) == 0
    assert not [line for line in serving.errors if "Traceback" in line]


def cmdline(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_open_feeds_do_not_hold_up_the_end(database: str, folder: Path, workers: str) -> None:
    with service(folder, database, "--workers", workers, FEEDS_PER_USER="1000") as serving:
        await asyncio.to_thread(serving.wait_until_ready)
        async with AsyncExitStack() as opened:
            feeds = [
                await opened.enter_async_context(reading(serving.port, "/api/ann/audit/stream")) for _ in range(300)
            ]
            for each in feeds:
                assert await each.message() == {"retry": "2000", "id": "0"}
            began = time.monotonic()
            serving.process.send_signal(signal.SIGTERM)
            ends = await asyncio.gather(*(each.event() for each in feeds))
            assert set(ends) == {None}
            assert await asyncio.to_thread(serving.process.wait, 30) == 0
            assert time.monotonic() - began < 10
    said = [json.loads(line) for line in serving.errors]
    assert {each["event"].partition(":")[0] for each in said} <= OF_A_TEST
