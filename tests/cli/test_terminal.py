"""The `daybook` command, as a process of its own."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import jwt
import pytest

from tests.integration.test_embedded import ask, servers

DAYBOOK = [sys.executable, "-m", "cli.main"]


def run(folder: Path, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*DAYBOOK, *arguments],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Serving:
    """`daybook serve` in a session of its own, as a terminal would run it."""

    def __init__(self, folder: Path, *arguments: str, **variables: str) -> None:
        self.port = free_port()
        self.process = subprocess.Popen(
            [*DAYBOOK, "serve", "--port", str(self.port), *arguments],
            cwd=folder,
            env={**os.environ, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.errors: list[str] = []
        self._reader = threading.Thread(target=self._read_errors)
        self._reader.start()

    def _read_errors(self) -> None:
        assert self.process.stderr
        self.errors.extend(self.process.stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:  # a test that failed
            os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(30)
        self._reader.join()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe
            pipe.close()

    def greeting(self, end: str = "Authorization") -> str:
        """What it prints once it is up; by default to the last line of the command to paste."""
        assert self.process.stdout
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if end in line:
                break
        return "".join(lines)

    def stop(self, sign: signal.Signals = signal.SIGINT) -> int:
        """To the whole group, as Ctrl-C does; the exit status."""
        os.killpg(self.process.pid, sign)
        return self.process.wait(30)


def call(
    port: int, token: str, method: str = "GET", body: Any = None, headers: Mapping[str, str] = MappingProxyType({})
) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/demo/tasks",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json", **headers},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_serve_greets_serves_stops_and_keeps_its_data(folder: Path, sign: signal.Signals) -> None:
    with Serving(folder) as serving:
        greeting = serving.greeting()
        assert f"http://127.0.0.1:{serving.port}" in greeting
        curl = greeting[greeting.index("curl -sw") :]
        pasted = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, check=True, timeout=20)
        task = json.loads(pasted.stdout)
        assert (task["user_id"], task["title"]) == ("demo", "Buy milk")

        second = run(folder, "serve", "--port", str(free_port()))
        assert second.returncode == 2
        assert f"already running with the data in {folder}/.daybook: http://127.0.0.1:{serving.port}" in second.stderr
        assert str(serving.process.pid) in second.stderr
        assert serving.stop(sign) == 0
        assert servers(folder / ".daybook") == []
    assert "Traceback" not in "".join(serving.errors)

    with Serving(folder) as again:
        again.greeting()
        token = run(folder, "token", "demo").stdout.strip()
        assert call(again.port, token) == [task]
        assert again.stop(sign) == 0
    assert servers(folder / ".daybook") == []


def test_workers_share_the_database_and_the_secret(folder: Path) -> None:
    with Serving(folder, "--workers", "2") as serving:
        serving.greeting()
        token = run(folder, "token", "demo").stdout.strip()
        for n in range(10):
            call(serving.port, token, "POST", {"title": str(n)})
        assert len(call(serving.port, token)) == 10
        assert serving.stop() == 0
    assert servers(folder / ".daybook") == []


def test_a_port_in_use_is_named(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run(folder, "serve", "--port", str(port))
    assert result.returncode == 2
    assert f"127.0.0.1:{port}" in result.stderr
    assert "--port" in result.stderr
    assert servers(folder / ".daybook") == []


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"DATABASE_URL": "postgresql://nobody:hunter2@/nowhere?host=/tmp"}, "can't be reached"),
        ({"ENVIRONMENT": "production"}, "DATABASE_URL"),
        ({"JWT_SECRET": "short"}, "JWT_SECRET"),
        ({"DATABASE_URL": "mysql://x"}, "DATABASE_URL or DATABASE_URL_DIRECT: it must start with postgresql://"),
        ({"DAYBOOK_DATA_DIR": "/proc/nowhere"}, "DAYBOOK_DATA_DIR: /proc/nowhere can't be made"),
        ({"DATABASE_URL": "postgresql://ann:hunter2@127.0.0.1:1/d"}, "can't be reached"),
    ],
)
def test_what_cannot_start_says_why_and_exits_with_2(folder: Path, variables: dict[str, str], says: str) -> None:
    for command in ("serve", "migrate"):
        result = run(folder, command, **variables)
        assert (command, result.returncode) == (command, 2)
        assert says in result.stderr
        assert "Traceback" not in result.stderr
        assert "hunter2" not in result.stderr


def test_serve_on_a_configured_database_migrates_it_unless_told_not_to(empty_database: str, folder: Path) -> None:
    with Serving(folder, "--no-migrate", DATABASE_URL=empty_database) as without:
        without.greeting()
        with pytest.raises(urllib.error.HTTPError) as raised:
            urllib.request.urlopen(f"http://127.0.0.1:{without.port}/readyz", timeout=5)
        assert raised.value.code == 503
        raised.value.close()
        assert without.stop(signal.SIGTERM) == 0
    with Serving(folder, DATABASE_URL=empty_database) as serving:
        token = re.search(r"Bearer (\S+)'", serving.greeting())
        assert token
        assert call(serving.port, token[1]) == []
        assert serving.stop(signal.SIGTERM) == 0
    assert not (folder / ".daybook" / "postgres").exists()


@pytest.mark.parametrize(
    ("variables", "recorded"),
    [({}, "127.0.0.1"), ({"FORWARDED_ALLOW_IPS": "127.0.0.1"}, "203.0.113.9")],
)
def test_a_forwarded_address_is_believed_only_from_a_proxy_that_is_named(
    empty_database: str, folder: Path, variables: dict[str, str], recorded: str
) -> None:
    with Serving(folder, DATABASE_URL=empty_database, **variables) as serving:
        token = re.search(r"Bearer (\S+)'", serving.greeting())
        assert token
        call(serving.port, token[1], "POST", {"title": "x"}, {"X-Forwarded-For": "203.0.113.9"})
        assert serving.stop() == 0
    assert ask(empty_database, "SELECT client_address FROM events") == recorded


def test_with_an_issuer_there_is_no_token_to_give_away_and_hostile_requests_are_bounded(
    empty_database: str, folder: Path
) -> None:
    issuer = f"http://127.0.0.1:{free_port()}"  # where nobody is, so far
    with Serving(folder, DATABASE_URL=empty_database, BETTER_AUTH_URL=issuer) as serving:
        greeting = serving.greeting("keys are at")
        assert f"{issuer}/api/auth/jwks" in greeting
        assert "Authorization" not in greeting
        token = run(folder, "token", "demo", BETTER_AUTH_URL=issuer)
        assert (token.returncode, token.stdout) == (2, "")
        assert "JWT_SECRET: isn't set" in token.stderr
        with socket.create_connection(("127.0.0.1", serving.port), timeout=10) as connection:
            connection.sendall(b"nonsense\r\n\r\n")
            assert b"application/problem+json" in connection.makefile("rb").read()
        with socket.create_connection(("127.0.0.1", serving.port), timeout=10) as connection:
            upgrade = (
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA=="
            )
            connection.sendall(f"GET /livez HTTP/1.1\r\nHost: x\r\n{upgrade}\r\n\r\n".encode())
            assert connection.recv(12) == b"HTTP/1.1 200"  # there is nothing to upgrade to
        assert serving.stop() == 0
    assert any("JWKS can't be fetched" in line for line in serving.errors)


def test_migrate_says_what_it_did(folder: Path) -> None:
    assert run(folder, "migrate").stdout == "Applied 0001.\n"
    assert run(folder, "migrate").stdout == "The schema is up to date.\n"
    assert servers(folder / ".daybook") == []


def test_migrate_refuses_a_newer_schema(database: str, folder: Path) -> None:
    import asyncio

    from tests.conftest import execute

    asyncio.run(execute(database, "UPDATE alembic_version SET version_num = '9999'"))
    for command in ("migrate", "serve"):
        result = run(folder, command, DATABASE_URL=database)
        assert result.returncode == 2
        assert "newer release" in result.stderr


def test_a_token_holds_as_long_as_asked_and_carries_what_is_configured(folder: Path) -> None:
    secret = "s" * 32
    result = run(
        folder, "token", "ann", "--ttl", "30m",
        JWT_SECRET=secret, JWT_ISSUER="https://i", JWT_AUDIENCE="a", JWT_USER_CLAIM="user.id",
    )  # fmt: skip
    claims = jwt.decode(result.stdout.strip(), secret, algorithms=["HS256"], issuer="https://i", audience="a")
    assert claims["user"] == {"id": "ann"}
    assert claims["exp"] - claims["iat"] == 1800


@pytest.mark.parametrize("ttl", ["", "1", "h", "-1h", "0h", "1y", "1.5h"])
def test_a_time_that_cannot_be_read_is_refused(folder: Path, ttl: str) -> None:
    result = run(folder, "token", "ann", "--ttl", ttl)
    assert result.returncode == 2
    assert "30m" in result.stderr


@pytest.mark.parametrize("user", ["", "a/b", "u" * 256])
def test_a_token_is_not_signed_for_what_names_no_user(folder: Path, user: str) -> None:
    result = run(folder, "token", user)
    assert result.returncode == 2
    assert "1 to 255 characters" in result.stderr


@pytest.mark.parametrize("delay", [0.5, 0.7, 0.9, 1.1, 1.3])
def test_a_start_that_is_interrupted_leaves_nothing_running(folder: Path, delay: float) -> None:
    run(folder, "migrate")
    with Serving(folder) as serving:
        time.sleep(delay)
        for _ in range(2):
            os.killpg(serving.process.pid, signal.SIGINT)
            time.sleep(0.05)
        serving.process.wait(30)
    assert servers(folder / ".daybook") == []


def test_a_closed_terminal_stops_everything(folder: Path) -> None:
    with Serving(folder) as serving:
        serving.greeting()
        assert serving.stop(signal.SIGHUP) == 0
    assert servers(folder / ".daybook") == []


def test_a_database_that_died_does_not_keep_the_service_from_stopping(folder: Path) -> None:
    with Serving(folder) as serving:
        serving.greeting()
        pid = int((folder / ".daybook/postgres/postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        while servers(folder / ".daybook"):
            time.sleep(0.05)
        time.sleep(1)
        assert serving.stop() == 0


def test_help_names_every_command(folder: Path) -> None:
    text = run(folder, "--help").stdout
    for command in ("serve", "migrate", "token"):
        assert command in text
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", run(folder, "--version").stdout)
