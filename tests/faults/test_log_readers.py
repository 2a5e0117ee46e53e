"""A reader of the service's log that stops reading holds up nothing, and a terminal is safe from what it shows."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from config.log_writer import WriterThreadHandler
from tests.cli.test_daybook_command import call
from tests.processes import DAYBOOK, free_port
from tests.service import SECRET, token

pytestmark = pytest.mark.once


def fill(descriptor: int) -> None:
    os.set_blocking(descriptor, False)
    for size in (4096, 1):
        try:
            while os.write(descriptor, b"x" * size):
                pass
        except BlockingIOError:
            pass
    os.set_blocking(descriptor, True)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_service_whose_output_nobody_reads_answers_and_stops(
    unchanged_database: str, folder: Path, workers: str
) -> None:
    reading, writing = os.pipe()
    fill(writing)
    port = free_port()
    variables = {"DATABASE_URL": unchanged_database, "JWT_SECRET": SECRET, "LOG_LEVEL": "DEBUG"}
    with subprocess.Popen(
        [*DAYBOOK, "serve", "--port", str(port), "--workers", workers],
        cwd=folder, env={**os.environ, **variables}, stdout=writing, stderr=writing, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            until_answered(port)
            for _ in range(20):
                assert call(port, token("demo")) == []
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    for each in (reading, writing):
        os.close(each)


def until_answered(port: int) -> None:
    while True:
        try:
            call(port, token("demo"))
        except OSError:
            continue
        return


def test_lines_keep_their_order_and_what_is_dropped_is_counted() -> None:
    code = """
import logging, sys
from config import logs
logs.configure("INFO", "json")
for n in range(20_000):
    logging.getLogger("x").info("%s", str(n) * 100)
print("done", flush=True)
sys.stdin.readline()
logging.getLogger("x").info("last")
"""
    arguments = [sys.executable, "-c", code]
    pipe = subprocess.PIPE
    with subprocess.Popen(arguments, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == "done\n"
        lines = iter(process.stderr.readline, "")
        said = []
        while "dropped" not in (line := json.loads(next(lines))["event"]):
            said.append(line)
        process.stdin.write("\n")
        process.stdin.flush()
        rest = [json.loads(each)["event"] for each in lines]
    assert said == [str(n) * 100 for n in range(len(said))]
    assert line == f"log lines dropped: {20_000 - len(said)}, while nobody read them"
    assert rest == ["last"]


def test_a_handler_that_is_closed_ends_its_thread() -> None:
    before = threading.active_count()
    handler = WriterThreadHandler(2)
    assert threading.active_count() == before + 1
    handler.close()
    while threading.active_count() > before:
        pass


def test_log_lines_for_people_contain_no_control_sequences() -> None:
    code = r"""
import structlog
from config import logs
logs.configure("INFO", "console")
evil = "\x1b[2J\x9b\u202e\r\nforged"
log = structlog.get_logger("x")
log.info("request", user=evil, users=[evil], error=ValueError(evil))
try:
    raise ValueError(evil)
except ValueError:
    log.exception("failed")
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stderr.decode()
    assert said.count("\\x1b[2J") == 4
    assert all(each.isprintable() or each == "\n" for each in said)
    assert said.startswith("2")
    assert "user=\\x1b[2J\\x9b\\u202e\\r\\nforged" in said
