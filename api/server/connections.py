"""Limits on the open connections of a process: in all, and from one address."""

import resource
import time
from collections import Counter

import structlog

_MOST = 4096
"""Largest number of connections of a process. An idle one takes 11 KB; an unread response, up to 128 KiB more."""
_KEPT_BACK = 128
"""File descriptors kept for the database, logs, and connections that get a refusal."""
_TOLD = 64
"""Connections past the limit that get a refusal at a time. Others are closed without a response."""
_LOGGED_EVERY = 60
"""Seconds between two log lines about refused connections."""

_log = structlog.get_logger(__name__)


class Connections:
    """Count of a process's open connections, by which a new one is accepted or refused.

    Each connection is added once and removed once, and counts in between even if it was refused. One address may have
    half of them: enough for many people behind one proxy or gateway that isn't configured as trusted, and never all
    of them. Trusted addresses have no limit of their own.
    """

    def __init__(self) -> None:
        self._open = 0
        self._by_address: Counter[str] = Counter()
        self._refused = 0
        self._logged = -float(_LOGGED_EVERY)

    def add(self, address: str | None, *, trusted: bool) -> bool:
        """Count a connection, and say if there is room for it."""
        self._open += 1
        if address is not None:
            self._by_address[address] += 1
        most = largest()
        if self._open <= most and (address is None or trusted or self._by_address[address] <= most // 2):
            return True
        self._log_refusal(address, most)
        return False

    def remove(self, address: str | None) -> None:
        """Stop counting a connection."""
        self._open -= 1
        if address is not None:
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]

    def may_be_told(self) -> bool:
        """Say if a descriptor is left for a connection to wait for its refusal."""
        return self._open <= largest() + _TOLD

    def _log_refusal(self, address: str | None, most: int) -> None:
        self._refused += 1
        now = time.monotonic()
        if now - self._logged >= _LOGGED_EVERY:
            self._logged = now
            _log.warning("connections refused", refused=self._refused, open=self._open, most=most, address=address)
            self._refused = 0


def largest() -> int:
    """Return the largest number of connections that the process's file descriptors allow."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST
    return max(min(_MOST, soft - _KEPT_BACK), 1)


CONNECTIONS = Connections()
"""The connections of this process."""
