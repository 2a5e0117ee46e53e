"""Reader of `.env`, lines NAME=value: an unreadable one must stop a start, else its setting would silently be unset."""

import codecs
import io
import os
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from config.errors import BadSettings

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def values(path: Path) -> Mapping[str, str | None]:
    """Read the file's names and values (`None`: it has no `=`), once, since it may be a pipe. A missing one has none.

    Raises `BadSettings` if a line can't be read.
    """
    if path.is_symlink() and not os.path.exists(path):  # noqa: PTH110 - also if its links lead in a circle
        raise BadSettings(f"{path}: is a link to what isn't there; mend or remove it.")
    if path.is_dir():
        raise BadSettings(
            f"{path}: is a folder, not a file (Docker makes one where it mounts a file that isn't there); remove it."
        )
    return _read(path) if path.is_file() or path.is_fifo() else {}


def _read(path: Path) -> Mapping[str, str | None]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadSettings(f"{path}: can't be read: {error.strerror}.") from error
    if content.startswith(_UTF_16) or b"\0" in content:
        raise BadSettings(
            f"{path}: is UTF-16, or no text; save it as UTF-8 (in PowerShell: Set-Content -Encoding utf8)."
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BadSettings(f"{path}: line {line} isn't UTF-8; save the file as UTF-8.") from error
    for binding in parse_stream(io.StringIO(text)):
        if binding.error:
            raise BadSettings(
                f"{path}: line {binding.original.line} can't be read; write NAME=value, and close what a quote opens."
            )
    return dotenv_values(stream=io.StringIO(text))
