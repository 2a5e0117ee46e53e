"""The embedded Postgres: it keeps its data, is shared, and leaves nothing running."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any

import asyncpg
import pytest

from db.dsn import connect_arguments
from db.embedded import EmbeddedPostgresFailed, running
from tests.conftest import execute

USE = """
import sys
from pathlib import Path
from config import logs
from db.embedded import running
logs.configure("WARNING", "console")
with running(Path(sys.argv[1])) as dsn:
    print(dsn, flush=True)
    sys.stdin.read()
"""


def servers(folder: Path) -> list[str]:
    """Return the command lines of servers that run on this folder's data, or of what they left running."""
    found: dict[int, tuple[int, str]] = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = os.fsdecode((process / "cmdline").read_bytes().replace(b"\0", b" "))
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if f"-D {folder}/postgres" in line and "/postgres -D" in line:
            found[int(process.name)] = parent, line
    # A process that was just forked has its server's command line until it gives itself a title.
    return [line for parent, line in found.values() if parent not in found]


def ask(dsn: str, question: str) -> object:
    async def answer() -> object:
        connection = await asyncpg.connect(**connect_arguments(dsn))
        try:
            return await connection.fetchval(question)
        finally:
            await connection.close()

    return asyncio.run(answer())


@contextmanager
def using(folder: Path, **options: Any) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Start another process that uses the server until its standard input is closed; yield it and its DSN."""
    arguments = [sys.executable, "-c", USE, str(folder)]
    with subprocess.Popen(arguments, stdin=PIPE, stdout=PIPE, text=True, **options) as process:
        assert process.stdout
        yield process, process.stdout.readline().strip()


def test_data_survives_and_nothing_is_left_running(folder: Path) -> None:
    with running(folder) as dsn:
        asyncio.run(execute(dsn, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (7)"))
        assert len(servers(folder)) == 1
        assert str(ask(dsn, "SHOW server_version")).startswith("18")
        assert ask(dsn, "SHOW fsync") == ask(dsn, "SHOW synchronous_commit") == "on"
        assert ask(dsn, "SHOW listen_addresses") == ""
    assert servers(folder) == []
    with running(folder) as dsn:
        assert ask(dsn, "SELECT n FROM kept") == 7
    assert servers(folder) == []


def test_a_backend_keeps_the_memory_of_a_long_list(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "4194304")  # the service's
    with running(folder):
        postmaster = (folder / "postgres" / "postmaster.pid").read_text().split()[0]
        variables = (Path("/proc") / postmaster / "environ").read_bytes().split(b"\0")
    assert {b"MALLOC_MMAP_THRESHOLD_=4194304", b"MALLOC_TRIM_THRESHOLD_=8388608"} <= {*variables}


def test_several_processes_share_one_server_and_the_last_stops_it(folder: Path) -> None:
    with using(folder) as (_, dsn):
        with using(folder) as (_, second), running(folder) as third:
            assert dsn == second == third
        assert ask(dsn, "SELECT 1") == 1
        assert len(servers(folder)) == 1
    assert servers(folder) == []


def test_processes_that_start_at_once_start_one_server(folder: Path) -> None:
    with ExitStack() as stack:
        starting = [
            stack.enter_context(
                subprocess.Popen([sys.executable, "-c", USE, str(folder)], stdin=PIPE, stdout=PIPE, text=True)
            )
            for _ in range(4)
        ]
        assert len({process.stdout.readline() for process in starting if process.stdout}) == 1
        assert len(servers(folder)) == 1
    assert servers(folder) == []


def test_a_server_left_by_a_killed_process_is_adopted_and_stopped(folder: Path) -> None:
    with using(folder) as (process, _):
        process.kill()
    [left] = servers(folder)
    with running(folder) as dsn:
        assert servers(folder) == [left]
        assert ask(dsn, "SELECT 1") == 1
    assert servers(folder) == []


def test_a_server_that_was_killed_recovers(folder: Path) -> None:
    with running(folder) as dsn:
        asyncio.run(execute(dsn, "CREATE TABLE kept (n int)"))
        pid = int((folder / "postgres" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        while servers(folder):
            time.sleep(0.05)
        with running(folder) as again:
            assert ask(again, "SELECT count(*) FROM kept") == 0
    assert servers(folder) == []


def test_a_long_path_is_no_obstacle(folder: Path) -> None:
    deep = folder / ("d" * 100) / "with 'quotes' & spaces"
    with running(deep) as dsn:
        assert ask(dsn, "SELECT 1") == 1
    assert servers(deep) == []


def test_a_link_in_place_of_the_socket_folder_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    deep = folder / ("d" * 100)
    with running(deep):
        [sockets] = folder.glob("daybook-*")
    assert not sockets.exists()
    sockets.symlink_to(folder / "elsewhere", target_is_directory=True)
    (folder / "elsewhere").mkdir()
    with pytest.raises(EmbeddedPostgresFailed, match="isn't a folder of ours"), running(deep):
        pass


def test_a_start_cut_short_leaves_nothing_that_looks_finished(folder: Path) -> None:
    (folder / "postgres.unfinished").mkdir()
    (folder / "postgres.unfinished" / "PG_VERSION").write_text("18")
    with running(folder) as dsn:
        assert ask(dsn, "SELECT 1") == 1


def test_a_server_that_cannot_start_says_why(folder: Path) -> None:
    with (
        pytest.raises(EmbeddedPostgresFailed, match="no_such_setting"),
        running(folder, settings={"no_such_setting": "1"}),
    ):
        pass
    with running(folder) as dsn:
        assert ask(dsn, "SELECT 1") == 1


def test_another_process_with_the_number_of_a_killed_server_is_left_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.embedded._LEFTOVER_SECONDS", 1)
    with running(folder):
        told = (folder / "postgres" / "postmaster.pid").read_text()
    number = told.partition("\n")[0]
    owner = (folder / "postgres").stat().st_uid
    with subprocess.Popen(["sleep", "600"], user=owner if os.geteuid() == 0 else None, cwd="/") as other:
        (folder / "postgres" / "postmaster.pid").write_text(told.replace(number, str(other.pid), 1))
        os.chown(folder / "postgres" / "postmaster.pid", owner, -1)
        with pytest.raises(EmbeddedPostgresFailed, match="lock file"), running(folder):
            pass
        assert other.poll() is None
        other.kill()
    with running(folder) as dsn:
        assert ask(dsn, "SELECT 1") == 1
    assert servers(folder) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user; as one, all tests above show it")
def test_an_ordinary_user_can_run_it_too(folder: Path) -> None:
    os.chown(folder, 65534, 65534)
    nobody: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": [], "cwd": "/"}
    try:
        subprocess.run([sys.executable, "-c", "import db.embedded"], check=True, **nobody)
    except (PermissionError, subprocess.CalledProcessError):
        pytest.skip("this Python lies where only root may read")
    with using(folder, **nobody) as (_, dsn):
        assert ask(dsn, "SELECT 1") == 1
    assert servers(folder) == []
