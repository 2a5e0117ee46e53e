"""Anything that prevents a start is reported in one sentence that names a variable or a file, with exit status 2."""

import os
import re
import shlex
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
from starlette.types import Message

from api.app import create_app
from config.errors import BadSettings
from tests.exports import LOG, lines
from tests.processes import DAYBOOK, Serving, free_port, run
from tests.service import SECRET, settings

pytestmark = pytest.mark.once

ISSUER = {"BETTER_AUTH_URL": "https://127.0.0.1:1"}


def told(result: "subprocess.CompletedProcess[str]") -> str:
    """Return the one sentence that the command ended with."""
    assert (result.returncode, result.stdout, result.stderr.count("daybook: ")) == (2, "", 1), result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr.partition("daybook: ")[2]


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"ALL_PROXY": "socks5://127.0.0.1:9"}, "ALL_PROXY: a SOCKS proxy can't be used; set HTTPS_PROXY=http://"),
        ({"https_proxy": "socks4://127.0.0.1:9"}, "https_proxy: is no proxy that can be used"),
        ({"HTTP_PROXY": "nonsense:::"}, "HTTP_PROXY: is no proxy that can be used; write http://host:port"),
        ({"HTTPS_PROXY": "http://"}, "HTTPS_PROXY: is no proxy that can be used"),
        ({"HTTPS_PROXY": "http://127.0.0.1:99999"}, "HTTPS_PROXY: is no proxy that can be used"),
        ({"SSL_CERT_FILE": "nowhere.pem"}, "SSL_CERT_FILE: nowhere.pem can't be read as certificates: No such file"),
        ({"SSL_CERT_FILE": "/etc/passwd"}, "SSL_CERT_FILE: /etc/passwd can't be read as certificates: it holds none"),
        ({"SSL_CERT_FILE": "", "SSL_CERT_DIR": "nowhere"}, "SSL_CERT_DIR: nowhere is no folder"),
        ({"SSLKEYLOGFILE": "nowhere/log"}, "SSLKEYLOGFILE: nowhere/log can't be written: No such file"),
        ({"OTEL_PROPAGATORS": "pigeon"}, "OTEL_PROPAGATORS: Propagator pigeon not found"),
    ],
)
def test_an_obstacle_to_reading_an_issuers_keys_is_named(
    unchanged_database: str, folder: Path, variables: dict[str, str], says: str
) -> None:
    environment = {"DATABASE_URL": unchanged_database, "NO_PROXY": "", "no_proxy": "", **ISSUER, **variables}
    workers = "2" if "ALL_PROXY" in variables or "OTEL_PROPAGATORS" in variables else "1"
    result = run(folder, "serve", "--port", str(free_port()), "--workers", workers, **environment)
    assert told(result).startswith(says)


def test_a_proxy_is_nothing_to_one_who_reads_no_keys_through_it(unchanged_database: str, folder: Path) -> None:
    proxy = {"ALL_PROXY": "socks5://127.0.0.1:9", "SSL_CERT_FILE": "nowhere.pem"}
    for issuer in ({"JWT_SECRET": SECRET}, {"BETTER_AUTH_URL": "http://127.0.0.1:1"}):
        with Serving(folder, "--no-migrate", DATABASE_URL=unchanged_database, **proxy, **issuer) as serving:
            serving.wait_until_ready()
            assert serving.stop() == 0


@pytest.mark.parametrize("content", [b"LOG_LEVEL=loud\n", b"LOG_LEVEL=\xff\n"])
def test_one_worker_that_cannot_start_ends_all_and_says_why(
    unchanged_database: str, folder: Path, content: bytes
) -> None:
    """The supervisor and each worker read the settings, and here they get different ones."""
    pipe = folder / ".env"
    os.mkfifo(pipe)
    variables = {"DATABASE_URL": unchanged_database, "JWT_SECRET": SECRET}
    with Serving(folder, "--workers", "2", "--no-migrate", **variables) as serving:
        pipe.write_bytes(b"LOG_LEVEL=INFO\n")
        while not any("starting" in line for line in serving.errors):
            time.sleep(0.01)
        while serving.process.poll() is None:
            with suppress(OSError):  # nobody reads just now
                writing = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
                os.write(writing, content)
                os.close(writing)
            time.sleep(0.01)
        assert serving.process.returncode == 2
    said = "".join(serving.errors)
    assert "Traceback" not in said
    assert re.search(r"^daybook: (LOG_LEVEL: Input should be|\.env: line 1 isn't UTF-8)", said, re.MULTILINE)
    assert said.endswith("daybook: The service couldn't start; the line above says why.\n")


