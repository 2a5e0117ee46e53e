"""Standard output and standard error, also where they are closed, full, or nobody reads them."""

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
    """Who read standard output has closed their end, as `head` does."""


class _Output(io.TextIOWrapper):
    """Standard output; whoever writes to it, a library or us, meets `Unwritten` where it can't be."""

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
    """Make three streams of whatever the program was started with.

    Where one is closed, its number would go to the next file or socket, and what was meant for a terminal into that.
    It gets one that can't be read or written, but standard error one that takes everything: nothing depends on it.
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
        errors="backslashreplace",  # what the terminal can't show is spelled out
        line_buffering=os.isatty(STDOUT),
    )


def say(text: str, end: str = "\n") -> None:
    """To standard output, at once where the line is complete. Raises `Unwritten`."""
    sys.stdout.write(text + end)
    if end:
        sys.stdout.flush()


def say_unbuffered(text: str) -> None:
    """Write to standard output from a thread that nothing waits for. Its reader may have stopped reading, and a stream
    that a thread is stuck in could never be closed."""
    data = memoryview(f"{text}\n".encode(sys.stdout.encoding, "backslashreplace"))
    with suppress(OSError):  # nobody depends on it
        while data:
            data = data[os.write(STDOUT, data) :]


def note(text: str) -> None:
    """To standard error, which nothing depends on, after all that was logged."""
    log_writer.flush()
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)  # noqa: T201 - this is the terminal


def give_up() -> None:
    """Throw away what standard output still holds, and all that comes."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)


def close_all() -> None:
    """Write what is left. Where that can't be done, Python would end with a status of its own."""
    for stream, number in ((sys.stdout, STDOUT), (sys.stderr, STDERR)):
        try:
            stream.flush()
        except (OSError, Unwritten):
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
