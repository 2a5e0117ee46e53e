"""Memory of the service's process while clients misuse their connections."""

import json
import resource
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import httpx2
import pytest

from bench.memory import resident, watched
from tests.faults.servers import service
from tests.processes import Serving
from tests.service import bearer

pytestmark = pytest.mark.once

REQUEST = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
MEGABYTE = 1024 * 1024
LONG = "日" * 4999


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


def reluctant(port: int) -> socket.socket:
    """Connect as a client that takes in little before it reads."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    return client


def send(client: socket.socket, method: str, body: bytes = b"", *, user: str = "ann", path: str = "tasks") -> None:
    """Send a request of the user's."""
    head = f"{method} /api/{user}/{path} HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer(user)['Authorization']}\r\n"
    client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)


def exchange(client: socket.socket, method: str, body: bytes = b"") -> bytes:
    """Send a request for ann's tasks; return the first bytes of the answer."""
    send(client, method, body)
    return client.recv(12)


def fill(port: int, count: int) -> None:
    body = json.dumps({"title": "long", "description": LONG}, ensure_ascii=False).encode()
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", port)) as client:
            assert exchange(client, "POST", body).endswith(b"201")


def test_lists_that_nobody_reads_are_bounded(serving: Serving) -> None:
    fill(serving.port, 200)  # 3 MB
    before = resident(serving.process.pid)
    with ExitStack() as stack:
        answers: Counter[bytes] = Counter()
        for _ in range(80):
            answers[exchange(stack.enter_context(reluctant(serving.port)), "GET")[-3:]] += 1
        assert set(answers) == {b"200", b"503"}
        assert resident(serving.process.pid) - before < 110 * MEGABYTE


USERS = [f"user{number}" for number in range(20)]
VERSIONS = uuid4()
"""The task of each user that has many versions, for `long_answers`."""


@pytest.fixture
def long_answers(serving: Serving) -> Serving:
    """Make 200 tasks for each user, of 3 MB together, and 120 versions of one more, with 3.6 MB of events."""
    create = {"op": "create", "title": "long", "description": LONG}
    first = {"op": "create", "title": "long", "id": str(VERSIONS)}
    updates = [{"op": "update", "id": str(VERSIONS), "description": f"{LONG[:-1]}{turn}"} for turn in (0, 1)]
    for user in USERS:
        with httpx2.Client(base_url=serving.url, headers=bearer(user), timeout=60) as writer:
            for operations in ([create] * 40,) * 5 + ([first],) + (updates * 20,) * 3:
                assert writer.post(f"/api/{user}/batch", json={"operations": operations}).status_code == 200
    return serving


@pytest.mark.parametrize(
    "path",
    [
        "tasks",
        "tasks?sort=title",
        "tasks?as_of={now}",
        "tasks/changes",
        "tasks/{task}?as_of={now}",
        "audit?limit=1000",
        "tasks/{task}/history?limit=1000",
    ],
)
def test_long_answers_to_many_users_at_once_are_bounded(long_answers: Serving, path: str) -> None:
    """Also while they are made: two of each user's reads are carried out at once."""
    path = path.format(now=quote(datetime.now(UTC).isoformat()), task=VERSIONS)
    with ExitStack() as stack, watched(long_answers.process.pid) as memory:
        for user in USERS * 4:
            send(stack.enter_context(reluctant(long_answers.port)), "GET", user=user, path=path)
        time.sleep(3)  # the answers are made meanwhile
    assert memory.growth < 200 * MEGABYTE


def test_answers_to_batches_that_nobody_reads_are_bounded(serving: Serving) -> None:
    operations = [{"op": "create", "title": "long", "description": LONG}] * 60
    body = json.dumps({"operations": operations}, ensure_ascii=False).encode()
    with ExitStack() as stack, watched(serving.process.pid) as memory:
        for number in range(300):  # 270 MB, few at once
            client = stack.enter_context(reluctant(serving.port))
            send(client, "POST", body, user=f"user{number % 20}", path="batch")
            assert client.recv(12).endswith(b"200")
    assert memory.growth < 200 * MEGABYTE
