"""Times and dates as clients send them."""

import re
from datetime import UTC, date, datetime
from typing import Any

from events.serialization import rfc3339

_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d+)?([Zz]|[ +-]\d\d:\d\d)", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def read_moment(value: Any) -> datetime:
    """Read an RFC 3339 time of any offset as UTC, cut off after microseconds; a space counts as the offset's plus.

    Raise `ValueError`.
    """
    try:
        day, time, fraction, zone = _RFC3339.fullmatch(value).groups()  # type: ignore[union-attr] # no match: caught below
        found = datetime.fromisoformat(f"{day}T{time}{(fraction or '')[:7]}{zone.upper().replace(' ', '+')}")
        return found.astimezone(UTC)
    except (AttributeError, TypeError, ValueError, OverflowError):
        raise ValueError("must be a time with its offset, as in RFC 3339: 2026-11-20T19:24:49.076369Z") from None


def read_due_date(value: Any) -> str | None:
    """Read a date, which stays one in any zone, or a moment, which is written in UTC with six decimals.

    Null and empty text, as an empty input sends it, mean that there is none. Raise `ValueError`.
    """
    if value is None or value == "":
        return None
    try:
        if isinstance(value, str) and _DATE.fullmatch(value):
            return date.fromisoformat(value).isoformat()
        return rfc3339(read_moment(value))
    except ValueError:
        raise ValueError(
            "must be a date (2026-12-01), or a time with its offset from UTC (2026-12-01T18:00:00Z)"
        ) from None
