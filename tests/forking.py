"""`daybook` as a process of its own, forked from one that has loaded the libraries already.

Loading them is most of what a command takes, and the suite starts hundreds. What is forked differs from `python -m cli`
in nothing else: it has streams, an environment, a folder, a session and an exit status of its own. Of this project's
modules, and of what reads the environment while it is loaded, nothing is loaded beforehand.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO

_LIBRARIES = (
    "alembic.command", "alembic.config", "asyncpg", "coverage", "cryptography.x509", "httptools", "jwt", "orjson",
    "pydantic", "pydantic.json_schema", "dotenv", "rich.console", "rich.markup", "rich.panel", "rich.table",
    "sqlalchemy", "sqlalchemy.ext.asyncio", "starlette.applications", "starlette.middleware", "structlog", "typer",
    "urllib.request", "uuid_utils.compat", "uvicorn", "uvicorn.supervisors", "uvloop",
)  # fmt: skip
_OF_THE_INTERPRETER = ("PYTHON", "LC_", "LANG")
"""Beginnings of variables that Python itself reads when it starts."""
_MEASURED = "COVERAGE_PROCESS_"


def forkable(variables: Mapping[str, str]) -> bool:
    """Say whether a command with these variables of its own needs no fresh interpreter."""
    return not any(name.startswith(_OF_THE_INTERPRETER) for name in variables)


class Command:
    """A command that was forked, with the part of `subprocess.Popen` that tests use."""

    def __init__(self, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair()
        out, err = os.pipe(), os.pipe()
        with theirs, Path(os.devnull).open("rb") as nothing, os.fdopen(os.memfd_create("command"), "wb") as told:
            told.write(json.dumps([list(arguments), str(cwd), dict(env)]).encode())
            told.flush()
            given = [nothing.fileno(), out[1], err[1], theirs.fileno(), told.fileno()]
            socket.send_fds(_forker()[0], [b"."], given)
        for each in (out[1], err[1]):
            os.close(each)
        self.args = arguments
        self.stdout: IO[str] = os.fdopen(out[0])
        self.stderr: IO[str] = os.fdopen(err[0])
        self.returncode: int | None = None
        self._ended = ours
        self._lock = threading.Lock()
        self.pid = int.from_bytes(ours.recv(4), "little")

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit status. Raises `subprocess.TimeoutExpired`."""
        with self._lock:
            if self.returncode is None:
                if not select.select([self._ended], [], [], timeout)[0]:
                    raise subprocess.TimeoutExpired(list(self.args), timeout or 0)
                self._ended.send(self._ended.recv(1))
                self.returncode = int.from_bytes(self._ended.recv(4), "little", signed=True)
                self._ended.close()
            return self.returncode

    def poll(self) -> int | None:
        """Return the exit status, if it has ended."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, sign: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, sign)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


@cache
def _forker() -> tuple[socket.socket, "subprocess.Popen[bytes]"]:
    """Start the process that forks, one for each process that runs tests; it ends when its socket is closed."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.forking", str(theirs.fileno())],
            cwd=Path(__file__).parents[1],
            env={name: value for name, value in os.environ.items() if not name.startswith(_MEASURED)},
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    return ours, process


def _fork_on_demand(control: socket.socket) -> None:
    for name in _LIBRARIES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait for the commands
    while True:
        message, given, _, _ = socket.recv_fds(control, 1, 5)
        if not message:
            return
        if not os.fork():
            control.close()
            _wait_for_it(given)
        for each in given:
            os.close(each)


def _wait_for_it(given: Sequence[int]) -> None:
    """Fork the command, tell its number and its end, and bury it when asked to. Doesn't return."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with os.fdopen(given[4], "rb") as told:
        told.seek(0)
        arguments, cwd, env = json.load(told)
    pid = os.fork()
    if not pid:
        _become(arguments, cwd, env, given[:3])
    for each in given[:3]:
        os.close(each)
    os.write(given[3], pid.to_bytes(4, "little"))
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    os.write(given[3], b".")
    os.read(given[3], 1)  # until then its number is nobody else's
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.write(given[3], status.to_bytes(4, "little", signed=True))
    os._exit(0)


def _become(arguments: Sequence[str], cwd: str, env: Mapping[str, str], streams: Sequence[int]) -> None:
    """Be `python -m cli` with these arguments, to its end. Doesn't return."""
    os.setsid()
    for number, each in enumerate(streams):
        os.dup2(each, number)
    os.closerange(3, 1024)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["cli", *arguments]
    sys.path[0] = cwd  # as `python -m` has it
    status: object = 1
    try:
        if any(name.startswith(_MEASURED) for name in env):
            importlib.import_module("coverage").process_startup()
        runpy.run_module("cli", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        status = ended.code or 0
    except BaseException:  # noqa: BLE001 - what Python itself does at the end of a program
        traceback.print_exc()
    threading._shutdown()  # type: ignore[attr-defined] # as Python does: threads first
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 1)


if __name__ == "__main__":
    _fork_on_demand(socket.socket(fileno=int(sys.argv[1])))
