"""Erased content is nowhere any more, and an erasure that is killed is finished by the next."""

import asyncio
import random
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import asyncpg
import httpx2
import pytest

from db.dsn import connect_arguments
from db.embedded import binaries
from tests.conftest import execute
from tests.faults.servers import Postgres, service, verified
from tests.processes import run
from tests.service import TASKS, bearer
from tests.test_deployment import ROOT

CANARY = b"xylophone7341"
WORD = CANARY.decode()
USER = "/api/ann"

pytestmark = pytest.mark.once


def fill(client: httpx2.Client, batches: int = 1) -> str:
    """Write events in which the canary is wherever a user can put it. Return a deleted task's path."""
    fields = {"title": WORD, "description": f"{WORD} {'x' * 4000}", "tags": [WORD]}
    for _ in range(batches):
        operations = [{"op": "create", **fields} for _ in range(15)]
        answer = client.post(f"{USER}/batch", json={"operations": operations})
        assert answer.status_code == 200
    headers = {"Idempotency-Key": WORD, "User-Agent": WORD}
    path: str = client.post(TASKS, json=fields, headers=headers).headers["location"]
    for n in range(20):
        client.patch(path, json={"title": f"{WORD} {n}", "due_date": "2026-12-01"})
    client.get(TASKS, params={"q": WORD})
    client.delete(path)
    return path


def dumped(dsn: str) -> bytes:
    return subprocess.run([binaries() / "pg_dump", dsn], capture_output=True, check=True, timeout=60).stdout.lower()


def from_the_guide() -> list[str]:
    """Return the statements that take erased bytes out of the data files."""
    _, _, rest = (ROOT / "docs" / "guides" / "erasure.md").read_text().partition("```sql\n")
    block, _, _ = rest.partition("```")
    return [each for each in block.split(";") if each.strip()]


def files_with(folder: Path, found_in: bytes = CANARY) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file() and found_in in path.read_bytes()}


@pytest.mark.parametrize("what", ["task", "user", "by the operator"])
async def test_it_is_in_no_table_no_dump_no_file_no_line_and_no_answer(folder: Path, what: str) -> None:
    with Postgres(folder) as postgres, service(folder, postgres.dsn, LOG_LEVEL="DEBUG") as serving:
        serving.wait_until_ready()
        with httpx2.Client(base_url=serving.url, headers=bearer(), timeout=60) as client:
            path = fill(client, batches=0 if what == "task" else 1)
            await execute(postgres.dsn, "ANALYZE")  # as Postgres does by itself
            if what == "task":
                assert client.post(f"{path}/erase").status_code == 204
            elif what == "user":
                assert client.request("DELETE", USER, json={"confirm": "ann"}).status_code == 204
            else:
                said = run(folder, "erase", "--user", "ann", "--reason", "4711", "--yes", DATABASE_URL=postgres.dsn)
                assert said.returncode == 0, said.stderr
                assert said.stdout.startswith("All content of 'ann' is erased for good")
            moment = "2100-01-01T00:00:00Z"
            for asked in (
                *(TASKS, f"{TASKS}?as_of={moment}", f"{TASKS}/changes", f"{TASKS}/stats", f"{USER}/audit"),
                *(f"{USER}/audit?format=ndjson", f"{USER}/audit?format=csv", f"{path}/history", path),
                *(f"{path}?version=1", f"{path}?as_of={moment}"),
            ):
                assert CANARY not in client.get(asked).content.lower(), asked
            with client.stream("GET", f"{USER}/audit/stream?after=0") as stream:
                events = client.get(f"{USER}/audit/head").json()["seq"]
                for line in stream.iter_lines():
                    assert WORD not in line.lower()
                    if line == f"id: {events}":
                        break
        assert serving.stop(signal.SIGTERM) == 0
        assert not [line for line in serving.errors if WORD in line.lower()]
        assert CANARY not in dumped(postgres.dsn)
        assert verified(folder, postgres.dsn)
        await execute(postgres.dsn, *from_the_guide(), "CHECKPOINT")
        base = folder / "server" / "postgres" / "base"
        assert files_with(base, b"ann")  # what isn't erased is found by this search
        assert files_with(base) == set()


WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
A_TASK = """
    SELECT id FROM tasks WHERE id = (
        SELECT id FROM tasks ORDER BY id OFFSET (SELECT floor($1::float8 * count(*)) FROM tasks) LIMIT 1
    ) FOR UPDATE
"""
AN_EVENT = """
    SELECT id FROM events WHERE id = (
        SELECT id FROM events WHERE data IS NOT NULL AND type !~ 'Erased$' ORDER BY seq
        OFFSET (SELECT floor($1::float8 * count(*)) FROM events WHERE data IS NOT NULL AND type !~ 'Erased$') LIMIT 1
    ) FOR UPDATE
"""
"""Statements that lock a row, by its place from 0 to 1: its erasure is recorded, or done, past that place only."""


def erase(url: str) -> httpx2.Response:
    with httpx2.Client(base_url=url, headers=bearer(), timeout=60) as client:
        return client.request("DELETE", USER, json={"confirm": "ann"})


async def erase_until(kill: Callable[[], None], url: str, dsn: str, lock: str, place: float) -> httpx2.Response | None:
    """Erase all, and kill as soon as this waits for the lock. Return the answer; `None` if the service died."""
    connection = await asyncpg.connect(**connect_arguments(dsn))
    await connection.execute("BEGIN")
    assert await connection.fetchval(lock, place)
    erasing = asyncio.create_task(asyncio.to_thread(erase, url))
    while not await connection.fetchval(WAITING):
        assert not erasing.done()
        await asyncio.sleep(0.01)
    await asyncio.to_thread(kill)
    connection.terminate()
    try:
        return await erasing
    except httpx2.TransportError:
        return None


async def test_killed_in_the_middle_it_is_finished_by_the_next(folder: Path) -> None:
    chance = random.Random(1)  # noqa: S311 - draws lots
    with Postgres(folder) as postgres:
        for lock in (A_TASK, AN_EVENT, AN_EVENT, A_TASK, AN_EVENT):
            with service(folder, postgres.dsn) as serving:
                serving.wait_until_ready()
                with httpx2.Client(base_url=serving.url, headers=bearer(), timeout=60) as client:
                    fill(client, batches=10)
                place = chance.uniform(0.1, 0.9)
                assert await erase_until(serving.process.kill, serving.url, postgres.dsn, lock, place) is None
                serving.process.wait()
            assert verified(folder, postgres.dsn)
        with service(folder, postgres.dsn) as serving:
            serving.wait_until_ready()
            with httpx2.Client(base_url=serving.url, headers=bearer(), timeout=60) as client:
                assert client.request("DELETE", USER, json={"confirm": "ann"}).status_code == 204
                assert client.get(TASKS).json() == []
                assert CANARY not in client.get(f"{USER}/audit?format=ndjson").content.lower()
            assert serving.stop(signal.SIGTERM) == 0
        assert verified(folder, postgres.dsn)


async def test_postgres_killed_in_the_middle(folder: Path) -> None:
    with Postgres(folder) as postgres, service(folder, postgres.dsn) as serving:
        serving.wait_until_ready()
        with httpx2.Client(base_url=serving.url, headers=bearer(), timeout=60) as client:
            fill(client, batches=10)
            answer = await erase_until(postgres.kill, serving.url, postgres.dsn, AN_EVENT, 0.5)
            assert answer is not None
            assert answer.status_code == 503
            postgres.start()
            while answer.status_code == 503:
                await asyncio.sleep(0.1)
                answer = client.request("DELETE", USER, json={"confirm": "ann"})
            assert answer.status_code == 204
            assert CANARY not in client.get(f"{USER}/audit?format=ndjson").content.lower()
        assert serving.stop(signal.SIGTERM) == 0
        assert verified(folder, postgres.dsn)
