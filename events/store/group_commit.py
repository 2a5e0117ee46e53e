"""Group commit: events that come while two appends run, or one of their user, go together (docs/adr/0016)."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from db import deadline
from db.batching import MAX_BATCH, NUMBER, BatchWorkers, full
from db.errors import NOT_SENT, UNAVAILABLE, CannotConnect
from db.pool import Pool
from db.servers import Server
from db.turns import FairQueue, overloaded
from events.store.append import RESOLVE_SECONDS, AppendResult, PendingAppend, RecordedEvent, StreamBusy, append


@dataclass(eq=False, slots=True)
class _Waiting:
    pending: PendingAppend
    server: Server | None
    outcome: asyncio.Future[RecordedEvent]
    deadline: float
    timer: asyncio.TimerHandle | None = None
    sent: bool = False

    def refuse(self, error: Exception) -> None:
        """Raise the error in the caller, unless it has its outcome."""
        if not self.outcome.done():
            self.outcome.set_exception(error)


class AppendQueue:
    """A bounded queue of events to append.

    Invariants: users take turns. A full queue first refuses the user with most events in it. An event's caller has the
    outcome by the event's deadline: an event that isn't sent by then is refused, and dropped. That leaves time to
    resolve a doubt by the deadline of the request, or within the pool's timeout.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiting = FairQueue[_Waiting]()
        self._admitted = 0
        """Number of events whose callers wait, with those that are being written."""
        self._admitted_to = Counter[Server]()

    def put(self, pending: PendingAppend, server: Server | None) -> _Waiting:
        """Queue the event. Its caller waits for the outcome, and then calls `leave`.

        Raise `TooBusy` if the queue is full, or if half of it is of users of the same server.
        """
        user = pending.event.user_id
        if server is not None and full(self._pool, 2 * self._admitted_to[server]):
            raise overloaded(f"{self._admitted_to[server]} writes wait for the user's server already")
        if full(self._pool, self._admitted):
            last = self._waiting.drop(for_user=user)
            if last is None:
                raise overloaded(f"{self._admitted} writes wait for the database already")
            last.refuse(overloaded("others wait too, with fewer writes"))
        loop = asyncio.get_running_loop()
        late = deadline.before(deadline.at_most(self._pool.timeout), RESOLVE_SECONDS)
        waiting = _Waiting(pending, server, loop.create_future(), late)
        self._waiting.put(user, waiting)
        waiting.timer = loop.call_at(late, self._refuse_late, waiting)
        self._admitted += 1
        if server is not None:
            self._admitted_to[server] += 1
        return waiting

    def leave(self, waiting: _Waiting) -> None:
        """Count an event no longer: it has its outcome, or its caller gave up."""
        self._admitted -= 1
        if waiting.server is not None:
            self._admitted_to[waiting.server] -= 1
        if waiting.timer:
            waiting.timer.cancel()

    def _refuse_late(self, waiting: _Waiting) -> None:
        if not waiting.outcome.done():
            waiting.refuse(TimeoutError() if waiting.sent else overloaded("it wasn't this write's turn in time"))

    def users(self) -> list[str]:
        """Return the users with events, in the order of their turns."""
        return [user for user in self._waiting if user is not None]

    def take(self, users: Sequence[str]) -> list[_Waiting]:
        """Take one event of each user, then another of each, and so on, up to `MAX_BATCH` events."""
        taken: list[_Waiting] = []
        while len(taken) < MAX_BATCH and (left := [user for user in users if user in self._waiting]):
            for user in left[: MAX_BATCH - len(taken)]:
                waiting = self._waiting.take(user)
                if not waiting.outcome.done():
                    taken.append(waiting)
        return taken

    def put_back(self, waiting: _Waiting) -> None:
        """Queue an event again, before all others, since it wasn't written; refuse it if it is late by now."""
        waiting.sent = False
        if asyncio.get_running_loop().time() >= waiting.deadline:
            self._refuse_late(waiting)
        else:
            self._waiting.put_first(waiting.pending.event.user_id, waiting)


