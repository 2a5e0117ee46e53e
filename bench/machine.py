"""Descriptions of machine and settings for a table's head, and processor times (Linux)."""

import os
import platform
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from db.pool import Connection

_SETTINGS = ("fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size", "jit")


def machine() -> str:
    """Return the CPU's model, the number of cores that this process may use, and the memory."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{cpu}, {len(os.sched_getaffinity(0))} cores, {memory / 1024**3:.0f} GiB"


async def versions(connection: Connection) -> str:
    """Return the versions of Python, Postgres and Daybook."""
    postgres = await connection.fetchval("SHOW server_version")
    return f"Python {platform.python_version()}, Postgres {postgres}, Daybook {version('daybook')}"


async def settings(connection: Connection) -> str:
    """Return the settings of the Postgres server that matter for its speed."""
    return ", ".join([f"{name} {await connection.fetchval('SELECT current_setting($1)', name)}" for name in _SETTINGS])


def cpu_seconds(pid: int) -> float:
    """Return the processor time, user and system, of a process so far (Linux)."""
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]  # proc(5): utime, stime
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def tree_cpu_seconds(*roots: int) -> float:
    """Return the processor time, user and system, of processes and all their descendants so far (Linux).

    A descendant that has ended counts too, once it is reaped: its time is then in its parent's cutime and cstime.
    """
    children: dict[int, list[int]] = {}
    ticks: dict[int, int] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            fields = file.read_text().rpartition(")")[2].split()
            pid = int(file.parent.name)
            children.setdefault(int(fields[1]), []).append(pid)
            ticks[pid] = sum(map(int, fields[11:15]))  # proc(5): utime, stime, cutime, cstime
    total, left = 0, list(roots)
    while left:
        pid = left.pop()
        total += ticks.get(pid, 0)
        left += children.get(pid, [])
    return total / os.sysconf("SC_CLK_TCK")


def starved_seconds(pid: int) -> float:
    """Return the seconds that the process's first thread has waited for a core so far (Linux); NaN if unknown."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except FileNotFoundError:
        return float("nan")
