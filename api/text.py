"""Rules for text that may be stored and shown, as functions and as patterns for the OpenAPI document."""

import re
from typing import Any

# Clients get these patterns, so they use only the common part of regex dialects: no named classes, nothing past the
# Basic Multilingual Plane.
_NO_CONTROL = r"[^\x00-\x08\x0b-\x1f\x7f-\x9f]|\r\n"
_INVISIBLE = (
    r"\x00-\x20\x7f-\xa0"  # controls and white space
    r"\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f"
    r"\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
)
"""White_Space, controls (Cc), format characters (Cf) and Default_Ignorable_Code_Point of Unicode 16, and U+2800, the
braille pattern without a dot."""
_INVISIBLE_BEYOND = (
    r"\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Invisible characters, as in `_INVISIBLE`, past the Basic Multilingual Plane."""

WITHOUT_NUL = r"^[^\x00]*$"
WITHOUT_CONTROLS = rf"^(?:{_NO_CONTROL})*$"
LINE = r"^[^\x00-\x1f\x7f-\x9f]*$"
VISIBLE_LINE = rf"^[^\x00-\x1f\x7f-\x9f]*[^{_INVISIBLE}][^\x00-\x1f\x7f-\x9f]*$"
VISIBLE = rf"^(?:{_NO_CONTROL})*[^{_INVISIBLE}](?:{_NO_CONTROL})*$"

_control = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f](?!(?<=\r)\n)").search  # the class first: thrice as fast
_any_control = re.compile(r"[\x00-\x1f\x7f-\x9f]").search
_visible = re.compile(f"[^{_INVISIBLE}{_INVISIBLE_BEYOND}]").search


def without_nul(text: str) -> str:
    """Raise `ValueError` for a NUL, which Postgres can't store. Pydantic has refused lone surrogates by then."""
    if "\0" in text:
        raise ValueError("must not contain the NUL character")
    return text


def without_controls(value: Any) -> Any:
    """Raise `ValueError` for control characters other than tabs and line ends; pass on a value that is no text."""
    if isinstance(value, str) and (found := _control(value)):
        raise ValueError(f"must not contain control characters (U+{ord(found[0]):04X})")
    return value


def on_one_line(value: Any) -> Any:
    """Raise `ValueError` for any control character; pass on a value that is no text."""
    if isinstance(value, str) and (found := _any_control(value)):
        raise ValueError(f"must not contain control characters (U+{ord(found[0]):04X})")
    return value


def visible(text: str) -> str:
    """Raise `ValueError` for text without a visible character."""
    if not _visible(text):
        raise ValueError("must hold something visible")
    return text
