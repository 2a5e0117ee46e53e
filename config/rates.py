"""Rates of requests, as RATE_LIMIT gives them."""

import re
from typing import NamedTuple

_RATE = re.compile(r"(user|address):([1-9]\d{0,6})/([1-9]\d{0,6})", re.ASCII)


class Rate(NamedTuple):
    """So many requests in so many seconds, which may also come at once."""

    requests: int
    seconds: int


class Rates(NamedTuple):
    """The rates of each user and of each address; `None`: unlimited."""

    user: Rate | None = None
    address: Rate | None = None

    @property
    def longest(self) -> int:
        """The largest number of seconds; 0 if all are unlimited."""
        return max((each.seconds for each in self if each), default=0)


def parse_rates(text: str) -> Rates:
    """Read `user:300/60,address:1200/60`, or one of the two. Raises `ValueError`."""
    found: dict[str, Rate] = {}
    for part in text.split(","):
        match = _RATE.fullmatch(part.strip())
        if not match or match[1] in found:
            raise ValueError("must be requests and seconds for each user, address or both: user:300/60,address:1200/60")
        found[match[1]] = Rate(int(match[2]), int(match[3]))
    return Rates(**found)
