"""The server's settings and the login's rights that the service warns of."""

import asyncio
import json
from pathlib import Path
from uuid import uuid4

import pytest

from db.migrate import migrate
from db.schema import check_schema
from db.server_requirements import NotUtf8
from tests.conftest import execute, new_database
from tests.integration.test_roles import as_login
from tests.processes import run
from tests.service import SECRET, serving

pytestmark = pytest.mark.once


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_a_database_in_another_encoding_is_refused(server: str, folder: Path, encoding: str) -> None:
    options = f"ENCODING '{encoding}' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0"
    async with new_database(server, options) as dsn:
        with pytest.raises(NotUtf8, match=f"encoding is {encoding}.*CREATE DATABASE daybook ENCODING 'UTF8'"):
            await asyncio.to_thread(migrate, dsn)
        with pytest.raises(NotUtf8):
            await check_schema(dsn)
        result = await asyncio.to_thread(run, folder, "serve", DATABASE_URL=dsn, JWT_SECRET=SECRET)
        assert result.returncode == 2
        assert "UTF8" in result.stderr
        assert "Traceback" not in result.stderr


async def test_a_server_that_may_lose_the_log_is_warned_of_in_production(
    server: str, database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    role = f"guest_{uuid4().hex}"
    await execute(server, f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    await execute(database, f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")

    async def warned(dsn: str, **options: str) -> list[str]:
        capsys.readouterr()
        async with serving(dsn, log_format="json", **options):
            pass
        lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        said = [line["event"] for line in lines if line["level"] == "warning"]
        return [line for line in said if "JWT" not in line and "crash" not in line]  # the server is one for tests

    login = as_login(database, role, "x")
    production = {"environment": "production"}
    assert await warned(database) == []
    assert await warned(login, **production) == []
    [line] = await warned(database, **production)
    assert line.startswith("the service's login may change the log")
    await execute(database, f"ALTER TABLE events OWNER TO {role}")
    [line] = await warned(login, **production)
    assert line.startswith("the service's login may change the log")
    await execute(database, "ALTER TABLE events OWNER TO CURRENT_USER")
    await execute(database, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


async def test_a_missing_index_is_warned_of_in_production(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    await execute(database, "DROP INDEX tasks_due_date_idx")
    async with serving(database, log_format="json", environment="production"):
        pass
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["missing"] for line in lines if "missing" in line] == [["tasks_due_date_idx"]]


async def test_a_server_that_does_not_wait_for_its_disk_is_warned_of(
    server: str, database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await execute(server, "ALTER SYSTEM SET full_page_writes = off", "SELECT pg_reload_conf()")
    try:
        async with serving(database, log_format="json", environment="production"):
            pass
    finally:
        await execute(server, "ALTER SYSTEM RESET full_page_writes", "SELECT pg_reload_conf()")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    [off] = [line["off"] for line in lines if "crash" in line["event"]]
    assert "full_page_writes" in off
