"""PgBouncer in transaction mode, with TLS, between the service and Postgres."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from structlog.testing import capture_logs
from uuid_utils.compat import uuid7

from commands.commands import Command, CreateTask, ToggleTask
from commands.handler import Outcome, handle
from db.errors import NotPrepared
from db.pool import Pool, open_pool
from events.store import log
from events.store.append import APPEND
from events.store.stored_tasks import STORED
from events.task import Metadata
from tests.arrange import store_of
from tests.certificates import Authority
from tests.faults.servers import Postgres, service, verified
from tests.faults.test_network import started, told
from tests.pooler import PGBOUNCER, pooled
from tests.processes import free_port, run
from tests.schema import APPLIED
from tests.service import TASKS, bearer, sql

pytestmark = [pytest.mark.once, pytest.mark.skipif(PGBOUNCER is None, reason="PgBouncer isn't installed")]


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
        assert run(folder, "migrate", DATABASE_URL=dsn).stdout == f"{APPLIED}\n"
        for _ in range(3):
            assert run(folder, "migrate", DATABASE_URL=dsn).stdout == "The schema is up to date.\n"


async def test_a_database_killed_behind_it_is_away_and_then_back(folder: Path) -> None:
    """The pooler still takes connections and lets them wait, but no statement gets an answer."""
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


async def test_a_pooler_that_the_dsn_does_not_name_costs_no_answer(database: str, folder: Path) -> None:
    """Statements prepared through the pooler soon reach another server connection, which doesn't know them."""
    with (
        pooled(database, folder, connections=3, told=False) as dsn,
        service(folder, dsn, DATABASE_URL_DIRECT=database) as serving,
    ):
        await asyncio.to_thread(serving.wait_until_ready)
        async with httpx2.AsyncClient(base_url=serving.url, timeout=30) as client:
            answers = Counter[tuple[str, int]]()
            await asyncio.gather(*(_use(client, f"user-{number}", answers) for number in range(12)))
        assert await asyncio.to_thread(serving.stop) == 0
        assert answers == Counter(dict.fromkeys(EXPECTED, 12))
        [warning] = [line for line in serving.errors if "pooler found" in line]
        assert "?pgbouncer=true" in warning
        assert not [line for line in serving.errors if "Traceback" in line]
        assert verified(folder, dsn)


EXPECTED = [
    *(("create", 201), ("create again", 201), ("get", 200), ("list", 200), ("search", 200), ("change", 200)),
    *(("toggle", 200), ("stale", 412), ("unknown", 404), ("history", 200), ("past", 200), ("audit", 200)),
    *(("export", 200), ("head", 200), ("ready", 200), ("delete", 204), ("restore", 200)),
]


async def _use(client: httpx2.AsyncClient, user: str, answers: Counter[tuple[str, int]]) -> None:
    """Do each thing once that a client can do; several clients at once come by all of the pooler's connections."""
    own = bearer(user)

    async def ask(step: str, method: str, path: str, **options: Any) -> httpx2.Response:
        headers = {**own, **options.pop("headers", {})}
        answer = await client.request(method, f"/api/{user}{path}", headers=headers, **options)
        answers[step, answer.status_code] += 1
        return answer

    keyed = {"json": {"title": "Buy milk"}, "headers": {"Idempotency-Key": user}}
    made = await ask("create", "POST", "/tasks", **keyed)
    again = await ask("create again", "POST", "/tasks", **keyed)
    assert made.json() == again.json()
    task = f"/tasks/{made.json()['id']}"
    assert (await ask("get", "GET", task)).json() == made.json()
    assert (await ask("list", "GET", "/tasks")).json() == [made.json()]
    assert (await ask("search", "GET", "/tasks?q=milk&sort=title")).json() == [made.json()]
    changed = (await ask("change", "PATCH", task, json={"title": "Buy bread"})).json()
    assert (changed["title"], changed["version"]) == ("Buy bread", 2)
    assert (await ask("toggle", "PATCH", f"{task}/complete")).json()["completed"] is True
    await ask("stale", "PATCH", task, json={"title": "x"}, headers={"If-Match": '"1"'})
    await ask("unknown", "PATCH", f"/tasks/{uuid4()}", json={"title": "x"})
    assert len((await ask("history", "GET", f"{task}/history")).json()) == 3
    assert (await ask("past", "GET", f"{task}?version=1")).json()["title"] == "Buy milk"
    assert len((await ask("audit", "GET", "/audit")).json()) == 3
    assert len((await ask("export", "GET", "/audit?format=ndjson")).text.splitlines()) == 3
    assert (await ask("head", "GET", "/audit/head")).json()["seq"] == 3
    answers["ready", (await client.get("/readyz")).status_code] += 1
    await ask("delete", "DELETE", task)
    assert (await ask("restore", "POST", f"{task}/restore")).json()["title"] == "Buy bread"


@pytest.mark.parametrize(
    "statement",
    [STORED, log.LAST, log.HISTORY.short, log.LOCK_STREAM, APPEND],
    ids=["load", "is there", "history", "lock", "append"],
)
async def test_a_write_is_done_whichever_of_its_statements_is_lost(database: str, folder: Path, statement: str) -> None:
    """The task's row was deleted, so that the write runs every statement, the last three in a transaction."""
    ann: dict[str, Any] = {"user_id": "ann", "task_id": uuid7()}
    with pooled(database, folder, connections=1, told=False) as dsn:
        async with open_pool(dsn, size=1) as pool:
            await _do(pool, CreateTask(**ann, fields={"title": "x"}))
            await sql(pool, "DELETE FROM tasks")
            await _do(pool, ToggleTask(**ann))
            await sql(pool, "DELETE FROM tasks")
            named = "SELECT name FROM pg_prepared_statements WHERE statement = $1"
            await sql(pool, f"DEALLOCATE {await pool.fetchval(named, statement)}")
            with capture_logs() as lines:
                outcome = await _do(pool, ToggleTask(**ann))
            assert outcome.task is not None
            assert (outcome.task.version, outcome.task.completed) == (3, False)
            assert [line["event"].partition(":")[0] for line in lines] == ["pooler found"]
            assert await pool.fetchval("SELECT count(*) FROM events") == 3
            assert await pool.fetchval("SELECT count(*) FROM tasks") == 1


