"""A server without room for further connections is up: the existing connections serve all requests."""

import asyncio
from contextlib import suppress
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from db.pool import open_pool
from tests.conftest import execute
from tests.integration.test_roles import as_login
from tests.service import SHARDED

pytestmark = pytest.mark.once

REFUSALS = {
    "ALTER ROLE {role} CONNECTION LIMIT 0": "ALTER ROLE {role} CONNECTION LIMIT -1",  # 53300
    "ALTER DATABASE {database} CONNECTION LIMIT 0": "ALTER DATABASE {database} CONNECTION LIMIT -1",  # 53300
    "ALTER DATABASE {database} ALLOW_CONNECTIONS false": "ALTER DATABASE {database} ALLOW_CONNECTIONS true",  # 55000
    "ALTER ROLE {role} NOLOGIN": "ALTER ROLE {role} LOGIN",  # 28000
    "REVOKE CONNECT ON DATABASE {database} FROM PUBLIC": "GRANT CONNECT ON DATABASE {database} TO PUBLIC",  # 42501
}


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_whatever_new_connections_are_refused_with(server: str, database: str, refusal: str) -> None:
    names = {"role": f"guest_{uuid4().hex}", "database": urlsplit(database).path.removeprefix("/")}
    await execute(server, f"CREATE ROLE {names['role']} LOGIN")
    async with open_pool(as_login(database, names["role"], "x"), size=4, sharded=SHARDED) as pool:
        assert await pool.fetchval("SELECT 1") == 1
        await execute(server, refusal.format_map(names))
        with capture_logs() as lines:
            for _ in range(3):
                found = await asyncio.gather(*(pool.fetchval("SELECT $1::int", number) for number in range(30)))
                assert found == list(range(30))
                await pool.probe("SELECT")
        assert [line["event"].partition(":")[0] for line in lines] == ["no more connections"]
        await execute(
            server, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{names['role']}'"
        )
        with capture_logs() as lines:
            while not any("database down" in line["event"] for line in lines):  # there are none left
                with suppress(ConnectionError):
                    await pool.fetchval("SELECT 1")
        await execute(server, REFUSALS[refusal].format_map(names))
        while pool.down:
            await asyncio.sleep(0.05)
        found = await asyncio.gather(*(pool.fetchval("SELECT $1::int", number) for number in range(30)))
        assert found == list(range(30))
    await execute(server, f"DROP ROLE {names['role']}")
