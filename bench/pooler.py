"""PgBouncer in transaction mode, between a service and its database."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.wrk import Failed
from db.dsn import connect_arguments

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
_PORT = 6432
"""Port in the socket's name; it isn't opened on the network."""
_START_SECONDS = 30


@contextmanager
def pooled(dsn: str, folder: Path, connections: int) -> Iterator[str]:
    """Run PgBouncer with this number of server connections, and yield the DSN of the database through it.

    Like Postgres it is reached by a Unix socket and without TLS, so that a difference is the pooler's. Raises `Failed`
    if it doesn't start.
    """
    assert PGBOUNCER is not None  # noqa: S101 - the caller checks it
    arguments = connect_arguments(dsn)
    settings = folder / "pgbouncer.ini"
    settings.write_text(f"""
[databases]
* = host={arguments["host"]} port={arguments["port"]} user={arguments["user"]}
[pgbouncer]
listen_port = {_PORT}
unix_socket_dir = {folder}
auth_type = any
pool_mode = transaction
default_pool_size = {connections}
""")
    # As root it refuses to run; to another account, the server's socket is closed.
    account = Path(arguments["host"]).stat().st_uid if os.geteuid() == 0 else None
    if account is not None:
        os.chown(folder, account, -1)
    process = subprocess.Popen([PGBOUNCER, "-q", str(settings)], user=account, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not (folder / f".s.PGSQL.{_PORT}").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise Failed("PgBouncer doesn't start")
            time.sleep(0.05)
        yield (f"postgresql://{arguments['user']}@/{arguments['database']}?host={folder}&port={_PORT}&pgbouncer=true")
    finally:
        process.terminate()
        process.wait(_START_SECONDS)
