"""Load by wrk (Debian's package): many connections at little cost, with requests that were made beforehand."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_SCRIPT = Path(__file__).with_name("wrk.lua")


class Failed(Exception):
    """An answer wasn't 2xx or 304, or isn't of the size that it must be, or none came."""


@dataclass(frozen=True, slots=True)
class Load:
    """What came of a run. Waits in microseconds, from sending to the answer's end (a closed loop)."""

    rate: float
    """Answers a second."""
    p50: int
    p99: int
    longest: int


def write(file: Path, requests: Sequence[bytes]) -> Path:
    """The file that `run` sends."""
    file.write_bytes(b"".join(b"%d\n%b" % (len(each), each) for each in requests))
    return file


def run(port: int, requests: Path, *, connections: int, seconds: float, size: int, once: bool = False) -> Load:
    """Send the requests in turn for so long, or with `once` each one time at most.

    `size` is about what one answer has in bytes, 0 where they differ. Raises `Failed`.
    """
    arguments = [
        "-t1",
        f"-c{connections}",
        f"-d{seconds:g}s",
        "--timeout",
        "30s",
        "-s",
        str(_SCRIPT),
        f"http://127.0.0.1:{port}",
    ]
    wrk = shutil.which("wrk")
    if wrk is None:
        raise Failed("wrk isn't installed; it is a package of Debian's and others'")
    printed = subprocess.run(
        [wrk, *arguments, "--", str(requests), *["once"] * once], capture_output=True, text=True, check=True
    ).stdout
    found = json.loads(printed.splitlines()[-1])
    if found["refused"] or found["broken"] or not found["requests"]:
        raise Failed(f"{requests.name}: {found}")
    each = found["bytes"] / found["requests"]
    if size and not size / 3 < each < 3 * size:
        raise Failed(f"{requests.name}: answers have {each:.0f} bytes, not {size}")
    return Load(found["requests"] / found["us"] * 1e6, found["p50"], found["p99"], found["max"])
