"""A Citus cluster for the tests, and databases of the same name on each of its servers."""

import asyncio
import os
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from db.dsn import connect_arguments
from db.migrate import migrate

URL = os.environ.get("DAYBOOK_TEST_CITUS_URL")
"""A database on the coordinator that has the extension and knows the workers, as a superuser."""

EMPTY = f"daybook_cluster_{os.environ.get('PYTEST_XDIST_WORKER', 'all')}"
"""Template of databases without a schema: it has the extension, and knows the workers."""
_SHARDS = 4

_WORKERS = """
SELECT nodename, nodeport FROM pg_dist_node
WHERE groupid <> 0 AND noderole = 'primary' AND isactive ORDER BY nodeid
"""


async def servers(dsn: str) -> list[str]:
    """Return the addresses of this database on the coordinator, then on each worker."""
    assert URL is not None
    [rows] = await execute_all([URL], _WORKERS)
    url = urlsplit(dsn)
    login = url.netloc.rpartition("@")[0]
    return [dsn, *(urlunsplit(url._replace(netloc=f"{login}@{host}:{port}")) for host, port in rows)]


async def execute_all(dsns: list[str], *statements: str) -> list[list[asyncpg.Record]]:
    """Run statements one by one, on all servers at once; return the rows of the last one."""

    async def execute(dsn: str) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(**connect_arguments(dsn))
        try:
            rows: list[list[asyncpg.Record]] = [await connection.fetch(statement) for statement in statements]
            return rows[-1]
        finally:
            await connection.close()

    return list(await asyncio.gather(*map(execute, dsns)))


async def make(dsn: str, name: str, options: str) -> None:
    """Make a database on each server. `options` are of CREATE DATABASE."""
    await execute_all(await servers(dsn), f"CREATE DATABASE {name} {options or f'TEMPLATE {EMPTY} STRATEGY FILE_COPY'}")
    await execute_all([dsn], f"ALTER DATABASE {name} SET citus.shard_count = {_SHARDS}")


async def drop(dsn: str, name: str) -> None:
    """Drop a database on each server."""
    for attempt in range(5):
        try:
            await execute_all(await servers(dsn), f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        except asyncpg.ObjectInUseError:  # Citus's own process has come back
            if attempt == 4:
                raise


async def _freeze(dsn: str, name: str) -> None:
    """Let nobody connect to a template: while somebody is, nothing can be made from it."""
    await execute_all(
        await servers(dsn),
        f"ALTER DATABASE {name} ALLOW_CONNECTIONS false",
        f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'",
    )


def make_templates(dsn: str, template: str) -> None:
    """Make the template of empty databases, and the one of databases with the present schema."""

    def named(dsn: str, name: str) -> str:
        return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))

    async def make_empty() -> None:
        for name in (template, EMPTY):
            await drop(dsn, name)
        everywhere = await servers(dsn)
        await execute_all(everywhere, f"CREATE DATABASE {EMPTY} TEMPLATE template0")
        await execute_all([named(each, EMPTY) for each in everywhere], "CREATE EXTENSION citus")
        first, *workers = [connect_arguments(each) for each in everywhere]
        if workers:
            known = [f"SELECT citus_add_node('{each['host']}', {each['port']})" for each in workers]
        else:
            known = ["SELECT citus_set_node_property(nodename, nodeport, 'shouldhaveshards', true) FROM pg_dist_node"]
        coordinator = f"SELECT citus_set_coordinator_host('{first['host']}', {first['port']})"
        await execute_all([named(dsn, EMPTY)], coordinator, *known)
        await _freeze(dsn, EMPTY)
        await make(dsn, template, "")

    asyncio.run(make_empty())
    migrate(named(dsn, template), sharded=True)
    asyncio.run(_freeze(dsn, template))


def drop_templates(dsn: str, template: str) -> None:
    """Drop what `make_templates` made."""

    async def drop_both() -> None:
        for name in (template, EMPTY):
            await drop(dsn, name)

    asyncio.run(drop_both())
