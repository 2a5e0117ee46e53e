"""A Postgres of the test's own that can be killed, and services on it."""

import json
import os
import signal
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

from db.embedded import running
from tests.processes import Serving, run
from tests.service import SECRET


class Postgres:
    """A server on data of its own, for as long as the block lasts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "server"
        self._uses = ExitStack()
        self.dsn = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._uses.close()

    def start(self) -> None:
        self.dsn = self._uses.enter_context(running(self._folder))

    def kill(self) -> None:
        """Kill all processes of the server at once, as when the machine fails."""
        first = int((self._folder / "postgres" / "postmaster.pid").read_text().split()[0])
        everyone = [first, *children(first)]
        for pid in everyone:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while any(_runs(pid) for pid in everyone):
            time.sleep(0.01)


def children(pid: int) -> list[int]:
    """Return the processes that this one, or one of its threads, has started and not yet buried."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended meanwhile
            found += map(int, (task / "children").read_text().split())
    return found


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def service(folder: Path, dsn: str, *arguments: str, **variables: str) -> Serving:
    """Start `daybook serve` as in production."""
    settings = {"ENVIRONMENT": "production", "DATABASE_URL": dsn, "JWT_SECRET": SECRET, "LOG_LEVEL": "WARNING"}
    return Serving(folder, *arguments, **{**settings, **variables})


def verified(folder: Path, dsn: str) -> bool:
    """Say if `daybook verify` finds nothing."""
    result = run(folder, "verify", "--json", DATABASE_URL=dsn)
    found = json.loads(result.stdout)
    assert found["events"] > 0
    return bool(result.returncode == 0 and found["clean"])
