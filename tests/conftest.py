"""A real Postgres for the whole run, and a database for each test that asks for one."""

import asyncio
import gc
import os
import shutil
import signal
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import hypothesis
import pytest
from coverage import Coverage

from db import migrate as migrating
from db.dsn import connect_arguments
from db.embedded import running
from db.migrate import migrate
from db.pool import Pool, open_pool
from tests import citus
from tests import service as service_module
from tests.pooler import pooled
from tests.service import SHARDED, Service, serving

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free > 2**31 else None  # noqa: S108
"""Where databases lie, if such a place is there: to make one takes a thirtieth of the time that it takes on a disk."""

IMAGE = os.environ.get("DAYBOOK_TEST_IMAGE", "postgres:18-alpine")
TEMPLATE = f"daybook_template_{os.environ.get('PYTEST_XDIST_WORKER', 'all')}"
PARTITIONS = 0 if citus.URL else 4
"""Partitions of each table in a test's database, as a release makes it."""
FROM_TEMPLATE = f"TEMPLATE {TEMPLATE} STRATEGY FILE_COPY"


# No test is timed, by Hypothesis either: a busy machine would fail it.
hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("untimed")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A script that starts the suite in the background has Ctrl-C ignored, also by every process that the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _docker_answers() -> bool:
    import docker  # type: ignore[import-untyped]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the client leaves its socket open where no engine answers
        try:
            docker.from_env(timeout=5).close()
        except docker.errors.DockerException:
            return False
        finally:
            gc.collect()
    return True


def _kind() -> str:
    if citus.URL:
        return "Citus, DAYBOOK_TEST_CITUS_URL"
    if os.environ.get("DAYBOOK_TEST_DATABASE_URL"):
        return "DAYBOOK_TEST_DATABASE_URL"
    return f"testcontainers ({IMAGE})" if _docker_answers() else "the embedded one"


KIND = _kind()


POOLED = bool(os.environ.get("DAYBOOK_TEST_POOLED"))
"""Whether the service gets to it through PgBouncer."""


def pytest_report_header() -> str:
    how = ", the service through PgBouncer" * POOLED + ", as if it were sharded" * (SHARDED and not citus.URL)
    return f"postgres: {KIND}{how}"


needs_citus = pytest.mark.skipif(citus.URL is None, reason="needs a Citus cluster: DAYBOOK_TEST_CITUS_URL")
on_plain_postgres = pytest.mark.skipif(citus.URL is not None, reason="about a Postgres that is no Citus cluster")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "server" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.integration)
        if "api" in item.path.parts:
            item.add_marker(pytest.mark.api)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Leave a test that is marked `unmeasured`, and the processes that it starts, out of the coverage."""
    coverage = Coverage.current()
    if coverage is None or not item.get_closest_marker("unmeasured"):
        return (yield)
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in [name for name in os.environ if name.startswith("COVERAGE_PROCESS_")]:
            monkeypatch.delenv(name)
        coverage.stop()
        try:
            return (yield)
        finally:
            coverage.start()


@contextmanager
def _started() -> Iterator[str]:
    if url := citus.URL or os.environ.get("DAYBOOK_TEST_DATABASE_URL"):
        yield url
    elif KIND.startswith("testcontainers"):
        from testcontainers.community.postgres import PostgresContainer

        container = PostgresContainer(IMAGE, driver=None).with_command("postgres -c fsync=off")
        with container.with_env("PGDATA", "/memory/data").with_tmpfs_mount("/memory"):
            yield container.get_connection_url()
    else:
        with (
            TemporaryDirectory(prefix="daybook-tests-", dir=MEMORY) as folder,
            running(Path(folder), settings={"fsync": "off", "max_connections": "200"}) as dsn,
        ):
            yield dsn


async def execute(dsn: str, *statements: str) -> None:
    """Run statements one by one, each in its own transaction."""
    connection = await asyncpg.connect(**connect_arguments(dsn))
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def let_the_log_change(dsn: str) -> None:
    """Turn off the triggers that keep the log append-only, on each partition or shard."""
    await _alter_the_log(dsn, "DISABLE TRIGGER USER")


async def keep_the_log(dsn: str) -> None:
    """Turn these triggers on again."""
    for trigger in ("append_only", "append_only_but_erasure"):
        await _alter_the_log(dsn, f"ENABLE ALWAYS TRIGGER {trigger}")


async def _alter_the_log(dsn: str, change: str) -> None:
    if citus.URL:
        await execute(dsn, f"SELECT run_command_on_shards('events', 'ALTER TABLE %s {change}')")
    else:
        tables = ("events", *(f"events_p{number:02}" for number in range(PARTITIONS)))
        await execute(dsn, *(f"ALTER TABLE {table} {change}" for table in tables))


def named(dsn: str, database: str) -> str:
    """Return the DSN of another database on the same server."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{database}"))


