"""Memory of the service's process while clients misuse their connections."""

import json
import resource
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from bench.memory import resident, watched
from tests.faults.servers import service
from tests.processes import Serving
from tests.service import bearer

pytestmark = pytest.mark.once

REQUEST = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
MEGABYTE = 1024 * 1024


@pytest.fixture
def serving(database: str, folder: Path) -> Iterator[Serving]:
    """Yield a service that was started with few file descriptors, of which it may have more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        serving = service(folder, database)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with serving:
        serving.wait_until_ready()
        yield serving


def reset_after_answers(port: int, count: int) -> None:
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sendall(REQUEST)
            assert client.recv(65536).startswith(b"HTTP/1.1 200")


def test_connections_that_are_reset_leave_nothing_behind(serving: Serving) -> None:
    soft, hard = resource.prlimit(serving.process.pid, resource.RLIMIT_NOFILE)
    assert soft in (hard, 8192)
    reset_after_answers(serving.port, 500)
    before = resident(serving.process.pid)
    reset_after_answers(serving.port, 3000)
    assert resident(serving.process.pid) - before < 10 * MEGABYTE


def send(client: socket.socket, method: str, body: bytes = b"", *, user: str = "ann") -> None:
    """Send a request for a user's tasks."""
    head = f"{method} /api/{user}/tasks HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer(user)['Authorization']}\r\n"
    client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)


def exchange(client: socket.socket, method: str, body: bytes = b"") -> bytes:
    """Send a request for ann's tasks; return the first bytes of the answer."""
    send(client, method, body)
    return client.recv(12)


def fill(port: int, count: int) -> None:
    body = json.dumps({"title": "long", "description": "日" * 4999}, ensure_ascii=False).encode()
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", port)) as client:
            assert exchange(client, "POST", body).endswith(b"201")


def test_lists_that_nobody_reads_are_bounded(serving: Serving) -> None:
    fill(serving.port, 200)  # 3 MB
    before = resident(serving.process.pid)
    with ExitStack() as stack:
        answers: Counter[bytes] = Counter()
        for _ in range(80):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", serving.port))
            answers[exchange(client, "GET")[-3:]] += 1
        assert set(answers) == {b"200", b"503"}
        assert resident(serving.process.pid) - before < 110 * MEGABYTE


def test_lists_that_many_users_read_at_once_are_bounded(serving: Serving) -> None:
    """Also while they are made: two of each user's requests are carried out at once."""
    users = [f"user{number}" for number in range(20)]
    operations = [{"op": "create", "title": "long", "description": "日" * 4999}] * 40
    for user in users:
        with httpx2.Client(base_url=serving.url, headers=bearer(user), timeout=60) as writer:
            for _ in range(5):  # 3 MB in all
                assert writer.post(f"/api/{user}/batch", json={"operations": operations}).status_code == 200
    with ExitStack() as stack, watched(serving.process.pid) as memory:
        for user in users * 4:
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", serving.port))
            send(client, "GET", user=user)
        time.sleep(3)  # the lists are made meanwhile
    assert memory.growth < 200 * MEGABYTE
