"""A database that takes no writes counts as down."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx2
import pytest

from db.embedded import binaries, running
from tests.conftest import execute
from tests.faults.servers import Postgres
from tests.faults.test_network import started, told
from tests.network import Link
from tests.processes import free_port
from tests.service import TASKS

pytestmark = pytest.mark.once

READ_ONLY = "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"
WRITABLE = (
    "SET default_transaction_read_only = off",
    "ALTER SYSTEM RESET default_transaction_read_only",
    "SELECT pg_reload_conf()",
)


async def test_a_read_only_phase_is_an_outage_and_ends_by_itself(folder: Path) -> None:
    """Providers make a database read-only when its disk is full, and no connection ends."""
    port = free_port()
    with Postgres(folder) as postgres:
        async with started(folder, postgres.dsn, METRICS_PORT=str(port)) as (serving, client):
            for many, somebody_writes in enumerate([False, True]):  # who only reads is told by the probe
                await asyncio.gather(*(client.get(TASKS) for _ in range(8)))
                await execute(postgres.dsn, *READ_ONLY)
                if somebody_writes:
                    assert (await client.post(TASKS, json={"title": "y"})).status_code == 503
                async with until(client, 503, TASKS), until(client, 503):
                    pass
                assert (await client.get("/readyz")).json()["database"] == "read-only"
                assert await told(port, "daybook_database_up") == 0
                assert await told(port, "daybook_database_read_only") == 1
                await execute(postgres.dsn, *WRITABLE)
                async with until(client, 200):
                    pass
                assert await told(port, "daybook_database_up") == 1
                assert await told(port, "daybook_database_read_only") == 0
                answers = await asyncio.gather(*(client.post(TASKS, json={"title": "z"}) for _ in range(20)))
                assert {answer.status_code for answer in answers} == {201}
                assert len([line for line in serving.errors if "database read-only" in line]) == many + 1
        assert not [line for line in serving.errors if "Traceback" in line]


async def test_no_connection_to_a_standby_is_kept(folder: Path) -> None:
    """The address led to the standby for a moment, in a failover; connections to it don't end by themselves."""
    with Postgres(folder) as primary, standby(folder, primary.dsn) as replica:
        link = Link(primary.dsn)
        async with link.open() as dsn, started(folder, dsn) as (serving, client):
            assert (await client.post(TASKS, json={"title": "x"})).status_code == 201
            link.lead_to(replica)
            link.drop()
            async with until(client, 503):
                await asyncio.gather(*(client.get(TASKS) for _ in range(8)))
                assert (await client.post(TASKS, json={"title": "y"})).status_code == 503
            link.lead_to(primary.dsn)
            async with until(client, 200):
                pass
            answers = await asyncio.gather(*(client.post(TASKS, json={"title": "z"}) for _ in range(20)))
            assert {answer.status_code for answer in answers} == {201}
            assert len((await client.get(TASKS)).json()) == 21
            link.lead_to(replica)
            link.drop()
            async with until(client, 503):
                pass
            await execute(replica, "SELECT pg_promote()")
            async with until(client, 200):
                pass
            assert (await client.post(TASKS, json={"title": "y"})).status_code == 201
        assert not [line for line in serving.errors if "Traceback" in line]


@asynccontextmanager
async def until(client: httpx2.AsyncClient, status: int, path: str = "/readyz") -> AsyncIterator[None]:
    """Run the block, then wait until the service answers so."""
    yield
    for _ in range(200):
        if (await client.get(path)).status_code == status:
            return
        await asyncio.sleep(0.05)
    pytest.fail(f"{path} doesn't come to answer {status}")


@contextmanager
def standby(folder: Path, primary: str) -> Iterator[str]:
    """Yield the DSN of a server that follows the primary, and can be read."""
    sockets = primary.partition("host=")[2].replace("%2F", "/")
    copy = folder / "standby" / "postgres"
    copy.parent.mkdir(mode=0o711)
    owner = (folder / "server" / "postgres").stat()
    os.chown(copy.parent, owner.st_uid, owner.st_gid)
    program = binaries() / "pg_basebackup"
    command = [str(program), "-h", sockets, "-U", "daybook", "-D", str(copy), "-R", "-c", "fast"]
    subprocess.run(command, check=True, user=owner.st_uid, group=owner.st_gid, cwd="/", capture_output=True)
    (copy / ".s.PGSQL.5432.lock").unlink()  # the primary's, whose socket is among its data
    with running(folder / "standby") as dsn:
        yield dsn
