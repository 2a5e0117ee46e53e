"""Time slices for work that keeps the event loop busy: one at a time, each only when nothing else is ready."""

import asyncio
import time
from collections.abc import Callable
from weakref import WeakKeyDictionary

from db.turns import FairQueue

_SLICE = 0.001
"""Seconds of work before other tasks run: a request's wait, each time that it needs the loop."""
_IDLE = 0.0002
"""Longest turn of the loop, in seconds, if nothing was ready."""
_LONGEST_WAIT = 0.02
"""Seconds after which the next slice begins, no matter how busy the loop is."""
_SLICE_AFTER_WAIT = 0.004
"""Seconds of a slice that waited so long: a sixth of a busy loop is left for long work."""


class TimeSlices:
    """Slices of one piece of a user's work. Make one at the beginning of the work.

    `locked`: the work holds a lock or a connection, for which others may wait. So it doesn't wait until nothing else is
    ready, but gives others as much time as it takes: it takes twice as long at most, however busy the loop is.
    `others_wait`: says whether that is so now, of work that holds something only at times.
    """

    def __init__(self, user_id: str, *, locked: bool = False, others_wait: Callable[[], bool] | None = None) -> None:
        self._user_id, self._locked, self._others_wait = user_id, locked, others_wait
        self._since, self._length = time.perf_counter(), _SLICE

    def restart(self) -> None:
        """Begin the slice anew. Call it after a wait for the database: others had that time."""
        self._since = time.perf_counter()

    async def pause(self) -> None:
        """Let other tasks run if the slice is over. Call it between any two small steps.

        If several pieces of work are under way, users take turns, slice by slice.
        """
        taken = time.perf_counter() - self._since
        if taken <= self._length:
            return
        if self._locked or (self._others_wait is not None and self._others_wait()):
            await _until_idle(longest=min(taken, _LONGEST_WAIT))
            self._since = time.perf_counter()
        else:
            await self.next_slice()

    async def next_slice(self) -> None:
        """Wait for the next slice in any case, also for the first. Call it before a long step that can't be divided."""
        scheduler = _schedulers.setdefault(asyncio.get_running_loop(), _Scheduler())
        self._length = await scheduler.next_slice(self._user_id)
        self._since = time.perf_counter()


class _Scheduler:
    """The scheduler of one event loop: it says when the next slice of work may begin."""

    def __init__(self) -> None:
        self._waiting = FairQueue[asyncio.Future[float]]()
        self._task: asyncio.Task[None] | None = None

    async def next_slice(self, user_id: str) -> float:
        """Wait for the next slice, and return its length in seconds."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[float] = loop.create_future()
        self._waiting.put(user_id, turn)
        if self._task is None:
            self._task = loop.create_task(self._run())
        return await turn

    async def _run(self) -> None:
        try:
            while self._waiting:
                idle = await _until_idle(longest=_LONGEST_WAIT)
                turn = self._waiting.take(next(iter(self._waiting)))
                if not turn.done():  # else it was cancelled
                    turn.set_result(_SLICE if idle else _SLICE_AFTER_WAIT)
                    await asyncio.sleep(0)  # the slice runs meanwhile
        finally:
            self._task = None
            self._waiting = FairQueue()  # of a loop that ends, else empty by now


async def _until_idle(*, longest: float) -> bool:
    """Wait until nothing else is ready, or for so many seconds. Return whether nothing was."""
    now = time.perf_counter()
    end = now + longest
    while now < end:
        before = now
        await asyncio.sleep(0)
        now = time.perf_counter()
        if now - before < _IDLE:
            return True
    return False


_schedulers: WeakKeyDictionary[asyncio.AbstractEventLoop, _Scheduler] = WeakKeyDictionary()