async def test_a_lifespan_that_fails_hands_the_server_a_sentence(
    unchanged_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[Message] = []

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        said.append(message)

    app = create_app(settings(unchanged_database, better_auth_url="https://127.0.0.1:1"))
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    with pytest.raises(BadSettings):
        await app({"type": "lifespan", "state": {}}, receive, send)
    assert [message["type"] for message in said] == ["lifespan.startup.failed"]
    assert said[0]["message"].startswith("can't start: ALL_PROXY: a SOCKS proxy can't be used;")
    monkeypatch.delenv("ALL_PROXY")
    with pytest.raises(RuntimeError):
        await app({"type": "lifespan"}, receive, send)  # a server without `state`
    assert "Traceback" in said[1]["message"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("LOG_LEVEL=INFO\n".encode("utf-16"), ".env: is UTF-16, or no text; save it as UTF-8"),
        ("LOG_LEVEL=INFO\n".encode("utf-16-le"), ".env: is UTF-16, or no text"),
        (b"LOG_LEVEL=INFO\nJWT_ISSUER=M\xfcller\n", ".env: line 2 isn't UTF-8"),
        (b"LOG_LEVEL=INFO\nENVIRONMENT: production\n", ".env: line 2 can't be read; write NAME=value"),
        (b"JWT_SECRET='" + SECRET.encode(), ".env: line 1 can't be read"),
    ],
)
def test_a_broken_env_file_stops_a_command(folder: Path, content: bytes, says: str) -> None:
    (folder / ".env").write_bytes(content)
    assert told(run(folder, "token", "ann")).startswith(says)


@pytest.mark.parametrize("command", ["serve", "migrate", "verify", "rebuild"])
def test_a_broken_env_file_stops_every_other_command_too(folder: Path, command: str) -> None:
    (folder / ".env").write_bytes(b"\xff")
    assert told(run(folder, command)).startswith(".env: line 1 isn't UTF-8")


def test_an_env_file_that_cannot_be_opened_stops_a_command(folder: Path) -> None:
    file = folder / ".env"
    file.mkdir()
    assert told(run(folder, "token", "ann")).startswith(".env: is a folder, not a file")
    file.rmdir()
    for target, says in (
        ("nowhere", "is a link to what isn't there"),
        (".env", "is a link to what isn't there"),
        ("/proc/self/mem", "can't be read: Input/output error"),
    ):
        file.symlink_to(target)
        assert told(run(folder, "token", "ann")).startswith(f".env: {says}")
        file.unlink()


def test_an_export_is_verified_whatever_the_env_file_holds(folder: Path) -> None:
    (folder / ".env").write_bytes(b"\xff\xfe")
    (folder / "log.ndjson").write_bytes(lines(LOG))
    assert run(folder, "verify", "--export", "log.ndjson").returncode == 0


WRITING = ["token ann", "verify --json", "--help"]
"""Commands that write by themselves, as results, and by Typer."""


