"""Killing Postgres or the service loses no acknowledged write."""

import asyncio
import random
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.load import all_get_on, busy, check_all, some_writers
from tests.faults.servers import Postgres, service, verified
from tests.processes import Serving, free_port, until_free

ROUNDS = 10

pytestmark = [pytest.mark.once, pytest.mark.unmeasured]


async def test_postgres_killed_under_load_and_started_again(folder: Path) -> None:
    chance, writers = random.Random(1), some_writers()  # noqa: S311 - draws lots
    with Postgres(folder) as postgres:
        with service(folder, postgres.dsn) as serving:
            serving.wait_until_ready()
            async with busy(serving.url, writers):
                for _ in range(ROUNDS):
                    await all_get_on(writers)
                    await asyncio.sleep(chance.uniform(0, 0.2))
                    postgres.kill()
                    await asyncio.sleep(chance.uniform(0, 0.5))
                    await asyncio.to_thread(postgres.start)
                await all_get_on(writers)
            assert serving.stop(signal.SIGTERM) == 0
        assert not [line for line in serving.errors if "Traceback" in line]
        assert sum(writer.answers[503] for writer in writers) > 0
        await check_all(postgres.dsn, writers)
        assert verified(folder, postgres.dsn)


@pytest.mark.parametrize("workers", [1, 2])
async def test_the_service_killed_under_load_and_started_again(folder: Path, workers: int) -> None:
    """The supervisor is killed if there are several workers; they end by themselves."""
    chance, writers, port = random.Random(2), some_writers(), str(free_port())  # noqa: S311 - draws lots
    with Postgres(folder) as postgres, ExitStack() as services:

        async def started() -> Serving:
            await asyncio.to_thread(until_free, int(port))  # a worker may just have been starting
            made = services.enter_context(service(folder, postgres.dsn, "--workers", str(workers), PORT=port))
            await asyncio.to_thread(made.wait_until_ready)
            return made

        serving = await started()
        async with busy(serving.url, writers):
            for _ in range(ROUNDS // 2):
                await all_get_on(writers)
                await asyncio.sleep(chance.uniform(0, 0.2))
                serving.process.kill()
                serving.process.wait()
                serving = await started()
            await all_get_on(writers)
        assert serving.stop(signal.SIGTERM) == 0
        await check_all(postgres.dsn, writers)
        assert verified(folder, postgres.dsn)
