"""Bounds on the connections of a process: in all, and from one address."""

import resource
import time
from collections import Counter

import structlog

_MOST = 4096
"""Connections of a process. An idle one takes 11 KB; one whose client doesn't read its answer, up to 128 KiB more."""
_KEPT_BACK = 128
"""File descriptors for the database, logs, and newcomers that are being told that there is no room."""
_TOLD = 64
"""Newcomers past the bound that are told so at a time. Any more are closed without an answer."""
_LOGGED_EVERY = 60
"""Seconds between two lines in the log."""

_log = structlog.get_logger(__name__)


class Connections:
    """Counts a process's open connections, and says which newcomer there is no room for.

    One address may have half of them: enough for many people behind one proxy or gateway that nobody named as trusted,
    and never all that there are.
    """

    def __init__(self) -> None:
        self._open = 0
        self._by_address: Counter[str] = Counter()
        self._refused = 0
        self._logged = -float(_LOGGED_EVERY)

    def add(self, address: str | None, *, trusted: bool) -> bool:
        """Count a connection, and say whether there is room for it."""
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
        """Say whether there are descriptors left for a newcomer to wait for its refusal."""
        return self._open <= largest() + _TOLD

    def _log_refusal(self, address: str | None, most: int) -> None:
        self._refused += 1
        now = time.monotonic()
        if now - self._logged >= _LOGGED_EVERY:
            self._logged = now
            _log.warning("connections refused", refused=self._refused, open=self._open, most=most, address=address)
            self._refused = 0


def largest() -> int:
    """The most connections of a process, as far as its file descriptors go."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST
    return max(min(_MOST, soft - _KEPT_BACK), 1)


CONNECTIONS = Connections()
"""Those of this process."""
