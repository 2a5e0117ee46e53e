"""A bound on the bytes of answers that clients haven't taken yet."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.problems import Overloaded

_MOST = 96 * 1024 * 1024
"""Bytes of this process's long answers. One more answer may begin if there are fewer."""
_MOST_OF_USER = 32 * 1024 * 1024
"""The same, for one user."""
_LONG = 16 * 1024
"""Bytes; shorter answers are written in one piece and not counted."""
_SLICE = 64 * 1024
"""Bytes that are written at once: the most that a connection's buffer holds beyond its high-water mark."""
_GRACE, _SLOWEST = 30, 32 * 1024
"""Seconds, and bytes per second beyond them, in which a client must take an answer."""
_PROTECTED = 1
"""Seconds in which a new answer isn't ended to make room for another one."""

_log = structlog.get_logger(__name__)


class _Answer:
    """One long answer that is being sent."""

    def __init__(self, user: str, size: int, abort: Callable[[], None], now: float) -> None:
        self.user, self.size, self.abort, self.began = user, size, abort, now
        self.taken = 0

    def rate(self, now: float) -> float:
        """Bytes per second that the client has taken so far."""
        return self.taken / max(now - self.began, 0.001)


class UnsentAnswers:
    """The long answers of a process that are being sent, and their bytes in all and by user.

    An answer counts with its whole body until all of it has been handed to the transport: the body is one object, and
    is freed as one. Past a user's share, the user's next long answer is refused. Past the process's, the answer whose
    client reads slowest is ended, so that clients that don't read can't keep others from reading.
    """

    def __init__(self, most: int = _MOST, most_of_user: int = _MOST_OF_USER) -> None:
        self._most, self._most_of_user = most, most_of_user
        self._answers: set[_Answer] = set()
        self._of_users: Counter[str] = Counter()
        self.bytes = 0

    def check(self, user: str) -> None:
        """Raise `Overloaded` if the user's share is used up already, before another answer is made in vain."""
        if self._of_users and self._of_users[user] >= self._most_of_user:
            raise _unread()

    def begin(self, user: str, size: int, abort: Callable[[], None], now: float) -> _Answer:
        """Count an answer of `size` bytes to `user`. Raises `Overloaded` if the user has too many already."""
        if self._of_users[user] + size > self._most_of_user and self._of_users[user]:
            raise _unread()
        while self.bytes + size > self._most and self._end_slowest(now):
            pass
        if self.bytes + size > self._most and self.bytes:
            raise _unread()
        answer = _Answer(user, size, abort, now)
        self._answers.add(answer)
        self._of_users[user] += size
        self.bytes += size
        return answer

    def end(self, answer: _Answer) -> None:
        """Stop counting an answer. A second call does nothing."""
        if answer not in self._answers:
            return
        self._answers.remove(answer)
        self.bytes -= answer.size
        self._of_users[answer.user] -= answer.size
        if not self._of_users[answer.user]:
            del self._of_users[answer.user]

    def _end_slowest(self, now: float) -> bool:
        """End the answer whose client reads slowest, if one isn't new."""
        candidates = [each for each in self._answers if now - each.began >= _PROTECTED]
        slowest = min(candidates, key=lambda each: each.rate(now), default=None)
        if slowest is None:
            return False
        _log.warning("answer cut off: too many bytes wait to be read", size=slowest.size, taken=slowest.taken)
        slowest.abort()
        self.end(slowest)
        return True


def _unread() -> Overloaded:
    hint = "Too many long answers at once that haven't been read: read them, then send the same request again."
    return Overloaded(hint=hint, headers={"Retry-After": "1"})


_unsent = UnsentAnswers()
"""Those of this process."""


def check(user: str) -> None:
    """Raise `Overloaded` if the user has too many long answers under way to be given another one."""
    _unsent.check(user)


def response(body: bytes, headers: Mapping[str, str], media_type: str) -> Response:
    """Make the answer for a user's `body`, which may be of many megabytes."""
    kind = Response if len(body) <= _LONG else _LongResponse
    return kind(body, 200, headers, media_type)


class _LongResponse(Response):
    """An answer that is sent in slices, each after the client has taken most of those before."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - as ASGI has it
        """Send the answer. Raises `Overloaded` before its head."""
        clock = asyncio.get_running_loop().time
        abort = scope["state"].get("abort", _nothing)
        answer = _unsent.begin(scope["path_params"]["user_id"], len(self.body), abort, clock())
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for start in range(0, len(self.body), _SLICE):
                piece = bytes(self.body[start : start + _SLICE])
                await send({"type": "http.response.body", "body": piece, "more_body": start + _SLICE < len(self.body)})
                answer.taken += len(piece)
                if clock() - answer.began > _GRACE + answer.taken / _SLOWEST:
                    abort()  # nothing of the rest is sent, then
        finally:
            _unsent.end(answer)


def _nothing() -> None:
    """Do nothing: without a connection, as in tests, there is none to end."""
