"""Load by wrk: many connections at little cost, with requests that were made beforehand."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.machine import tree_cpu_seconds

_SCRIPT = Path(__file__).with_name("wrk.lua")
_TIMEOUT = 30
"""Seconds in which an answer must come."""


class Failed(Exception):
    """A program is missing, or an answer wasn't 2xx or 304, or isn't of the size that it must be, or none came."""


@dataclass(frozen=True, slots=True)
class Load:
    """What came of a run. Waits in microseconds, from sending to the answer's end (a closed loop)."""

    rate: float
    """Answers a second."""
    p50: int
    p99: int
    longest: int
    cpu: float
    """Seconds of the processor for each answer."""


def program() -> str:
    """Return the path of wrk. Raises `Failed`."""
    found = shutil.which("wrk")
    if found is None:
        raise Failed("wrk isn't installed: `apt install wrk`, or your system's package of this name")
    return found


def write(file: Path, requests: Sequence[bytes]) -> Path:
    """The file that `run` sends."""
    file.write_bytes(b"".join(b"%d\n%b" % (len(each), each) for each in requests))
    return file


def run(
    port: int,
    requests: Path,
    *,
    connections: int,
    seconds: float,
    size: int,
    once: bool = False,
    processes: Sequence[int],
) -> Load:
    """Send the requests in turn for so long, or with `once` each one time at most.

    If no answer comes in that time, they are sent for 30 seconds. `size` is about what one answer has in bytes, 0
    where they differ. `processes` are those whose processor time is counted, with their descendants'. Raises `Failed`.
    """
    arguments = [
        "-t1",
        f"-c{connections}",
        f"-d{seconds:g}s",
        "--timeout",
        f"{_TIMEOUT}s",
        "-s",
        str(_SCRIPT),
        f"http://127.0.0.1:{port}",
    ]
    command = [program(), *arguments, "--", str(requests), *["once"] * once]
    before = tree_cpu_seconds(*processes)
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    cpu = tree_cpu_seconds(*processes) - before
    found = json.loads(printed.splitlines()[-1])
    if found["refused"] or found["broken"] or (not found["requests"] and (once or seconds >= _TIMEOUT)):
        raise Failed(f"{requests.name}: {found}")
    if not found["requests"]:
        return run(
            *(port, requests), connections=connections, seconds=_TIMEOUT, size=size, once=once, processes=processes
        )
    each = found["bytes"] / found["requests"]
    if size and not size / 3 < each < 3 * size:
        raise Failed(f"{requests.name}: answers have {each:.0f} bytes, not {size}")
    rate = found["requests"] / found["us"] * 1e6
    return Load(rate, found["p50"], found["p99"], found["max"], cpu / found["requests"])
