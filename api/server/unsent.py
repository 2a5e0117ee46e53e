"""A limit on the bytes of responses that clients haven't read yet."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.problems import Overloaded
from api.user_turns import user_overloaded

_MOST = 96 * 1024 * 1024
"""Largest number of bytes of this process's long responses together. A single one may be larger, if it is alone."""
_MOST_OF_USER = 32 * 1024 * 1024
"""Largest number of bytes of one user's long responses together, with the same exception."""
_LONG = 16 * 1024
"""Bytes; responses up to this size are written in one piece and not counted."""
_SLICE = 64 * 1024
"""Bytes that are written at once: the most by which a connection's buffer exceeds its high-water mark."""
_TURN = 256 * 1024
"""Bytes that are written in one turn of the loop, in half a millisecond, if the client reads as fast as that."""
_GRACE, _SLOWEST = 30, 32 * 1024
"""Seconds in which a client must read a response, and lowest rate in bytes per second beyond them."""
_PROTECTED = 1
"""Seconds in which a new response isn't ended to make room for another one."""

_HINT = "Too many long answers at once that haven't been read: read them, then send the same request again."

_log = structlog.get_logger(__name__)


class _Answer:
    """One long response that is being sent."""

    def __init__(self, user: str, size: int, abort: Callable[[], None], now: float) -> None:
        self.user, self.size, self.abort, self.began = user, size, abort, now
        self.taken = 0

    def rate(self, now: float) -> float:
        """Return the bytes per second that the client has read so far."""
        return self.taken / max(now - self.began, 0.001)


class UnsentAnswers:
    """A process's long responses that are being sent, and their bytes in all and by user.

    Invariants: `bytes` and `_of_users` are the sums over `_answers`. A response counts with its whole body until all of
    it has been handed to the transport: the body is one object, and is freed as one. Past a user's limit, the user's
    next long response is refused. Past the process's, the response that is read slowest is ended: clients that don't
    read can't keep others from reading.
    """

    def __init__(self, most: int = _MOST, most_of_user: int = _MOST_OF_USER) -> None:
        self._most, self._most_of_user = most, most_of_user
        self._answers: set[_Answer] = set()
        self._of_users: Counter[str] = Counter()
        self.bytes = 0

    def check(self, user: str) -> None:
        """Raise `Overloaded` if the user's limit is reached already, before another response is made in vain."""
        if self._of_users and self._of_users[user] >= self._most_of_user:
            raise user_overloaded(_HINT)

    def begin(self, user: str, size: int, abort: Callable[[], None], now: float, *, done: bool = False) -> _Answer:
        """Count a response of `size` bytes. Raises `Overloaded` if the user, or the process, has too many already.

        A write that is `done` is answered all the same: its client must not take it for one that can be sent again.
        """
        if not done and self._of_users[user] + size > self._most_of_user and self._of_users[user]:
            raise user_overloaded(_HINT)
        while self.bytes + size > self._most and self._end_slowest(now):
            pass
        if not done and self.bytes + size > self._most and self.bytes:  # not by this user alone
            raise Overloaded(hint=_HINT, headers={"Retry-After": "1"})
        answer = _Answer(user, size, abort, now)
        self._answers.add(answer)
        self._of_users[user] += size
        self.bytes += size
        return answer

    def end(self, answer: _Answer) -> None:
        """Stop counting a response. A second call does nothing."""
        if answer not in self._answers:
            return
        self._answers.remove(answer)
        self.bytes -= answer.size
        self._of_users[answer.user] -= answer.size
        if not self._of_users[answer.user]:
            del self._of_users[answer.user]

    def _end_slowest(self, now: float) -> bool:
        """End the response that is read slowest, and return True; return False if all are new (`_PROTECTED`)."""
        candidates = [each for each in self._answers if now - each.began >= _PROTECTED]
        slowest = min(candidates, key=lambda each: each.rate(now), default=None)
        if slowest is None:
            return False
        _log.warning("answer cut off: too many bytes wait to be read", size=slowest.size, taken=slowest.taken)
        slowest.abort()
        self.end(slowest)
        return True


_unsent = UnsentAnswers()
"""The unsent long responses of this process."""


def require_room(user: str) -> None:
    """Raise `Overloaded` if the user has too many long responses under way to get another one."""
    _unsent.check(user)


def response(body: bytes | memoryview, headers: Mapping[str, str], media_type: str, *, done: bool = False) -> Response:
    """Make the response (200) with a user's `body`, which may have many megabytes; `done`: of a write that is done.

    It counts for the requester, whom `api.auth.authentication` has kept.
    """
    if len(body) <= _LONG:
        return Response(body, 200, headers, media_type)
    return _LongResponse(body, headers, media_type, done=done)


class _LongResponse(Response):
    """A response that is sent in slices, each after the client has read most of the earlier ones."""

    def __init__(self, body: bytes | memoryview, headers: Mapping[str, str], media_type: str, *, done: bool) -> None:
        super().__init__(body, 200, headers, media_type)
        self._done = done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - as ASGI has it
        """Send the response. Raises `Overloaded` before its head is sent, unless it is of a write that is done."""
        clock = asyncio.get_running_loop().time
        abort, closed = (scope["state"].get(each, _nothing) for each in ("abort", "closed"))
        requester = scope["state"]["requester"]
        answer = _unsent.begin(requester, len(self.body), abort, clock(), done=self._done)
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for start in range(0, len(self.body), _SLICE):
                if start and start % _TURN == 0:
                    await asyncio.sleep(0)
                if closed():
                    return  # without the end, so that the log shows it
                piece = bytes(self.body[start : start + _SLICE])
                await send({"type": "http.response.body", "body": piece, "more_body": start + _SLICE < len(self.body)})
                answer.taken += len(piece)
                if clock() - answer.began > _GRACE + answer.taken / _SLOWEST:
                    abort()
        finally:
            _unsent.end(answer)


def _nothing() -> None:
    """Do nothing: in tests, for example, there is no connection to end."""
