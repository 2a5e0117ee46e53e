"""A limit on the bytes of large request bodies in memory."""

from collections import Counter

from starlette.types import Scope

from api.problems import Overloaded
from api.user_turns import user_overloaded

_MOST = 48 * 1024 * 1024
"""Largest number of bytes of this process's large bodies together."""
_MOST_OF_USER = 16 * 1024 * 1024
"""Largest number of bytes of one user's large bodies together."""

_BODY = "daybook.large_body"
"""Key of a request's large body in its scope: its user and its size."""

_HINT = "Too many large bodies at once: send fewer at a time. Nothing was changed."


class LargeBodies:
    """A process's large bodies, in bytes: in all, and by user.

    Invariant: a body counts with its whole size from before it is read to the end of its request, as it may wait for
    its user's turn all that time.
    """

    def __init__(self, most: int = _MOST, most_of_user: int = _MOST_OF_USER) -> None:
        self._most, self._most_of_user = most, most_of_user
        self.bytes = 0
        self.of_users = Counter[str]()

    def admit(self, user: str, size: int) -> None:
        """Count a body. Raises `Overloaded` if the user, or the process, has too many already."""
        if self.of_users[user] + size > self._most_of_user:
            raise user_overloaded(_HINT)
        if self.bytes + size > self._most:
            raise Overloaded(hint=_HINT, headers={"Retry-After": "1"})
        self.of_users[user] += size
        self.bytes += size

    def release(self, user: str, size: int) -> None:
        """Count a body no more."""
        self.bytes -= size
        self.of_users[user] -= size
        if not self.of_users[user]:
            del self.of_users[user]


_bodies = LargeBodies()


def admit(scope: Scope, user: str, size: int) -> None:
    """Count a request's body in this process, once, until `release`. Raises as `LargeBodies.admit` does."""
    if _BODY not in scope:
        _bodies.admit(user, size)
        scope[_BODY] = user, size


def release(scope: Scope) -> None:
    """Count the request's body no more, if it was counted."""
    if _BODY in scope:
        _bodies.release(*scope.pop(_BODY))