@dataclass(eq=False, slots=True)
class _Batch:
    """The events of one statement, and their users. `slow`: users marked as slow while this statement takes long."""

    waiting: Sequence[_Waiting]
    users: set[str]
    slow: set[str] = field(default_factory=set)


class GroupCommit:
    """The queue of this process's appends to the log of one database.

    Invariants: no event waits for another user's lock. Users take turns. A user's events that arrive together go in one
    statement, or in two. A user has at most two statements in flight, and on a sharded database none with other users.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._queue = AppendQueue(pool)
        self._workers = BatchWorkers(
            pool.size if pool.sharded else NUMBER, self._take, self._write, on_long=self._is_slow
        )
        self._writing: set[str] = set()
        """Users with a statement in flight: events that arrive meanwhile go together in the next one."""
        self._slow: set[str] = set()
        """Users of a statement that takes long: a second one may run beside it, but no third."""
        self._alone: set[str] = set()
        """Users whose stream was locked, or new: their next statement waits for it, and has no other user."""

    async def append(self, pending: PendingAppend) -> RecordedEvent:
        """Append an event, together with events that other callers append at that time.

        Raise a `Conflict`, or the database's error. `TooBusy`, `DatabaseUnavailable` and `CannotConnect` mean
        that nothing was sent. After any other of `UNAVAILABLE`, or if the caller is cancelled, the event may be in the
        log.
        """
        server = await self._pool.server_of(pending.event.user_id)
        waiting = self._queue.put(pending, server)
        try:
            self._workers.wake()
            # Cancelling the caller cancels this future, and an event that wasn't sent yet is then skipped.
            return await waiting.outcome
        finally:
            self._queue.leave(waiting)
            del waiting  # its error holds this frame

    def _take(self) -> _Batch | None:
        """Take the next statement's events; `None` if there are none."""
        while users := [user for user in self._queue.users() if user not in self._writing]:
            if self._pool.sharded or users[0] in self._alone:
                users = users[:1]
            else:
                users = [user for user in users if user not in self._alone][:MAX_BATCH]
            self._alone.difference_update(users)
            if waiting := self._queue.take(users):  # else all their callers gave up
                self._writing.update(users)
                return _Batch(waiting, set(users))
        return None

    def _is_slow(self, batch: _Batch) -> None:
        batch.slow = batch.users - self._slow
        self._slow |= batch.slow
        self._writing -= batch.slow

    async def _write(self, batch: _Batch) -> None:
        await self._send(batch.waiting)
        self._writing -= batch.users - batch.slow
        self._slow -= batch.slow
        self._workers.wake()

    async def _send(self, waiting: Sequence[_Waiting]) -> None:
        sent = False
        results: Sequence[AppendResult | Exception]
        pool = self._pool.of(waiting[0].pending.event.user_id) if self._pool.sharded else self._pool
        try:
            with deadline.until(max(each.deadline for each in waiting)):
                async with pool.acquire() as connection:
                    waiting = [each for each in waiting if not each.outcome.done()]  # the others' callers gave up
                    if not waiting:
                        return
                    sent = True
                    for each in waiting:
                        each.sent = True
                    results = await append(connection, [each.pending for each in waiting])
        except Exception as error:  # noqa: BLE001 - it is raised in the callers of `append`
            if sent and len(waiting) > 1 and not isinstance(error, UNAVAILABLE):
                for each in waiting:  # one of them is at fault, and must not fail the others
                    await self._send([each])
                return
            results = [error if sent else _not_sent(error)] * len(waiting)
        for each, result in reversed(list(zip(waiting, results, strict=True))):
            if each.outcome.done():  # its caller gave up
                continue
            if isinstance(result, RecordedEvent):
                each.outcome.set_result(result)
            elif isinstance(result, StreamBusy):
                self._alone.add(each.pending.event.user_id)
                self._queue.put_back(each)
            else:
                each.refuse(result)


def _not_sent(error: Exception) -> Exception:
    """Turn an error from before the statement was sent into one of `NOT_SENT`, if the database isn't available."""
    if isinstance(error, NOT_SENT) or not isinstance(error, UNAVAILABLE):
        return error
    return CannotConnect(str(error) or repr(error))
