"""Connections follow the address alone, with TLS if the server has it."""

import asyncio
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from db.connection import connect
from db.dsn import connect_arguments
from db.embedded import running
from db.errors import CannotConnect
from tests.conftest import execute
from tests.faults.test_concurrent_starts import MISLEADING
from tests.processes import free_port

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def asking() -> Iterator[str]:
    """Yield the address of a server without TLS that asks for passwords; ann's is `secret`."""
    with TemporaryDirectory(prefix="daybook-tests-") as folder:
        Path(folder).chmod(0o755)
        rules, port = Path(folder) / "rules", free_port()
        rules.write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        settings = {"listen_addresses": "127.0.0.1", "port": str(port), "hba_file": str(rules), "fsync": "off"}
        with running(Path(folder) / "data", settings=settings) as dsn:
            asyncio.run(execute(f"{dsn}&port={port}", "CREATE ROLE ann LOGIN PASSWORD 'secret'"))
            yield f"127.0.0.1:{port}"


async def who(dsn: str) -> tuple[object, ...]:
    connection = await connect(**connect_arguments(dsn))
    try:
        row = await connection.fetchrow("SELECT current_user::text, current_database()::text")
        assert row is not None
        return tuple(row)
    finally:
        await connection.close()


async def test_the_address_alone_decides(asking: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables and files of the home folder, which drivers look into, change nothing."""
    for name, value in MISLEADING.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PGPASSFILE")
    monkeypatch.setenv("HOME", str(folder))
    passwords = folder / ".pgpass"
    passwords.touch(0o600)
    passwords.write_text("*:*:*:*:secret\n")
    (folder / ".postgresql").mkdir()
    for name in ("postgresql.crt", "postgresql.key", "root.crt", "root.crl"):
        (folder / ".postgresql" / name).write_text("nonsense")
    for mode in ("", "?sslmode=prefer", "?sslmode=disable"):
        assert await who(f"postgresql://ann:secret@{asking}/postgres{mode}") == ("ann", "postgres")
        with pytest.raises(CannotConnect, match="has no password"):
            await who(f"postgresql://ann@{asking}/postgres{mode}")


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("ann:secret@{}/", "without a database means"),
        ("ann:wrong@{}/postgres", "failed for user"),
        ("ann@{}/postgres", "has no password"),
    ],
)
async def test_a_refused_default_is_named(asking: str, address: str, says: str) -> None:
    with pytest.raises(CannotConnect, match=says) as refused:
        await who(f"postgresql://{address.format(asking)}")
    assert "secret" not in str(refused.value)


async def test_an_address_without_a_user_means_our_account(server: str) -> None:
    account = pwd.getpwuid(os.geteuid()).pw_name
    dsn = server.replace("daybook@", "").replace("postgres:postgres@", "")
    if dsn == server:
        pytest.skip("the server's address has a user of its own")
    with pytest.raises(CannotConnect, match=f'"{account}" does not exist .*without a user means'):
        await who(dsn)


NAMES = """
import asyncio, sys
from db.pool import open_pool

async def main():
    async with open_pool(sys.argv[1]) as pool, pool.acquire() as connection:
        await connection.fetch("SELECT 1")
        await connection.fetch("SELECT 2")
        print(*[row[0] for row in await connection.fetch("SELECT name FROM pg_prepared_statements")])

asyncio.run(main())
"""


def test_no_other_process_prepares_a_statement_under_the_same_name(unchanged_database: str) -> None:
    """Behind a pooler that we don't know of, the other's statement would be run instead of ours."""
    arguments = [sys.executable, "-c", NAMES, unchanged_database]
    found = [subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.split() for _ in range(2)]
    assert [len(names) for names in found] == [3, 3]
    assert len(set().union(*found)) == 6
    assert max(map(len, found[0])) < 64, "Postgres cuts longer ones"
