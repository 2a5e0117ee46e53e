"""PgBouncer in transaction mode, with TLS, between the service and a database."""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from db.dsn import connect_arguments
from tests.certificates import Authority
from tests.processes import free_port

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


@contextmanager
def pooled(dsn: str, folder: Path, *, connections: int = 2, clients: int = 1000, told: bool = True) -> Iterator[str]:
    """Yield the DSN of the same database through a pooler, with so many server connections, fewer than the service's.

    The pooler takes connections from so many clients, and refuses more.

    It knows nothing of prepared statements. With `told`, the DSN says that it is there.
    """
    assert PGBOUNCER is not None
    tracks_statements = _version() >= (1, 21)
    arguments, port = connect_arguments(dsn), free_port()
    authority = Authority.made(folder)
    certificate, key = authority.certificate("127.0.0.1")
    password = f"password={arguments['password']}" if arguments["password"] else ""
    settings = folder / "pgbouncer.ini"
    settings.write_text(f"""
[databases]
* = host={arguments["host"]} port={arguments["port"]} user={arguments["user"]} {password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {connections}
max_client_conn = {clients}
server_idle_timeout = 10
server_login_retry = 1
{"max_prepared_statements = 0" if tracks_statements else ""}
client_tls_sslmode = require
client_tls_cert_file = {certificate}
client_tls_key_file = {key}
""")
    # As root it refuses to run; as another user, the server's socket may be closed to it.
    account = Path(arguments["host"]).stat().st_uid if arguments["host"].startswith("/") else 65534
    if os.geteuid() == 0:
        for each in (folder, key):
            os.chown(each, account, -1)
    process = subprocess.Popen(
        [PGBOUNCER, "-q", str(settings)], user=account if os.geteuid() == 0 else None, stderr=subprocess.DEVNULL
    )
    try:
        while process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield (
            f"postgresql://{arguments['user']}@127.0.0.1:{port}/{arguments['database']}"
            f"?{'pgbouncer=true&' if told else ''}sslmode=verify-full&sslrootcert={authority.file}"
        )
    finally:
        process.terminate()
        process.wait(30)


def _version() -> tuple[int, ...]:
    assert PGBOUNCER is not None
    said = subprocess.run([PGBOUNCER, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+)\.(\d+)", said)
    assert found, said
    return tuple(map(int, found.groups()))
