"""The service as it runs in production: `daybook serve`, a process of its own."""

import http.client
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt

_ROOT = Path(__file__).parents[1]
_STARTUP_SECONDS = 60
_RESPONSE_SECONDS = 60


class Refused(Exception):
    """The service's answer wasn't a 2xx, or it didn't start."""


@dataclass(frozen=True, slots=True)
class Service:
    """With one worker, the server runs in the process that was started: `pid` is the one to watch."""

    pid: int
    port: int
    secret: str

    def get(self, path: str, *, user: str = "", buffer: int | None = None) -> http.client.HTTPResponse:
        """The answer, its body still to be read, on a connection of its own. Raises `Refused`.

        `buffer` bytes are taken in by the kernel at most, so that the service notices a slow reader.
        """
        headers = {"Connection": "close"}
        if user:
            claims = {"sub": user, "exp": datetime.now(UTC) + timedelta(hours=1)}
            headers["Authorization"] = f"Bearer {jwt.encode(claims, self.secret, algorithm='HS256')}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_RESPONSE_SECONDS)
        if buffer:
            connection.sock = socket.socket()
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            connection.sock.settimeout(_RESPONSE_SECONDS)
            connection.sock.connect(("127.0.0.1", self.port))
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        if not 200 <= response.status < 300:
            raise Refused(f"GET {path}: {response.status}\n{response.read().decode(errors='replace')}")
        return response


@contextmanager
def serving(
    dsn: str,
    folder: Path,
    *,
    secret: str | None = None,
    workers: int = 1,
    module: str = "cli",
    settings: Mapping[str, str] | None = None,
) -> Iterator[Service]:
    """A service on this database, ready to answer; what it prints is kept in `folder`. Raises `Refused`.

    `settings` are variables that it has beside those of all benchmarks.
    """
    secret = secret or secrets.token_urlsafe(48)
    port = free_port()
    variables = {
        "ENVIRONMENT": "production",
        "MALLOC_MMAP_THRESHOLD_": "1048576",  # as in the Dockerfile
        "MALLOC_TRIM_THRESHOLD_": "4194304",
        "LOG_LEVEL": "WARNING",
        "DATABASE_URL": dsn,
        "JWT_SECRET": secret,
        "DAYBOOK_DATA_DIR": str(folder),
        "PYTHONPATH": str(_ROOT),
        **(settings or {}),
    }
    command = [sys.executable, "-m", module, "serve", "--port", str(port), "--workers", str(workers)]
    with started(command, Service(0, port, secret), variables, folder, ready="/readyz") as service:
        yield service


@contextmanager
def started(
    command: Sequence[str], service: Service, variables: Mapping[str, str], folder: Path, *, ready: str
) -> Iterator[Service]:
    """Whatever serves on the port, once it answers this path; `folder` has no .env. Raises `Refused`."""
    with (folder / "service.log").open("w+") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for us
        )
        service = replace(service, pid=process.pid)
        try:
            _wait(service, process, log.name, ready)
            yield service
            if process.poll() is not None:
                raise Refused(f"the service ended with status {process.returncode}\n{Path(log.name).read_text()}")
        finally:
            process.terminate()
            process.wait(_STARTUP_SECONDS)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(service: Service, process: "subprocess.Popen[bytes]", log: str, ready: str) -> None:
    deadline = time.monotonic() + _STARTUP_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            service.get(ready).read()
        except (OSError, Refused):
            time.sleep(0.05)
        else:
            return
    raise Refused(f"the service doesn't start\n{Path(log).read_text()}")
