"""SIGTERM: requests under way are finished, new ones are refused, and nothing is lost."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg
import httpx2
import pytest

from db.dsn import connect_arguments
from tests.arrange import until_locked_out
from tests.faults.load import busy, check_all, some_writers
from tests.faults.servers import service, verified
from tests.processes import Serving
from tests.service import TASKS, bearer

pytestmark = [pytest.mark.once, pytest.mark.parametrize("workers", ["1", "2"])]


@asynccontextmanager
async def writing(serving: Serving, database: str) -> AsyncIterator["asyncio.Task[httpx2.Response]"]:
    """Start a write that waits in the database for as long as the block lasts."""
    other = await asyncpg.connect(**connect_arguments(database))
    async with httpx2.AsyncClient(base_url=serving.url, headers=bearer(), timeout=60) as client:
        assert (await client.post(TASKS, json={"title": "x"})).status_code == 201
        async with other.transaction():
            await other.execute("SELECT FROM streams WHERE user_id = 'ann' FOR UPDATE")
            task = asyncio.create_task(client.post(TASKS, json={"title": "y"}))
            await until_locked_out(other)
            yield task
        await task
    await other.close()


async def until_refused(serving: Serving) -> None:
    while True:
        try:
            async with httpx2.AsyncClient(timeout=1) as client:
                await client.get(f"{serving.url}/livez")
        except httpx2.ConnectError:
            return
        except httpx2.TransportError:
            pass  # accepted, or just about to be, when it stopped
        await asyncio.sleep(0.02)


async def test_a_write_under_way_is_answered_while_new_connections_are_refused(
    database: str, folder: Path, workers: str
) -> None:
    with service(folder, database, "--workers", workers) as serving:
        await asyncio.to_thread(serving.wait_until_ready)
        async with writing(serving, database) as task:
            serving.process.send_signal(signal.SIGTERM)
            await until_refused(serving)
            assert not task.done()
        assert task.result().status_code == 201
        assert await asyncio.to_thread(serving.process.wait, 30) == 0
        assert not [line for line in serving.errors if "Traceback" in line]


async def test_a_request_that_does_not_end_in_time_is_cut_off_and_told_so(
    database: str, folder: Path, workers: str
) -> None:
    with service(folder, database, "--workers", workers) as serving:
        await asyncio.to_thread(serving.wait_until_ready)
        async with writing(serving, database) as task:
            serving.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(serving.process.wait, 60) == 0  # the lock is still held
            answer = await task
            assert (answer.status_code, "retry-after" in answer.headers) == (503, False)
            assert "may have been made" in answer.json()["hint"]
        assert not [line for line in serving.errors if "Traceback" in line]


async def test_stopped_under_load_nothing_acknowledged_is_lost(database: str, folder: Path, workers: str) -> None:
    writers = some_writers()
    for writer in writers:
        writer.keyed = False  # who would try until it is answered
    with service(folder, database, "--workers", workers) as serving:
        await asyncio.to_thread(serving.wait_until_ready)
        async with busy(serving.url, writers):
            while min(len(writer.acknowledged) for writer in writers) < 5:
                await asyncio.sleep(0.02)
            serving.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(serving.process.wait, 60) == 0
        await check_all(database, writers)
        assert verified(folder, database)
        assert not [line for line in serving.errors if "Traceback" in line]


@pytest.mark.unmeasured  # see `Serving.stop`
def test_sigterm_for_every_process_again_and_again_ends_the_service(database: str, folder: Path, workers: str) -> None:
    with service(folder, database, "--workers", workers) as serving:
        serving.wait_until_ready()
        while serving.process.poll() is None:  # as systemd does to all of a service's processes
            with suppress(ProcessLookupError):
                os.killpg(serving.process.pid, signal.SIGTERM)
            time.sleep(0.01)
        assert serving.process.wait(30) == 0
        assert not [line for line in serving.errors if "Traceback" in line]
