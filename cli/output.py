"""Standard output and standard error, even if they are closed, full, or nobody reads them."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from config import log_writer
from config.errors import CannotRun

STDIN, STDOUT, STDERR = range(3)


class Unwritten(CannotRun):
    """Standard output can't be written. Not an OSError, which could be anything's."""


class NobodyReads(Unwritten):
    """The reader of standard output has closed its end, as `head` does."""


class _Output(io.TextIOWrapper):
    """Standard output that raises `Unwritten` if it can't be written, for libraries and for us."""

    def write(self, text: str) -> int:
        with _telling():
            return super().write(text)

    def flush(self) -> None:
        with _telling():
            super().flush()


@contextmanager
def _telling() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise NobodyReads("Nobody reads standard output.") from None
    except OSError as error:
        raise Unwritten(f"Standard output can't be written: {error.strerror}.") from None


def open_all() -> None:
    """Open all three standard streams, no matter which of them the program was started with.

    If one is closed, its number would go to the next file or socket, and so would text meant for a terminal. It is
    replaced by one that can't be read or written. Standard error's takes everything: nothing depends on it.
    """
    for number, mode in ((STDIN, os.O_WRONLY), (STDOUT, os.O_RDONLY), (STDERR, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, mode)  # the lowest number that is free
            os.set_inheritable(opened, True)  # noqa: FBT003 - for processes that we start
    if sys.stderr is None:
        sys.stderr = open(STDERR, "w", closefd=False)  # noqa: SIM115 - a number; for as long as we run
    encoding = getattr(sys.stdout, "encoding", "utf-8")
    sys.stdout = _Output(
        open(STDOUT, "wb", closefd=False),  # noqa: SIM115 - as well
        encoding=encoding,
        errors="backslashreplace",  # characters that the terminal can't show are spelled out
        line_buffering=os.isatty(STDOUT),
    )


def say(text: str, end: str = "\n") -> None:
    """Write to standard output, at once if the line is complete. Raises `Unwritten`."""
    sys.stdout.write(text + end)
    if end:
        sys.stdout.flush()


def say_unbuffered(text: str) -> None:
    """Write to standard output from a thread that nothing waits for.

    Its reader may have stopped reading, and a stream that a thread is stuck in could never be closed.
    """
    data = memoryview(f"{text}\n".encode(sys.stdout.encoding, "backslashreplace"))
    with suppress(OSError):  # nobody depends on it
        while data:
            data = data[os.write(STDOUT, data) :]


def shown(text: str) -> str:
    """Return the text made harmless for a terminal: anybody may have written it."""
    return text if text.isprintable() else repr(text)


def note(text: str) -> None:
    """Write to standard error, which nothing depends on, after all that was logged."""
    log_writer.flush()
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)  # noqa: T201 - this is the terminal


def give_up() -> None:
    """Discard standard output: the text that it still holds, and all later text."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)


def close_all() -> None:
    """Write the text that is left. If that fails, discard it: Python would end with a status of its own."""
    for stream, number in ((sys.stdout, STDOUT), (sys.stderr, STDERR)):
        try:
            stream.flush()
        except (OSError, Unwritten):
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