async def _do(pool: Pool, command: Command) -> Outcome:
    return await handle(store_of(pool), command, actor="ann", metadata=Metadata(request_id="test"))


async def test_the_pooler_is_logged_once_however_many_requests_find_it_at_once(database: str, folder: Path) -> None:
    with pooled(database, folder, connections=1, told=False) as dsn:
        async with open_pool(dsn, size=5) as pool:

            async def ask(number: int) -> None:
                async with pool.acquire() as connection:
                    assert await connection.fetchval("SELECT $1::int", number) == number
                    await asyncio.sleep(0)

            await asyncio.gather(*map(ask, range(5)))
            await sql(pool, "DEALLOCATE ALL")
            with capture_logs() as lines:
                found = await asyncio.gather(*map(ask, range(5)), return_exceptions=True)
            assert found
            assert all(isinstance(each, NotPrepared) for each in found if each), found
            assert len([line for line in lines if line["log_level"] == "warning"]) == 1
            await asyncio.gather(*(pool.fetchval("SELECT $1::int", number) for number in range(20)))


@pytest.mark.parametrize("told", [True, False])
async def test_no_setting_is_left_in_sessions_of_the_pooler(database: str, folder: Path, told: bool) -> None:
    with pooled(database, folder, connections=1, told=told) as dsn:
        async with open_pool(dsn) as pool:
            assert await pool.fetchval("SHOW plan_cache_mode") == "auto"


@pytest.mark.parametrize(
    ("host", "options", "status"),
    [
        ("127.0.0.1", "sslmode=verify-full&sslrootcert={ours}", 0),
        ("127.0.0.1", "sslmode=require&sslrootcert={ours}", 0),
        ("localhost", "sslmode=verify-full&sslrootcert={ours}", 2),  # the certificate is for the address
        ("localhost", "sslmode=verify-ca&sslrootcert={ours}", 0),
        ("localhost", "sslmode=verify-ca&sslrootcert={theirs}", 2),
        ("127.0.0.1", "ssl=true&sslrootcert={ours}", 0),
        ("127.0.0.1", "ssl=true", 2),
        ("127.0.0.1", "sslmode=no-verify", 0),
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


async def test_a_pooler_without_room_for_more_is_not_away(database: str, folder: Path) -> None:
    """The existing connections work, and are enough for everybody."""
    port = free_port()
    with pooled(database, folder, clients=4) as dsn:
        async with started(folder, dsn, DATABASE_URL_DIRECT=database, METRICS_PORT=str(port)) as (serving, client):
            users = [f"user-{number:02}" for number in range(20)]  # one alone has a few requests under way at a time
            for _ in range(3):
                answers = await asyncio.gather(
                    *(client.get(f"/api/{user}/tasks?q=x", headers=bearer(user)) for user in users),
                    *(client.post(f"/api/{user}/tasks", json={"title": "x"}, headers=bearer(user)) for user in users),
                    *(client.get("/readyz") for _ in range(2)),
                )
                assert Counter(answer.status_code for answer in answers) == {200: 22, 201: 20}
            assert await told(port, "daybook_database_up") == 1
            assert await told(port, "daybook_pool_in_use") == 0
        assert not [line for line in serving.errors if "database down" in line]
        assert len([line for line in serving.errors if "no more connections" in line]) == 1


async def test_connections_that_were_refused_are_made_when_there_is_room_again(database: str, folder: Path) -> None:
    with pooled(database, folder, clients=4) as dsn:
        async with open_pool(dsn, size=6) as others, open_pool(dsn, size=4) as pool:
            async with AsyncExitStack() as held:
                for _ in range(3):
                    await held.enter_async_context(others.acquire())
                assert await pool.fetchval("SELECT 1") == 1
                found = await asyncio.gather(*(pool.fetchval("SELECT $1::int", number) for number in range(20)))
                assert found == list(range(20))
                assert pool._connections.get_size() == 1
            await others.close()
            while pool._connections.get_size() < 4:
                await asyncio.gather(*(pool.fetchval("SELECT pg_sleep(0.01)") for _ in range(8)))


async def test_a_database_behind_a_pooler_without_room_is_still_found_to_be_away(folder: Path) -> None:
    """The pooler's refusal alone doesn't show that the database is up."""
    (folder / "pooler").mkdir()
    with Postgres(folder) as postgres, pooled(postgres.dsn, folder / "pooler", clients=3) as dsn:
        async with started(folder, dsn, DATABASE_TIMEOUT="1", DATABASE_URL_DIRECT=postgres.dsn) as (serving, client):
            answers = await asyncio.gather(*(client.get(TASKS) for _ in range(20)))
            assert {answer.status_code for answer in answers} == {200}
            postgres.kill()
            while not any("database down" in line for line in serving.errors):
                answers = await asyncio.gather(*(client.get(TASKS) for _ in range(8)))
                assert {answer.status_code for answer in answers} == {503}
            await asyncio.to_thread(postgres.start)
            while (await client.get(TASKS)).status_code != 200:
                await asyncio.sleep(0.05)
