"""What a process holds of the machine's memory, and the most it held meanwhile (Linux)."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_INTERVAL = 0.005
"""Seconds between two looks, where the kernel doesn't let us reset its own mark."""


@dataclass(slots=True)
class Resident:
    """Bytes of resident memory. `peak` and `after` are known once what was watched is over."""

    before: int
    peak: int = 0
    after: int = 0

    @property
    def growth(self) -> int:
        return self.peak - self.before


def resident(pid: int) -> int:
    """Bytes, now."""
    return _status(pid, "VmRSS")


@contextmanager
def watched(pid: int) -> Iterator[Resident]:
    """The process's memory while the block runs: the kernel's mark (VmHWM) where it can be reset, else by polling."""
    try:
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc(5): resets the mark to what is resident now
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
