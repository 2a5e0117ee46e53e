"""Writers that keep the service busy during faults, and know what must be in the log afterwards."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import asyncpg
import httpx2

from db.dsn import connect_arguments
from tests.service import bearer


@dataclass(slots=True)
class Writer:
    """A user who does one thing after the other; with a key, each until it is answered."""

    user: str
    keyed: bool
    acknowledged: list[tuple[str, int]] = field(default_factory=list)
    """Task and version of each write that was answered with 2xx."""
    unknown: int = 0
    """Writes without a key that may have been made: the connection was lost, or the answer says so."""
    answers: Counter[int] = field(default_factory=Counter)

    async def write(self, url: str, over: asyncio.Event) -> None:
        chance = random.Random(self.user)  # noqa: S311 - draws lots
        async with httpx2.AsyncClient(base_url=f"{url}/api/{self.user}/tasks", headers=bearer(self.user)) as client:
            while not over.is_set():
                task = chance.choice(self.acknowledged)[0] if self.acknowledged and chance.random() < 0.7 else None
                await self._one(client, task)

    async def _one(self, client: httpx2.AsyncClient, task: str | None) -> None:
        request: dict[str, Any] = {"method": "POST", "url": "", "json": {"title": "Buy milk"}}
        if task:
            request = {"method": "PATCH", "url": f"/{task}/complete"}
        if self.keyed:
            request["headers"] = {"Idempotency-Key": str(uuid4())}
        while True:
            try:
                answer = await client.request(**request, timeout=30)
            except httpx2.TransportError:
                certain = False
            else:
                self.answers[answer.status_code] += 1
                if answer.status_code in (200, 201):
                    self.acknowledged.append((answer.json()["id"], answer.json()["version"]))
                    return
                assert answer.status_code == 503, answer.text
                certain = "retry-after" in answer.headers
            await asyncio.sleep(0.02)
            if not self.keyed:
                self.unknown += not certain
                return

    async def check(self, connection: asyncpg.Connection) -> None:
        """Check that every acknowledged write is in the log, once, and no other but those whose outcome is unknown."""
        rows = await connection.fetch("SELECT task_id, version FROM events WHERE user_id = $1", self.user)
        there = {(str(row["task_id"]), row["version"]) for row in rows}
        assert len(set(self.acknowledged)) == len(self.acknowledged)
        assert set(self.acknowledged) <= there
        assert len(there) <= len(self.acknowledged) + self.unknown


@asynccontextmanager
async def busy(url: str, writers: Sequence[Writer]) -> AsyncIterator[None]:
    """Have all of them write for as long as the block lasts."""
    over = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for writer in writers:
            group.create_task(writer.write(url, over))
        try:
            yield
        finally:
            over.set()


def some_writers() -> list[Writer]:
    return [Writer(f"user-{number}", keyed=number % 2 == 0) for number in range(8)]


async def all_get_on(writers: Sequence[Writer]) -> None:
    """Wait until each has had something done from now on."""
    before = {writer.user: len(writer.acknowledged) for writer in writers}
    while any(len(writer.acknowledged) <= before[writer.user] for writer in writers):
        await asyncio.sleep(0.02)


async def check_all(dsn: str, writers: Sequence[Writer]) -> None:
    connection = await asyncpg.connect(**connect_arguments(dsn))
    try:
        for writer in writers:
            await writer.check(connection)
    finally:
        await connection.close()
