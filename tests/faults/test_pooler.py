"""PgBouncer in transaction mode, with TLS, in between."""

import asyncio
from pathlib import Path

import httpx2
import pytest

from tests.certificates import Authority
from tests.faults.servers import Postgres, service, verified
from tests.pooler import PGBOUNCER, pooled
from tests.processes import run
from tests.service import bearer

pytestmark = [pytest.mark.once, pytest.mark.skipif(PGBOUNCER is None, reason="PgBouncer isn't installed")]

TASKS = "/api/ann/tasks"


def test_a_certificate_that_nobody_vouches_for_is_refused(database: str, folder: Path) -> None:
    (folder / "other").mkdir()
    other = Authority.made(folder / "other")
    with pooled(database, folder) as dsn:
        trusted = dsn.partition("&sslrootcert=")[0]
        assert run(folder, "migrate", DATABASE_URL=dsn).returncode == 0
        for refused in (trusted, f"{trusted}&sslrootcert={other.file}"):
            result = run(folder, "migrate", DATABASE_URL=refused)
            assert result.returncode == 2
            assert "CERTIFICATE_VERIFY_FAILED" in result.stderr
            assert "Traceback" not in result.stderr


def test_even_migrations_run_through_it_one_after_the_other(empty_database: str, folder: Path) -> None:
    with pooled(empty_database, folder) as dsn:
        assert run(folder, "migrate", DATABASE_URL=dsn).stdout == "Applied 0001, 0002.\n"
        for _ in range(3):
            assert run(folder, "migrate", DATABASE_URL=dsn).stdout == "The schema is up to date.\n"


async def test_a_database_killed_behind_it_is_away_and_then_back(folder: Path) -> None:
    """The pooler still takes connections and lets them wait; what is asked through it gets no answer."""
    (folder / "pooler").mkdir()
    with Postgres(folder) as postgres, pooled(postgres.dsn, folder / "pooler") as dsn:
        with service(folder, dsn, DATABASE_TIMEOUT="1", DATABASE_URL_DIRECT=postgres.dsn) as serving:
            await asyncio.to_thread(serving.wait_until_ready)
            async with httpx2.AsyncClient(base_url=serving.url, headers=bearer(), timeout=30) as client:
                assert (await client.post(TASKS, json={"title": "x"})).status_code == 201
                postgres.kill()
                for _ in range(5):
                    answers = await asyncio.gather(*(client.get(TASKS) for _ in range(20)))
                    assert {answer.status_code for answer in answers} == {503}
                    assert (await client.post(TASKS, json={"title": "y"})).status_code == 503
                await asyncio.to_thread(postgres.start)
                while (await client.get(TASKS)).status_code != 200:
                    await asyncio.sleep(0.05)
                assert (await client.post(TASKS, json={"title": "z"})).status_code == 201
            assert await asyncio.to_thread(serving.stop) == 0
            assert not [line for line in serving.errors if "Traceback" in line]
        assert verified(folder, postgres.dsn)


@pytest.mark.parametrize(
    ("host", "options", "status"),
    [
        ("127.0.0.1", "sslmode=verify-full&sslrootcert={ours}", 0),
        ("127.0.0.1", "sslmode=require&sslrootcert={ours}", 0),
        ("localhost", "sslmode=verify-full&sslrootcert={ours}", 2),  # the certificate is for the address
        ("localhost", "sslmode=verify-ca&sslrootcert={ours}", 0),
        ("localhost", "sslmode=verify-ca&sslrootcert={theirs}", 2),
        ("127.0.0.1", "sslmode=prefer", 0),
        ("127.0.0.1", "sslmode=allow", 0),
        ("127.0.0.1", "", 0),  # it is near
        ("127.0.0.1", "sslmode=disable", 2),  # which the pooler refuses
    ],
)
def test_each_mode_verifies_what_it_says(database: str, folder: Path, host: str, options: str, status: int) -> None:
    (folder / "theirs").mkdir()
    with pooled(database, folder) as dsn:
        where = dsn.partition("?")[0].replace("127.0.0.1", host)
        chosen = options.format(ours=folder / "authority.pem", theirs=Authority.made(folder / "theirs").file)
        result = run(folder, "migrate", DATABASE_URL=f"{where}?pgbouncer=true&{chosen}")
        assert result.returncode == status, result.stderr
        assert "Traceback" not in result.stderr
