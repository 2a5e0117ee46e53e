"""The service as it runs in production: `daybook serve` in a process of its own."""

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
    """A response wasn't 2xx, or the service didn't start, or ended early."""


@dataclass(frozen=True, slots=True)
class Service:
    """A running service. `pid` is the process that was started; with one worker, it is the one that serves requests."""

    pid: int
    port: int
    secret: str

    def get(self, path: str, *, user: str = "", buffer: int | None = None) -> http.client.HTTPResponse:
        """Send a GET on a connection of its own, and return the response before its body is read. Raises `Refused`.

        `buffer` limits the bytes that the kernel receives ahead, so that the service notices a slow reader.
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
    """Run a service on this database, and yield it once it is ready. Raises `Refused`.

    Its output goes to `service.log` in `folder`. `settings` are further environment variables.
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
    """Run a command that serves on a port, and yield it once a GET of the path `ready` succeeds. Raises `Refused`.

    `folder` is its working directory, and must not have an `.env`.
    """
    with (folder / "service.log").open("w+") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # keeps Ctrl-C to the benchmark
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
    """Return a port that is free now."""
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
