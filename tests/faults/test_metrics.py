"""No fault of the metrics' folder, and no client of their port, ends the service."""

import json
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.test_metrics import LIVEZ, told
from tests.faults.servers import service
from tests.processes import Serving, free_port

pytestmark = pytest.mark.once


@pytest.fixture
def small(folder: Path) -> Iterator[Path]:
    """Yield a file system of its own, of a megabyte."""
    place = folder / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)], check=False, stderr=-3)
    if mounted.returncode:
        pytest.skip("only who may mount can have a disk that is full")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill(place: Path) -> None:
    with (place / "ballast").open("wb", buffering=0) as file:
        size = 2**16
        while size:
            try:
                file.write(b"x" * size)
            except OSError:  # no space left on device
                size //= 2


def statuses(serving: Serving) -> list[int]:
    """Return the workers' exit statuses. (On a machine that is too slow, the supervisor kills some.)"""
    return [json.loads(line)["status"] for line in serving.errors if "a worker ended" in line]


def ask_for_much(serving: Serving) -> None:
    """Send requests with many kinds of labels, so that there is more and more to count."""
    for path in ("/livez", "/readyz", "/health", "/nowhere", "/api/ann/tasks", "/api/ann/audit", "/openapi.json"):
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
            request = urllib.request.Request(serving.url + path, method=method)
            for _ in range(4):
                try:
                    urllib.request.urlopen(request, timeout=30).close()
                except urllib.error.HTTPError as refused:
                    refused.close()


def test_a_disk_that_fills_up_ends_no_worker_and_metrics_come_back(database: str, folder: Path, small: Path) -> None:
    port = free_port()
    with service(folder, database, "--workers", "2", METRICS_PORT=str(port), TMPDIR=str(small)) as serving:
        serving.wait_until_ready()
        while told(port).get("daybook_pool_size") != 20:
            time.sleep(0.05)
        fill(small)
        ask_for_much(serving)
        while not any("metrics can't be written" in line for line in serving.errors):
            time.sleep(0.05)
        told(port)
        (small / "ballast").unlink()
        while told(port).get(LIVEZ, 0) < 4:
            time.sleep(0.05)
        assert serving.stop(signal.SIGTERM) == 0
    assert -signal.SIGBUS not in statuses(serving)
    assert list(small.iterdir()) == []


def test_a_start_needs_no_place_to_write(database: str, folder: Path, small: Path) -> None:
    fill(small)
    port = free_port()
    with service(folder, database, "--workers", "2", METRICS_PORT=str(port), TMPDIR=str(small)) as serving:
        serving.wait_until_ready()
        ask_for_much(serving)
        told(port)
        assert serving.stop(signal.SIGTERM) == 0
    assert -signal.SIGBUS not in statuses(serving)


def test_half_requests_keep_nobody_out_and_no_more_than_a_few_stay(database: str, folder: Path) -> None:
    port = free_port()
    with service(folder, database, METRICS_PORT=str(port)) as serving:
        serving.wait_until_ready()
        halves = []
        for _ in range(100):
            halves.append(socket.create_connection(("127.0.0.1", port)))
            halves[-1].sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n")
        assert told(port)["daybook_pool_size"] == 10
        for half in halves[:90]:
            half.settimeout(30)
            assert half.recv(1) == b""
            half.close()
        assert len([*Path(f"/proc/{serving.process.pid}/task").iterdir()]) < 30
        for half in halves[90:]:
            half.close()
        assert serving.stop(signal.SIGTERM) == 0
