"""A signal may come before any line. Whenever it does, nothing is left running, and no traceback is shown."""

import contextlib
import gc
import signal
import sys
from collections.abc import Callable, Collection, Iterator
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


class Server:
    """A server that is started and stopped at once."""

    dsn = "postgresql:///"
    runs = False

    def start(self, _: object) -> None:
        self.runs = True

    def stop(self) -> None:
        self.runs = False


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    former = {each: signal.getsignal(each) for each in SIGNALS}
    yield
    for each, handler in former.items():
        signal.signal(each, handler)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # files closed with their last reference
def test_an_embedded_server_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {each.__file__ for each in (embedded, deferred_signals, contextlib)}
    number, sent = 0, True
    gc.collect()
    gc.freeze()  # the others' objects; to look through them each time would take most of the test
    while sent:
        number += 1
        server, line = Server(), BeforeLine(number, files)
        monkeypatch.setattr(embedded._Server, "under", lambda _, server=server: server)
        with contextlib.suppress(KeyboardInterrupt), line, embedded.database(None, tmp_path):
            pass
        sent = line.sent
        gc.collect()  # frames that the exception holds, as the end of a process would
        assert not server.runs, number
    gc.unfreeze()
    assert number > 100


def test_a_command_ends_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    for each in ("open_all", "close_all"):
        monkeypatch.setattr(cli.__main__, each, lambda: None)
    monkeypatch.setattr(cli.__main__, "status", lambda: 0)
    undisturbed = BeforeLine(sys.maxsize, {cli.__main__.__file__})
    with pytest.raises(SystemExit), undisturbed:
        cli.__main__.run()
    for number in range(2, undisturbed.lines):  # from within the `try` to where Python itself ends
        with pytest.raises(SystemExit) as ended, BeforeLine(number, undisturbed.files):
            cli.__main__.run()
        assert ended.value.code == 2, number
    assert undisturbed.lines > 8
