"""A command that can't run says if the database, a file or a limit of the machine is at fault."""

import asyncio
import resource
import socket
from pathlib import Path

import pytest

from config.errors import CannotRun
from db.connection import connect
from db.dsn import connect_arguments
from db.reach import CannotReachDatabase, reaching

pytestmark = pytest.mark.once


def test_a_file_that_is_missing_is_no_database_that_is_away(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match=r"A file or a limit of this machine.*nowhere"), reaching():
        (tmp_path / "nowhere").read_text()


def test_a_limit_of_the_machine_is_no_database_that_is_away() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        with pytest.raises(CannotRun, match="Too many open files") as raised, reaching():
            socket.socket()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert not isinstance(raised.value, CannotReachDatabase)


@pytest.mark.parametrize("host", ["/nowhere", "127.0.0.1:1", "nowhere.invalid"])
def test_a_database_that_cannot_be_reached_is_told_so(host: str) -> None:
    address = f"postgresql://u@/d?host={host}" if host.startswith("/") else f"postgresql://u@{host}/d"
    with pytest.raises(CannotReachDatabase), reaching():
        asyncio.run(connect(**connect_arguments(address)))