def shell(folder: Path, command: str, database: str, **more: str) -> "subprocess.CompletedProcess[str]":
    """Run a command line, in which `daybook` stands for the program and for nothing else."""
    (folder / "log.ndjson").write_bytes(lines(LOG))
    environment = {"DATABASE_URL": database, "JWT_SECRET": SECRET, "LOG_LEVEL": "WARNING", **more}
    return subprocess.run(
        ["bash", "-c", command.replace("daybook", shlex.join(DAYBOOK))],
        cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize("command", WRITING)
def test_a_result_that_cannot_be_written_is_status_2(unchanged_database: str, folder: Path, command: str) -> None:
    for where, why in ((">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")):
        result = shell(folder, f"daybook {command} {where}", unchanged_database)
        assert (result.returncode, result.stderr) == (2, f"daybook: Standard output can't be written: {why}.\n")
    nobody = shell(folder, f"daybook {command} | true; echo ${{PIPESTATUS[0]}}", unchanged_database)
    assert (nobody.stdout, nobody.stderr) == ("2\n", "")


@pytest.mark.parametrize("where", [">/dev/full", ">&-"])
@pytest.mark.parametrize("nor", ["2>/dev/full", "2>&-"])
def test_a_result_that_cannot_be_written_nor_told_is_status_2(folder: Path, where: str, nor: str) -> None:
    result = shell(folder, f"daybook token ann {where} {nor}", "")
    assert (result.returncode, result.stdout, result.stderr) == (2, "", "")


@pytest.mark.parametrize("command", WRITING)
def test_no_command_depends_on_standard_error(unchanged_database: str, folder: Path, command: str) -> None:
    for where in ("2>/dev/full", "2>&-"):
        result = shell(folder, f"daybook {command} {where}", unchanged_database)
        assert (result.returncode, bool(result.stdout), result.stderr) == (0, True, "")


@pytest.mark.parametrize("where", ["2>/dev/full", "2>&-"])
def test_a_message_that_cannot_be_written_is_status_2(folder: Path, where: str) -> None:
    wrong = shell(folder, f"daybook token a/b {where}", "")
    assert (wrong.returncode, wrong.stdout) == (2, "")


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("where", [">&- 2>&- <&-", ">/dev/full 2>/dev/full"])
def test_a_server_needs_no_streams(unchanged_database: str, folder: Path, workers: str, where: str) -> None:
    port = free_port()
    serve = f"daybook serve --port {port} --workers {workers} {where} & "
    ready = f"until curl -sf http://127.0.0.1:{port}/readyz >/dev/null; do kill -0 $! || exit 9; sleep 0.1; done; "
    result = shell(folder, f"{serve}{ready}sleep 1; kill -TERM $!; wait $!; echo $?", unchanged_database)
    assert (result.stdout, result.stderr) == ("0\n", "")


@pytest.mark.parametrize(
    ("variable", "quote"),
    [("DATABASE_URL", '"'), ("JWT_SECRET", "'"), ("BETTER_AUTH_SECRET", '"'), ("LOG_LEVEL", "'")],
)
def test_quotes_that_docker_kept_are_told(folder: Path, variable: str, quote: str) -> None:
    for command in ("serve", "migrate"):
        says = told(run(folder, command, **{variable: f"{quote}hunter2{SECRET}{quote}"}))
        assert says == f"{variable}: the quotes are part of the value; remove them (docker's --env-file keeps quotes)\n"


@pytest.mark.parametrize("command", ["serve", "token ann"])
def test_a_data_folder_that_cannot_be_used_is_named(unchanged_database: str, folder: Path, command: str) -> None:
    def says(**variables: str) -> str:
        return told(run(folder, *command.split(), DATABASE_URL=unchanged_database, **variables))

    data, kept = folder / ".daybook", folder / ".daybook" / "jwt_secret"
    data.write_text("")
    assert says().startswith("DAYBOOK_DATA_DIR: .daybook is no folder")
    data.unlink()
    assert says(DAYBOOK_DATA_DIR="/proc/self").startswith("DAYBOOK_DATA_DIR: no key can be kept in /proc/self: ")
    data.mkdir()
    kept.mkdir()
    assert says().startswith("DAYBOOK_DATA_DIR: the key kept in .daybook/jwt_secret can't be read: Is a directory")
    kept.rmdir()
    kept.write_bytes(b"\xff" * 40)
    assert says().startswith("JWT_SECRET: the one kept in .daybook/jwt_secret is too short, or no text; remove")


@pytest.mark.parametrize("command", ["serve", "migrate", "verify"])
def test_a_data_folder_that_no_postgres_can_run_in_is_named(folder: Path, command: str) -> None:
    (folder / "postgres").mkdir()
    for name in ("serve.lock", "postgres.lock"):
        (folder / name).mkdir()
    assert told(run(folder, command, DAYBOOK_DATA_DIR=".")).startswith("DAYBOOK_DATA_DIR: ")


@pytest.mark.parametrize("command", ["serve", "migrate", "token ann", "verify", "rebuild"])
def test_a_folder_that_was_deleted_is_told(unchanged_database: str, folder: Path, command: str) -> None:
    inside = f"mkdir x; cd x; rmdir ../x; daybook {command}"
    gone = shell(folder, inside, unchanged_database, PYTHONPATH=str(Path.cwd()))
    assert told(gone).startswith("The folder that this was started in is gone")


@pytest.mark.parametrize(
    ("arguments", "variables", "says"),
    [
        ((), {"METRICS_PORT": "19464", "METRICS_HOST": "nowhere.invalid"}, "METRICS_HOST: can't listen on nowhere"),
        ((), {"METRICS_PORT": "19464", "METRICS_HOST": "a..b"}, "METRICS_HOST: can't listen on a..b:19464: it can't"),
        (("--host", "nowhere.invalid"), {}, "Can't listen on nowhere.invalid:"),
        (("--host", "a..b"), {}, "Can't listen on a..b:"),
        ((), {"TERMINAL_WIDTH": "wide"}, "TERMINAL_WIDTH: is no number; unset it"),
        ((), {"PROMETHEUS_MULTIPROC_DIR": "nowhere"}, "PROMETHEUS_MULTIPROC_DIR: unset it"),
        ((), {"DATABASE_URL": "postgresql://a..b/d"}, "The database (DATABASE_URL, or for migrations"),
        ((), {"JWT_ISSUER": "M\udcfcller"}, "JWT_ISSUER: isn't text in utf-8"),
    ],
)
def test_an_address_that_cannot_be_used_is_named(
    unchanged_database: str, folder: Path, arguments: tuple[str, ...], variables: dict[str, str], says: str
) -> None:
    environment = {"DATABASE_URL": unchanged_database, "JWT_SECRET": SECRET, **variables}
    result = run(folder, "serve", "--port", str(free_port()), *arguments, **environment)
    assert told(result).startswith(says)


def test_the_command_line_alone_says_how_many_workers_there_are(unchanged_database: str, folder: Path) -> None:
    variables = {"DATABASE_URL": unchanged_database, "JWT_SECRET": SECRET}
    with Serving(folder, "--no-migrate", WEB_CONCURRENCY="3", UVICORN_WORKERS="3", **variables) as serving:
        serving.wait_until_ready()
        assert serving.stop() == 0
    assert any("workers=1" in line for line in serving.errors)


def test_a_user_who_is_not_ascii_is_understood_or_told_why_not(folder: Path) -> None:
    plain = {"LC_ALL": "C", "JWT_SECRET": SECRET}
    assert run(folder, "token", "Zoë", **plain).returncode == 0
    result = run(folder, "token", "Zoë", **plain, PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", COLUMNS="200")
    assert (result.returncode, "isn't text in ascii" in result.stderr, "LANG=C.UTF-8" in result.stderr) == (
        2,
        True,
        True,
    )
