"""Servers that start at the same time, and on a database that isn't theirs."""

import asyncio
import signal
import socket
from pathlib import Path

import httpx2
import pytest

from tests.faults.servers import service
from tests.integration.test_embedded import servers
from tests.processes import Serving, run
from tests.service import bearer

pytestmark = pytest.mark.once


async def test_two_servers_that_start_at_once_on_an_empty_database_both_serve(
    empty_database: str, folder: Path
) -> None:
    with service(folder, empty_database) as one, service(folder, empty_database) as other:
        for serving in (one, other):
            await asyncio.to_thread(serving.wait_until_ready)
        async with httpx2.AsyncClient(headers=bearer()) as client:
            made = await client.post(f"{one.url}/api/ann/tasks", json={"title": "x"})
            assert (await client.get(f"{other.url}/api/ann/tasks")).json() == [made.json()]
        for serving in (one, other):
            assert await asyncio.to_thread(serving.stop, signal.SIGTERM) == 0


MISLEADING = {
    "PGHOST": "nowhere.example",
    "PGHOSTADDR": "192.0.2.1",
    "PGPORT": "1",
    "PGUSER": "nobody-of-ours",
    "PGPASSWORD": "x",
    "PGPASSFILE": "/nowhere",
    "PGDATABASE": "nowhere",
    "PGSERVICE": "nowhere",
    "PGSERVICEFILE": "/nowhere",
    "PGSSLMODE": "require",
    "PGSSLNEGOTIATION": "nonsense",
    "PGSSLCERT": "/nowhere",
    "PGSSLKEY": "/nowhere",
    "PGSSLROOTCERT": "/nowhere",
    "PGSSLCRL": "/nowhere",
    "PGGSSLIB": "nonsense",
    "PGSSLMINPROTOCOLVERSION": "nonsense",
    "PGSSLMAXPROTOCOLVERSION": "nonsense",
    "PGKRBSRVNAME": "nonsense",
    "PGTARGETSESSIONATTRS": "standby",
    "PGOPTIONS": "-c nonsense=1",
    "PGCLIENTENCODING": "nonsense",
    "PGREQUIREAUTH": "gss",
    "PGCHANNELBINDING": "require",
    "PGDATA": "/nowhere",
    "PGTZ": "nonsense",
    "PGDATESTYLE": "nonsense",
    "PGSYSCONFDIR": "/nowhere",
    "PGCONNECT_TIMEOUT": "nonsense",
    "PGCTLTIMEOUT": "0",
    "LC_ALL": "nonsense",
    "LANG": "nonsense",
    "LC_MESSAGES": "de_DE.UTF-8",
    "LANGUAGE": "de",
    "TZ": "nonsense",
}
"""Variables that Postgres's programs and drivers of it read."""


def test_variables_of_postgres_decide_nothing(folder: Path) -> None:
    with Serving(folder, **MISLEADING) as serving:
        serving.wait_until_ready()
        assert len(servers(folder / ".daybook")) == 1
        assert run(folder, "verify", **MISLEADING).returncode == 0
        assert serving.stop() == 0
    assert servers(folder / ".daybook") == []


def test_a_start_that_fails_later_leaves_no_server(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = run(folder, "serve", METRICS_PORT=str(taken.getsockname()[1]))
        assert (result.returncode, "METRICS_PORT" in result.stderr) == (2, True)
    assert (folder / ".daybook" / "postgres").exists()
    assert servers(folder / ".daybook") == []


def test_a_server_whose_socket_was_removed_is_stopped_too(folder: Path) -> None:
    """Programs that clean up temporary folders may remove a socket."""
    with Serving(folder) as serving:
        serving.wait_until_ready()
        (folder / ".daybook" / "postgres" / ".s.PGSQL.5432").unlink()
        assert serving.stop() == 0
    assert servers(folder / ".daybook") == []
