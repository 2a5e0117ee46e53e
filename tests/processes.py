"""`daybook` as a process of its own."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Self

from tests.forking import Command, forkable

DAYBOOK = [sys.executable, "-m", "cli"]


def run(folder: Path, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end."""
    if forkable(variables):
        return _forked(folder, arguments, variables)
    return subprocess.run(
        [*DAYBOOK, *arguments],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def _forked(folder: Path, arguments: Sequence[str], variables: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    command = Command(arguments, cwd=folder, env={**os.environ, **variables})
    late = threading.Timer(60, command.kill)
    late.start()
    with command.stdout as out, command.stderr as err, ThreadPoolExecutor(1) as reader:
        errors = reader.submit(err.read)
        output = out.read()
        result = subprocess.CompletedProcess([*DAYBOOK, *arguments], command.wait(), output, errors.result())
    late.cancel()
    return result


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until_free(port: int) -> None:
    """Wait until nobody holds the port any more."""
    while True:
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return
        time.sleep(0.01)


class Serving:
    """`daybook serve` in a session of its own, as a terminal would run it."""

    def __init__(self, folder: Path, *arguments: str, **variables: str) -> None:
        self.port = int(variables.pop("PORT", 0)) or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = Command(
            ["serve", "--port", str(self.port), *arguments], cwd=folder, env={**os.environ, **variables}
        )
        self.errors: list[str] = []
        self._reader = threading.Thread(target=self._read_errors)
        self._reader.start()

    def _read_errors(self) -> None:
        self.errors.extend(self.process.stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:  # a test that failed
            os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(30)
        self._reader.join()
        self.process.stdout.close()
        self.process.stderr.close()

    def greeting(self, end: str = "Authorization") -> str:
        """Return what it prints once it is up; by default to the last line of the command to paste."""
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if end in line:
                break
        return "".join(lines)

    def wait_until_ready(self) -> None:
        """Wait until it can serve. Raises what it said if it ended instead."""
        while self.process.poll() is None:
            with suppress(OSError), urllib.request.urlopen(f"{self.url}/readyz", timeout=5):
                return
            time.sleep(0.05)
        self._reader.join()
        raise AssertionError("".join(self.errors))

    def stop(self, sign: signal.Signals = signal.SIGINT) -> int:
        """Signal it and wait for its end; return the exit status. SIGINT goes to the whole group, as by Ctrl-C.

        A worker that is measured must be told SIGTERM once only: its data is saved by the handler of that, and a second
        one can stop it there for ever (coverage takes a lock twice).
        """
        if sign == signal.SIGINT:
            os.killpg(self.process.pid, sign)
        else:
            self.process.send_signal(sign)
        return self.process.wait(30)
