"""Metrics of the running service, on their own port, of all workers together."""

import json
import os
import re
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from bench.load import Author, load
from tests.faults.servers import children, service
from tests.processes import Serving, free_port, run
from tests.service import WRONG_TITLE

pytestmark = pytest.mark.once


def told(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return {name: float(number) for name, number in re.findall(r"^([^#\s]+) (\S+)$", answer.read().decode(), re.M)}


LIVEZ = 'daybook_http_request_duration_seconds_count{method="GET",route="/livez",status="200"}'


def ask(serving: Serving, times: int, port: int) -> None:
    """Send requests, and wait until all are counted: each is when its answer has gone."""
    for _ in range(times):
        urllib.request.urlopen(f"{serving.url}/livez", timeout=10).close()
    while told(port).get(LIVEZ, 0) < times:
        time.sleep(0.01)


@pytest.mark.parametrize("workers", [1, 2])
def test_metrics_are_of_all_workers_together(database: str, folder: Path, workers: int) -> None:
    port = free_port()
    with service(folder, database, "--workers", str(workers), METRICS_PORT=str(port)) as serving:
        serving.wait_until_ready()
        ask(serving, 40, port)
        while (found := told(port))["daybook_pool_size"] < 10 * workers:  # one may be ready before the other
            time.sleep(0.01)
        assert found[LIVEZ] == 40
        assert found["daybook_pool_size"] == 10 * workers
        assert found["daybook_database_up"] == 1
        assert serving.stop(signal.SIGTERM) == 0


def test_an_ended_workers_counters_stay_and_its_gauges_do_not(database: str, folder: Path) -> None:
    port = free_port()
    with service(folder, database, "--workers", "2", METRICS_PORT=str(port)) as serving:
        serving.wait_until_ready()
        while told(port).get("daybook_pool_size") != 20:
            time.sleep(0.05)
        ask(serving, 10, port)
        for worker in children(serving.process.pid):
            if b"spawn_main" in Path(f"/proc/{worker}/cmdline").read_bytes():
                os.kill(worker, signal.SIGKILL)
                break
        else:
            raise AssertionError("there are no workers")
        while (now := told(port).get("daybook_pool_size")) != 10:
            assert now == 20  # it isn't buried yet
            time.sleep(0.01)
        while told(port).get("daybook_pool_size") != 20:  # another has taken its place
            time.sleep(0.05)
        assert told(port)[LIVEZ] >= 10
        assert serving.stop(signal.SIGTERM) == 0
    assert [json.loads(line)["status"] for line in serving.errors if "a worker ended" in line] == [-signal.SIGKILL]


def test_a_port_in_use_is_named(database: str, folder: Path) -> None:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as taken:
        with service(folder, database, METRICS_PORT=str(taken.server_port)) as serving:
            assert serving.process.wait(30) == 2
        assert f"METRICS_PORT: can't listen on 127.0.0.1:{taken.server_port}" in "".join(serving.errors)


def test_the_apis_own_port_is_not_for_metrics_too(database: str, folder: Path) -> None:
    port = str(free_port())
    with service(folder, database, PORT=port, METRICS_PORT=port) as serving:
        assert serving.process.wait(30) == 2
    assert f"METRICS_PORT: {port} is the API's own" in "".join(serving.errors)


async def test_metrics_show_the_result_of_verify(database: str, folder: Path) -> None:
    import asyncpg

    from db.dsn import connect_arguments

    connection = await asyncpg.connect(**connect_arguments(database))
    for user in ("ann", "bob"):
        await load(connection, Author(user), 10)
    await connection.execute(f"UPDATE tasks SET {WRONG_TITLE} WHERE user_id = 'ann'")
    wrong = await connection.fetchval("SELECT count(*) FROM tasks WHERE user_id = 'ann'")
    await connection.close()
    port = free_port()
    with service(folder, database, METRICS_PORT=str(port)) as serving:
        serving.wait_until_ready()
        assert not [name for name in told(port) if "verify" in name]
        assert run(folder, "verify", DATABASE_URL=database).returncode == 1
        assert run(folder, "verify", "--sample", "2", DATABASE_URL=database).returncode == 1
        run(folder, "verify", "--user", "bob", DATABASE_URL=database)
        found = {name: number for name, number in told(port).items() if "verify" in name}
        for scope in ("all", "sample"):
            assert found[f'daybook_verify_mismatches{{scope="{scope}"}}'] == wrong
            assert found[f'daybook_verify_users{{scope="{scope}"}}'] == 2
            assert found[f'daybook_verify_complete{{scope="{scope}"}}'] == 1
            assert time.time() - found[f'daybook_verify_last_timestamp_seconds{{scope="{scope}"}}'] < 600
        (folder / ".daybook" / "verify.json").write_text("{")  # half written, by somebody else
        assert told(port)["daybook_pool_size"] == 10
        assert serving.stop(signal.SIGTERM) == 0


def test_a_result_that_cannot_be_kept_is_no_reason_to_fail(database: str, folder: Path) -> None:
    result = run(folder, "verify", "--json", DATABASE_URL=database, DAYBOOK_DATA_DIR="/proc/nowhere")
    assert (result.returncode, json.loads(result.stdout)["clean"]) == (0, True)
    assert "couldn't be kept in DAYBOOK_DATA_DIR" in result.stderr


@contextmanager
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """Yield an OpenTelemetry collector's address, and what it was sent: path and body."""
    received = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()


def test_spans_go_where_an_exporter_is_configured(database: str, folder: Path) -> None:
    with collector() as (address, received):
        with service(folder, database, OTEL_EXPORTER_OTLP_ENDPOINT=address, OTEL_SERVICE_NAME="tasks") as serving:
            serving.wait_until_ready()
            request = urllib.request.Request(
                f"{serving.url}/api/ann/tasks", headers={"Authorization": "Bearer hunter2hunter2"}
            )
            with pytest.raises(urllib.error.HTTPError):
                urllib.request.urlopen(request, timeout=10)
            assert serving.stop(signal.SIGTERM) == 0
        sent = dict(received)
    assert b"/api/{user_id}/tasks" in sent["/v1/traces"]
    assert b"tasks" in sent["/v1/traces"]
    assert not [body for body in sent.values() if b"hunter2" in body]