def _name(dsn: str) -> str:
    return urlsplit(dsn).path.removeprefix("/")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if citus.URL and "server" in request.fixturenames:
        monkeypatch.setenv("DATABASE_SHARDED", "true")  # of the processes that a test starts
    for name in tuple(os.environ):
        if name.startswith(
            ("JWT_", "AUDITOR_", "BETTER_AUTH_", "CORS_", "DATABASE_URL", "LOG_", "DAYBOOK_DATA")
        ) or name in (
            "ENVIRONMENT",
            "FORWARDED_ALLOW_IPS",
            "ROOT_PATH",
            "WEB",
            "WEB_LOGIN_URL",
        ):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """Yield the DSN of a running server, as its owner; it holds an up-to-date template database."""
    with ExitStack() as stack:
        dsn = stack.enter_context(_started())
        if citus.URL:
            stack.callback(citus.drop_templates, dsn, TEMPLATE)
            citus.make_templates(dsn, TEMPLATE)
        else:
            asyncio.run(execute(dsn, f"DROP DATABASE IF EXISTS {TEMPLATE}", f"CREATE DATABASE {TEMPLATE}"))
            stack.callback(lambda: asyncio.run(execute(dsn, f"DROP DATABASE {TEMPLATE}")))
            migrate(named(dsn, TEMPLATE))
        if POOLED:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="daybook-tests-", dir=MEMORY)))
            by_way = stack.enter_context(pooled(dsn, folder, connections=5))
            service_module.through = lambda to: (
                named(by_way, _name(to)) if urlsplit(to).netloc == urlsplit(dsn).netloc else to
            )
        yield dsn


@asynccontextmanager
async def new_database(server: str, options: str = "") -> AsyncIterator[str]:
    """Yield the DSN of a database that is dropped afterwards; `options` are of CREATE DATABASE."""
    name = f"test_{uuid4().hex}"
    if citus.URL:
        await citus.make(server, name, options)
    else:
        await execute(server, f"CREATE DATABASE {name} {options}")
    yield named(server, name)
    if citus.URL:
        await citus.drop(server, name)
    else:
        await execute(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def unsharded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have processes migrate without distribution, unless the server is a Citus cluster."""
    if not citus.URL:
        monkeypatch.delenv("DATABASE_SHARDED", raising=False)


@pytest.fixture
async def empty_database(server: str, unsharded: None) -> AsyncIterator[str]:  # noqa: ARG001
    """Yield the DSN of a new database without a schema."""
    async with new_database(server) as dsn:
        yield dsn


@pytest.fixture
async def database(server: str) -> AsyncIterator[str]:
    """Yield the DSN of a new database with the present schema."""
    async with new_database(server, FROM_TEMPLATE) as dsn:
        yield dsn


@pytest.fixture(scope="module")
def unchanged_database(server: str) -> Iterator[str]:
    """Yield the DSN of a database for all tests of a module that write nothing."""
    with asyncio.Runner() as runner:
        made = new_database(server, FROM_TEMPLATE)
        yield runner.run(made.__aenter__())
        runner.run(made.__aexit__(None, None, None))


@pytest.fixture
def folder() -> Iterator[Path]:
    """Yield a new folder with a path short enough for a socket."""
    with TemporaryDirectory(prefix="daybook-tests-", dir=MEMORY) as folder:
        yield Path(folder)


@pytest.fixture
def migrations(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy the migrations for `migrate` of this process to apply; return the copy."""
    copy = folder / "migrations"
    shutil.copytree(migrating._MIGRATIONS, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(migrating, "_MIGRATIONS", copy)
    return copy


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with open_pool(database, sharded=SHARDED) as pool:
        yield pool


@pytest.fixture
async def other(database: str) -> AsyncIterator[asyncpg.Connection]:
    """Yield another session on the test's own database, to hold locks or to observe."""
    connection = await asyncpg.connect(**connect_arguments(database))
    yield connection
    await connection.close()


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """Yield an event loop of the test's own."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
async def service(database: str) -> AsyncIterator[Service]:
    """Yield the whole app on a database of its own, with a client for the user `ann`."""
    async with serving(database) as service:
        yield service
