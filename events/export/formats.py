"""Hints for a file that is no export: its likely format, by its first bytes, and how to get an export instead."""

import codecs
from typing import BinaryIO

import orjson

MARK = codecs.BOM_UTF8
"""Byte order mark that some editors and shells put before UTF-8. Readers skip it."""

AGAIN = "export with ?format=ndjson"
_BEGINNINGS: tuple[tuple[tuple[bytes, ...], str], ...] = (
    (
        (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, b"{\0", b"\0{"),
        "it is UTF-16, as PowerShell's > writes; save it with curl --output FILE, or convert it to UTF-8",
    ),
    ((b"\x1f\x8b", b"PK\x03\x04", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ"), "it is compressed; unpack it first"),
    ((b'"seq",', b"seq,"), f"it is CSV; {AGAIN}"),
    ((b"<",), f"it is a web page, or XML; look whose answer it is, and {AGAIN}"),
    ((b"[", b"{\n", b"{\r\n"), f"it is JSON, such as a page of /audit; {AGAIN}"),
)
_LONGEST_ANSWER = 1 << 24
"""Largest number of bytes read of an answer."""


def form(file: BinaryIO) -> str:
    """Tell the likely format of a file that has no line with an event."""
    file.seek(0)
    text = file.read(_LONGEST_ANSWER)
    answer = _answer(text.removeprefix(MARK))
    return answer or by_beginning(text) or "an export is NDJSON, in UTF-8, as it came"


def by_beginning(text: bytes) -> str | None:
    """Tell the format that the first bytes show, if it is a known one that isn't NDJSON."""
    begins = text.removeprefix(MARK).lstrip()
    return next((found for beginnings, found in _BEGINNINGS if begins.startswith(beginnings)), None)


def _answer(text: bytes) -> str | None:
    """Quote the service's error if the file is one (docs/http-api.md, "Errors"), or say that the file is other JSON."""
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if isinstance(document, dict) and "detail" in document:
        return f"the service answered {str(document.get('hint') or document['detail'])!r} instead"
    return f"it is JSON, such as a page of /audit; {AGAIN}"
