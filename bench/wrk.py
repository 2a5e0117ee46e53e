"""Load by wrk, a closed loop over many connections, with requests from a file."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.machine import tree_cpu_seconds

_SCRIPT = Path(__file__).with_name("wrk.lua")
_TIMEOUT = 30
"""Seconds in which a response must come."""


class Failed(Exception):
    """A program is missing or failed, no response came, or one has a wrong status or length."""


@dataclass(frozen=True, slots=True)
class Load:
    """Throughput and latencies of a round. Latencies are microseconds from sending to the end of the response."""

    rate: float
    """Responses a second."""
    p50: int
    p99: int
    longest: int
    cpu: float
    """Processor seconds for each response."""


def program() -> str:
    """Return the path of wrk. Raises `Failed`."""
    found = shutil.which("wrk")
    if found is None:
        raise Failed("wrk isn't installed: `apt install wrk`, or your system's package of this name")
    return found


def write(file: Path, requests: Sequence[bytes]) -> Path:
    """Write the file of requests that `run` sends, and return its path."""
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
    """Send the requests in turn for `seconds`, or with `once` each one time at most. Raises `Failed`.

    If no response comes in that time, they are sent once more for 30 seconds. `size` is the approximate length of a
    response in bytes, 0 if lengths differ. The processor time of `processes` and their descendants is counted.
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
        raise Failed(f"{requests.name}: responses have {each:.0f} bytes, not {size}")
    rate = found["requests"] / found["us"] * 1e6
    return Load(rate, found["p50"], found["p99"], found["max"], cpu / found["requests"])
