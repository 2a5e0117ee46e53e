"""Batches through faults: each is carried out as a whole, or not at all."""

import asyncio
import random
from pathlib import Path

import asyncpg
import httpx2
import pytest

from db.dsn import connect_arguments
from tests.faults.servers import Postgres, service
from tests.service import bearer

pytestmark = pytest.mark.once


async def test_a_batch_killed_in_the_middle_is_all_or_none(folder: Path) -> None:
    chance = random.Random(3)  # noqa: S311 - draws lots
    operations = [{"op": "create", "title": str(number)} for number in range(50)]
    with Postgres(folder) as postgres:
        for _ in range(4):
            with service(folder, postgres.dsn) as serving:
                await asyncio.to_thread(serving.wait_until_ready)
                async with httpx2.AsyncClient(base_url=serving.url, headers=bearer(), timeout=30) as client:
                    sending = [
                        asyncio.create_task(client.post("/api/ann/batch", json={"operations": operations}))
                        for _ in range(3)
                    ]
                    await asyncio.sleep(chance.uniform(0, 0.15))
                    serving.process.kill()
                    await asyncio.gather(*sending, return_exceptions=True)
        connection = await asyncpg.connect(**connect_arguments(postgres.dsn))
        assert await connection.fetchval("SELECT count(*) FROM events") % 50 == 0
        assert await connection.fetchval("SELECT count(*) FROM tasks") % 50 == 0
        await connection.close()
