"""A semaphore for each user: a user with many requests at once waits, and other users don't."""

import asyncio


class QueueFull(Exception):
    """Too many requests of the user wait already."""


class _Semaphore(asyncio.Semaphore):
    requests = 0
    """Number of requests that hold the semaphore or wait for it."""


class UserSemaphore:
    """A semaphore for each user, with a bounded queue.

    Invariants: at most `number` requests of a user hold it, and at most `max_waiting` wait for it, in the order of
    arrival. `of_users` has an entry only while requests of the user do either.
    """

    def __init__(self, number: int, *, max_waiting: int) -> None:
        self.number, self._most = number, number + max_waiting
        self.of_users: dict[str, _Semaphore] = {}

    def locked(self, user_id: str) -> bool:
        """Say whether the user's next request would have to wait."""
        return user_id in self.of_users and self.of_users[user_id].locked()

    async def acquire(self, user_id: str) -> None:
        """Wait for the user's semaphore; the caller must `release` it. Raises `QueueFull` at once if too many wait."""
        semaphore = self.of_users.get(user_id) or self.of_users.setdefault(user_id, _Semaphore(self.number))
        if semaphore.requests >= self._most:
            raise QueueFull
        semaphore.requests += 1
        try:
            await semaphore.acquire()
        except BaseException:
            self._leave(user_id)
            raise

    def release(self, user_id: str) -> None:
        """Give the semaphore to the user's next request."""
        self.of_users[user_id].release()
        self._leave(user_id)

    def _leave(self, user_id: str) -> None:
        self.of_users[user_id].requests -= 1
        if not self.of_users[user_id].requests:
            del self.of_users[user_id]
