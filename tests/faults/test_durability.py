"""Acknowledged writes survive a crash, even if Postgres is configured not to wait for its disk."""

import asyncio
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import execute
from tests.faults.load import Writer, busy, check_all
from tests.faults.servers import Postgres, service, verified
from tests.pooler import PGBOUNCER, pooled

pytestmark = [pytest.mark.once, pytest.mark.unmeasured]


@pytest.mark.parametrize("setting", ["ALTER DATABASE postgres SET", "ALTER ROLE daybook SET", "ALTER SYSTEM SET"])
@pytest.mark.parametrize("by_way", [False, pytest.param(True, marks=pytest.mark.skipif(PGBOUNCER is None, reason=""))])
async def test_acknowledged_writes_survive_a_crash(folder: Path, setting: str, by_way: bool) -> None:
    (folder / "pooler").mkdir()
    writers = [Writer(f"user-{number}", keyed=False) for number in range(4)]
    with ExitStack() as stack:
        postgres = stack.enter_context(Postgres(folder))
        await execute(
            postgres.dsn,
            "ALTER SYSTEM SET wal_writer_delay = '10s'",  # nor does anybody else write it
            f"{setting} synchronous_commit = off",
            "SELECT pg_reload_conf()",
        )
        dsn = stack.enter_context(pooled(postgres.dsn, folder / "pooler")) if by_way else postgres.dsn
        serving = stack.enter_context(service(folder, dsn, DATABASE_URL_DIRECT=postgres.dsn))
        await asyncio.to_thread(serving.wait_until_ready)
        async with busy(serving.url, writers):
            while any(len(writer.acknowledged) < 20 for writer in writers):
                await asyncio.sleep(0.01)
            postgres.kill()
        postgres.start()
        await check_all(postgres.dsn, writers)
        assert verified(folder, postgres.dsn)
        assert await asyncio.to_thread(serving.stop) == 0
