"""The functions that write to the log are taken from everybody again, after a restore has given them away."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from db.dsn import connect_arguments
from db.embedded import binaries
from db.public_rights import OpenToPublic, check_public_rights, open_to_public, revoke_from_public
from db.roles import ADVISORY_LOCK_KEY
from tests.conftest import execute, named, needs_citus, new_database, on_plain_postgres
from tests.integration.test_roles import as_login
from tests.processes import run
from tests.service import serving

WRITING = [
    "daybook_append",
    "daybook_append_many",
    "daybook_erase",
    "daybook_lock_stream",
    "daybook_record_access",
]
GIVE = f"GRANT EXECUTE ON FUNCTION {', '.join(WRITING)} TO PUBLIC"
LOCK = "SELECT daybook_lock_stream('ann')"


@pytest.fixture
async def stranger(server: str, database: str) -> AsyncIterator[str]:
    """Yield the DSN of a login that was given nothing."""
    role = f"stranger_{uuid4().hex}"
    await execute(server, f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    yield as_login(database, role, "x")
    await execute(server, f"DROP ROLE {role}")


def postgres(program: str, dsn: str, *options: str) -> None:
    """Run a program of Postgres's on a database."""
    to = connect_arguments(dsn)
    names = {"PGHOST": "host", "PGPORT": "port", "PGUSER": "user", "PGPASSWORD": "password", "PGDATABASE": "database"}
    environment = {name: str(to[argument]) for name, argument in names.items()}
    subprocess.run([binaries() / program, *options], env=environment, check=True)


@pytest.mark.once  # pg_dump and pg_restore are the newest's, whose dumps older servers don't take
@on_plain_postgres  # on a cluster, a backup is of each server
async def test_a_login_that_was_given_nothing_can_not_write_after_a_restore(
    server: str, database: str, stranger: str, folder: Path
) -> None:
    backup = folder / "daybook.dump"
    postgres("pg_dump", database, "--format=custom", "--no-owner", "--no-privileges", f"--file={backup}")
    async with new_database(server) as restored:
        name = connect_arguments(restored)["database"]
        postgres(
            "pg_restore", restored, f"--dbname={name}", "--no-owner", "--no-privileges", "--exit-on-error", str(backup)
        )
        there = named(stranger, name)
        await execute(there, LOCK)
        assert await revoke_from_public(restored) is True
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await execute(there, LOCK)
        await execute(restored, LOCK)
        await check_public_rights(restored)


@pytest.mark.parametrize("names", [WRITING, ["daybook_erase"]])
async def test_each_function_that_is_open_is_named(database: str, other: asyncpg.Connection, names: list[str]) -> None:
    assert await open_to_public(other) == []
    await execute(database, f"GRANT EXECUTE ON FUNCTION {', '.join(names)} TO PUBLIC")
    assert await open_to_public(other) == names
    with pytest.raises(OpenToPublic, match=rf"by {', '.join(names)}(;.*)?: run `daybook migrate`"):
        await check_public_rights(database)


async def test_nothing_waits_or_is_written_if_nothing_is_open(database: str, other: asyncpg.Connection) -> None:
    rows = "SELECT oid, xmin FROM pg_proc WHERE starts_with(proname::text, 'daybook_') ORDER BY oid"
    before = await other.fetch(rows)
    async with other.transaction():
        await other.execute("SELECT pg_advisory_xact_lock($1)", ADVISORY_LOCK_KEY)
        assert await revoke_from_public(database) is False
    assert await other.fetch(rows) == before


async def test_starts_that_race_take_it_once(database: str) -> None:
    await execute(database, GIVE)
    await asyncio.gather(*(revoke_from_public(database) for _ in range(4)))
    await check_public_rights(database)


async def test_functions_of_another_owner_are_left_and_told(database: str, stranger: str) -> None:
    await execute(database, GIVE)
    assert await revoke_from_public(stranger) is False
    with pytest.raises(OpenToPublic):
        await check_public_rights(stranger)


@pytest.mark.usefixtures("unsharded")
def test_migrate_takes_it_with_one_login_too(database: str, folder: Path) -> None:
    asyncio.run(execute(database, GIVE))
    refused = run(folder, "migrate", "--check", DATABASE_URL=database)
    assert refused.returncode == 2
    assert "run `daybook migrate`" in refused.stderr
    mended = run(folder, "migrate", DATABASE_URL=database)
    assert mended.returncode == 0
    assert "Took the right to write to the log from everybody" in mended.stdout
    assert "Took" not in run(folder, "migrate", DATABASE_URL=database).stdout
    assert run(folder, "migrate", "--check", DATABASE_URL=database).returncode == 0


async def test_a_start_warns_of_it(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    await execute(database, GIVE)
    async with serving(database, log_format="json"):
        pass
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    [warning] = [line for line in lines if "functions" in line]
    assert warning["functions"] == WRITING
    assert "run `daybook migrate`" in warning["event"]


@needs_citus
async def test_it_is_taken_on_each_server_of_a_cluster(database: str, other: asyncpg.Connection) -> None:
    """A worker may be open where the coordinator isn't."""
    alone = "SET citus.enable_ddl_propagation = off; GRANT EXECUTE ON FUNCTION daybook_erase TO PUBLIC"
    worker = await other.fetchrow("SELECT nodename, nodeport FROM pg_dist_node WHERE groupid <> 0 ORDER BY nodeid")
    if worker is None:
        pytest.skip("needs a cluster with a worker beside the coordinator")
    there = {**connect_arguments(database), "host": worker["nodename"], "port": worker["nodeport"]}
    connection = await asyncpg.connect(**there)
    await connection.execute(alone)
    await connection.close()
    with pytest.raises(OpenToPublic, match=rf"daybook_erase \(on {worker['nodename']}:{worker['nodeport']}\)"):
        await check_public_rights(database)
    assert await revoke_from_public(database) is True
    await check_public_rights(database)
