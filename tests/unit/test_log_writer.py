"""The thread that writes log lines: a line that can't be written holds up no later one."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from config.log_writer import _MOST_WAITING, WriterThreadHandler


@contextmanager
def logging_to(descriptor: int) -> Iterator[Callable[[str], None]]:
    handler = WriterThreadHandler(descriptor)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log = logging.getLogger(__name__)
    log.propagate = False
    log.addHandler(handler)
    yield log.warning
    log.removeHandler(handler)
    handler.flush()
    handler.close()


def test_after_a_line_that_is_too_long_come_the_next_ones() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading) as lines, logging_to(writing) as write:
        write("x" * _MOST_WAITING)
        assert lines.readline() == "log lines dropped: 1, while nobody read them\n"
        write("next")
        assert lines.readline() == "next\n"
    os.close(writing)


def test_a_descriptor_that_does_not_block_loses_no_line() -> None:
    """A process that shares standard error may have made it non-blocking."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    number = 3000
    with os.fdopen(reading) as lines, logging_to(writing) as write:
        for each in range(number):  # several times as much as a pipe holds
            write(f"{each} {'x' * 100}")
        assert [int(lines.readline().split()[0]) for _ in range(number)] == [*range(number)]
    os.close(writing)
