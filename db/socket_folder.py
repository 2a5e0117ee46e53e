"""The folder of the embedded server's socket, whose path the system bounds."""

import hashlib
import os
import re
import tempfile
from pathlib import Path

_LONGEST_SOCKET_PATH = 100  # bytes; sun_path holds 104 on macOS, 108 on Linux
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._~ @+-]+")
"""A path that needs no escape in an address, nor in a list of hosts or folders, which commas separate."""


def socket_folder(data: Path) -> Path:
    """Return the data folder if its path is plain and short enough for a socket, else one under a temporary folder."""
    if _holds_sockets(data):
        return data
    name = f"daybook-{os.geteuid()}-{hashlib.sha256(os.fsencode(data)).hexdigest()[:16]}"
    chosen = Path(tempfile.gettempdir()) / name
    return chosen if _holds_sockets(chosen) else Path("/tmp") / name  # noqa: S108 - its owner is checked


def _holds_sockets(folder: Path) -> bool:
    path = str(folder / ".s.PGSQL.5432")
    return len(path) <= _LONGEST_SOCKET_PATH and _PLAIN_PATH.fullmatch(path) is not None
