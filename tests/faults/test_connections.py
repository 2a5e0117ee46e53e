"""Memory of a real process, whatever its clients do to their connections."""

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.memory import resident
from tests.faults.servers import service
from tests.processes import Serving

pytestmark = pytest.mark.once

REQUEST = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
MEGABYTE = 1024 * 1024


@pytest.fixture
def serving(database: str, folder: Path) -> Iterator[Serving]:
    with service(folder, database) as serving:
        serving.wait_until_ready()
        yield serving


def reset_after_answers(port: int, count: int) -> None:
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sendall(REQUEST)
            assert client.recv(65536).startswith(b"HTTP/1.1 200")


def test_connections_that_are_reset_leave_nothing_behind(serving: Serving) -> None:
    reset_after_answers(serving.port, 500)
    before = resident(serving.process.pid)
    reset_after_answers(serving.port, 3000)
    assert resident(serving.process.pid) - before < 10 * MEGABYTE
