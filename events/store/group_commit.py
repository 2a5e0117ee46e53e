"""Group commit: events that arrive while an append is in flight go together in the next one (docs/adr/0016)."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from db.batching import MAX_BATCH, NUMBER, BatchWorkers, full
from db.errors import NOT_SENT, UNAVAILABLE, CannotConnect, TooManyRequests
from db.pool import Pool
from db.turns import overloaded
from events.store import log
from events.store.log import IdempotencyKeyTaken, PendingAppend, RecordedEvent, VersionTaken
from telemetry import metrics

_APART = 1.0
"""Seconds for which a user gets statements of their own, after their event made a shared statement fail."""


@dataclass(eq=False, slots=True)
class _Waiting:
    pending: PendingAppend
    outcome: asyncio.Future[RecordedEvent]
    deadline: float


@dataclass(eq=False, slots=True)
class _Chosen:
    """The events of one statement, and their users.

    `failed`: an earlier statement with them was refused. `slow`: users marked as slow while this statement takes long.
    """

    waiting: Sequence[_Waiting]
    users: set[str]
    failed: bool = False
    slow: set[str] = field(default_factory=set)


class GroupCommit:
    """The queue of this process's appends to the log of one database.

    Invariants: no event waits for another user's lock. Users take turns. A user's events that arrive together go in one
    statement, or in two. A user has at most two statements in flight, and on a sharded database none with other users.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._workers = BatchWorkers(
            pool.size if pool.sharded else NUMBER, self._choose, self._do, on_long=self._is_slow
        )
        self._queues: dict[str, deque[_Waiting]] = {}
        """Waiting events by user, in the order of the users' turns."""
        self._writing: set[str] = set()
        """Users with a statement in flight: events that arrive meanwhile go together in the next one."""
        self._slow: set[str] = set()
        """Users of a statement that takes long: a second one may run beside it, but no third."""
        self._alone: dict[str, bool] = {}
        """Users whose next events go in a statement of their own; true if a shared statement with them failed."""
        self._apart: dict[str, float] = {}
        """Users who get only statements of their own, and the loop time at which that ends: soonest first."""
        self._admitted = 0
        self._timer: asyncio.TimerHandle | None = None

    async def append(self, pending: PendingAppend) -> RecordedEvent:
        """Append an event as `log.append` does, together with events that other callers append at that time.

        Raise the errors of `log.append`. `TooManyRequests`, `DatabaseUnavailable` and `CannotConnect` mean that nothing
        was sent. After any other of `UNAVAILABLE`, or if the caller is cancelled, the event may be in the log.
        """
        if full(self._pool, self._admitted) and not self._made_room(pending.event.user_id):
            raise overloaded(f"{self._admitted} writes wait for the database already")
        loop = asyncio.get_running_loop()
        waiting = _Waiting(pending, loop.create_future(), loop.time() + self._pool.timeout)
        self._queues.setdefault(pending.event.user_id, deque()).append(waiting)
        self._admitted += 1
        self._workers.wake()
        if self._timer is None:
            self._timer = loop.call_at(waiting.deadline, self._refuse_late)
        try:
            # Cancelling the caller cancels this future, and an event that wasn't sent yet is then skipped.
            return await waiting.outcome
        finally:
            self._admitted -= 1

    def _is_slow(self, chosen: "_Chosen") -> None:
        chosen.slow = chosen.users - self._slow
        self._slow |= chosen.slow
        self._writing -= chosen.slow

    async def _do(self, chosen: "_Chosen") -> None:
        await self._write(chosen)
        self._writing -= chosen.users - chosen.slow
        self._slow -= chosen.slow
        if self._queues:
            self._workers.wake()

    def _made_room(self, user: str) -> bool:
        """Refuse the last event of the longest queue, if this user's stays shorter; say if that made room."""
        longest = max(self._queues.values(), key=len, default=deque())
        if len(longest) <= len(self._queues.get(user, ())) + 1:
            return False
        _fail([longest.pop()], overloaded("others wait too, with fewer writes"))
        return True

    def _choose(self) -> "_Chosen | None":
        """Choose the next statement's events: one of each user in turn, then another of each, while there is room."""
        turns = self._turns()
        if not turns:
            return None
        failed = self._alone.pop(turns[0], False)
        chosen: list[_Waiting] = []
        taken: set[tuple[str, object]] = set()
        more = True
        while more:
            more = False
            for user in turns:
                if len(chosen) < MAX_BATCH and (waiting := self._take(user, taken)):
                    chosen.append(waiting)
                    more = True
        for user in turns:
            queue = self._queues.pop(user)
            if queue:
                self._queues[user] = queue  # the user's next turn comes after all others'
        self._writing.update(turns)
        return _Chosen(chosen, set(turns), failed=failed)

    def _turns(self) -> list[str]:
        """Return the users of the next statement; each has an event with a caller that still waits."""
        now = asyncio.get_running_loop().time()
        while self._apart and (first := next(iter(self._apart.items())))[1] <= now:
            del self._apart[first[0]]
        turns: list[str] = []
        for user in [user for user in self._queues if user not in self._writing]:
            if not _still_waiting(self._queues[user]):
                del self._queues[user]
                self._alone.pop(user, None)
            elif self._pool.sharded or user in self._alone or user in self._apart:
                if not turns:
                    return [user]
            else:
                turns.append(user)
                if len(turns) == MAX_BATCH:
                    break
        return turns

    def _take(self, user: str, taken: set[tuple[str, object]]) -> _Waiting | None:
        """Take the user's next event, unless one with its task or idempotency key is taken: only one can be written."""
        queue = _still_waiting(self._queues[user])
        if not queue:
            return None
        event = queue[0].pending.event
        marks = {(user, event.task_id), (user, event.metadata.idempotency_key or event.task_id)}
        if taken & marks:
            return None
        taken |= marks
        return queue.popleft()

    async def _write(self, chosen: "_Chosen") -> None:
        alone = len(chosen.users) == 1
        if len(chosen.waiting) == 1:
            await self._one(chosen.waiting[0], failed=chosen.failed)
            return
        try:
            await self._together(chosen.waiting, alone=alone)
        except UNAVAILABLE as error:
            _fail(chosen.waiting, error)
        except Exception:  # noqa: BLE001 - appending one by one finds the event at fault, and its error
            if alone:
                for each in chosen.waiting:
                    await self._one(each, failed=chosen.failed)
            else:
                for each in reversed(chosen.waiting):
                    self._again(each, failed=True)

    def _again(self, waiting: _Waiting, *, failed: bool) -> None:
        """Queue an unwritten event first, in a statement of its user's own, so that no other user waits for it."""
        user = waiting.pending.event.user_id
        self._alone[user] = failed
        self._queues.setdefault(user, deque()).appendleft(waiting)

    async def _together(self, chosen: Sequence[_Waiting], *, alone: bool) -> None:
        sent = False
        try:
            async with self._pool.acquire() as on:
                sent = True
                written = await log.append_many(on, [each.pending for each in chosen], wait=alone)
        except UNAVAILABLE as error:
            raise error if sent else _not_sent(error) from error
        for each in reversed(chosen):
            entry = written.get(each.pending.event.id)
            if entry:
                self._succeed(each, entry)
            else:  # the user has no stream yet, or another process holds its lock
                self._again(each, failed=False)

    async def _one(self, waiting: _Waiting, *, failed: bool) -> None:
        if waiting.outcome.done():  # the caller gave up, and the event isn't in the log
            return
        pending, sent = waiting.pending, False
        try:
            async with self._pool.acquire() as on:
                sent = True
                entry = await log.append(on, pending.event, pending.task, on_row=pending.on_row)
        except UNAVAILABLE as error:
            _fail([waiting], error if sent else _not_sent(error))
        except Exception as error:  # noqa: BLE001 - it is raised in the caller of `append`
            if failed:  # so this event made the shared statement fail
                user = pending.event.user_id
                self._apart.pop(user, None)
                self._apart[user] = asyncio.get_running_loop().time() + _APART
            _fail([waiting], error)
        else:
            self._succeed(waiting, entry)

    def _succeed(self, waiting: _Waiting, entry: RecordedEvent) -> None:
        if not waiting.outcome.done():
            waiting.outcome.set_result(entry)
        event = entry.event
        for other in self._queues.get(event.user_id, ()):
            of = other.pending.event
            if of.task_id == event.task_id and of.version == event.version:
                _fail([other], VersionTaken("a moment ago"))
            elif (
                of.metadata.idempotency_key is not None
                and of.metadata.idempotency_key == event.metadata.idempotency_key
            ):
                _fail([other], IdempotencyKeyTaken("a moment ago"))

    def _refuse_late(self) -> None:
        """Refuse unsent events that are past their deadline, and set the timer for the next deadline."""
        loop = asyncio.get_running_loop()
        waiting = [each for queue in self._queues.values() for each in queue if not each.outcome.done()]
        late = [each for each in waiting if each.deadline <= loop.time()]
        if late:
            metrics.REFUSALS.labels("overloaded").inc(len(late))
            _fail(late, TooManyRequests(f"it wasn't this write's turn for {self._pool.timeout:g} s"))
        rest = [each.deadline for each in waiting if not each.outcome.done()]
        self._timer = loop.call_at(min(rest), self._refuse_late) if rest else None


def _still_waiting(queue: deque[_Waiting]) -> deque[_Waiting]:
    """Drop the events at the front with callers that gave up, and return the queue."""
    while queue and queue[0].outcome.done():
        queue.popleft()
    return queue


def _fail(waiting: Sequence[_Waiting], error: BaseException) -> None:
    for each in waiting:
        if not each.outcome.done():
            each.outcome.set_exception(error)


def _not_sent(error: Exception) -> Exception:
    """Turn an error from before the statement was sent into one of `NOT_SENT`, if it isn't one already."""
    return error if isinstance(error, NOT_SENT) else CannotConnect(str(error) or repr(error))
