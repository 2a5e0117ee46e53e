"""Resident memory of a process, now and at its peak (Linux)."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_INTERVAL = 0.005
"""Seconds between two polls, if the kernel doesn't let us reset its own peak."""


@dataclass(slots=True)
class Resident:
    """Bytes of resident memory before, at the peak of and after a block. `peak` and `after` are set at its end."""

    before: int
    peak: int = 0
    after: int = 0

    @property
    def growth(self) -> int:
        """Return the bytes from before the block to its peak."""
        return self.peak - self.before


def resident(pid: int) -> int:
    """Return the bytes of memory that a process has now."""
    return _status(pid, "VmRSS")


@contextmanager
def watched(pid: int) -> Iterator[Resident]:
    """Measure a process's memory while the block runs.

    The peak is the kernel's own (VmHWM) if it can be reset, else that of polls.
    """
    try:
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc(5): resets the peak to the present size
    except OSError:
        with _polled(pid) as found:
            yield found
    else:
        found = Resident(resident(pid))
        yield found
        found.peak = _status(pid, "VmHWM")
    found.after = resident(pid)


@contextmanager
def _polled(pid: int) -> Iterator[Resident]:
    over = threading.Event()
    found = Resident(resident(pid))

    def poll() -> None:
        while not over.wait(_INTERVAL):
            found.peak = max(found.peak, resident(pid))

    polling = threading.Thread(target=poll)
    polling.start()
    try:
        yield found
    finally:
        over.set()
        polling.join()
        found.peak = max(found.peak, found.before, resident(pid))


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024
    raise ProcessLookupError(f"process {pid} has ended")
