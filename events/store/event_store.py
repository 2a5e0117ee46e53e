"""The event store: the one object through which commands and queries append events and read them."""

import asyncio
import sys
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence, Set
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from copy import copy
from datetime import datetime
from functools import partial
from operator import itemgetter
from uuid import UUID

from db import deadline
from db.batching import BatchLoader
from db.errors import FAILED, TooBusy
from db.long_reads import LongReads
from db.pool import Connection, Pool
from db.servers import Server
from db.time_slices import TimeSlices
from db.user_semaphore import UserSemaphore
from events.hash_chain import Head
from events.store import content, log
from events.store.append import RESOLVE_SECONDS, PendingAppend, RecordedEvent, append_all, append_one
from events.store.content import LastEvent
from events.store.group_commit import GroupCommit
from events.store.stored_tasks import StoredTask, TaskKey, stored, stored_of_user
from events.store.then_and_now import ThenAndNow, then_and_now
from events.task import Event


class LongChangeUnderWay(TooBusy):
    """Another request changes or reads all tasks, or holds the lock of the user's stream, for long."""


class EventStore:
    """The event log and the projection of one database, for all requests of a process.

    Appends that arrive together share a statement (`GroupCommit`), and so do reads by key (`BatchLoader`). On a sharded
    database, where no statement should touch two users, each read has its own.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._requester: str | None = None
        self._appends = GroupCommit(pool)
        self._tasks = BatchLoader[TaskKey, StoredTask](pool, stored, user_of=itemgetter(0))
        self._heads = BatchLoader[str, Head](pool, log.heads, user_of=str)
        self._locks = UserSemaphore(1, max_waiting=sys.maxsize)
        self.long_reads = LongReads(pool)
        self.on_append: Callable[[str, int], object] = lambda _user, _seq: None
        """Called after each append of this process that is known to be committed, with the user and the number."""

    def read_by(self, requester: str) -> "EventStore":
        """Return this store for reads of other users' events, which take the turns of the `requester`."""
        theirs = copy(self)
        theirs._requester = requester
        theirs._pool, theirs.long_reads = self._pool.read_by(requester), self.long_reads.read_by(requester)
        return theirs

    def slices(self, user_id: str) -> TimeSlices:
        """Begin a piece of work on a user's events, in time slices of the user, or of the requester (`read_by`).

        It waits until the loop is idle, unless it has a turn of `long_reads` for which others wait.
        """
        return TimeSlices(self._requester or user_id, others_wait=partial(self.long_reads.others_wait, user_id))

    async def append(self, pending: PendingAppend) -> RecordedEvent:
        """Append an event, and upsert its task in the projection or delete its row, in one transaction.

        Raise a `Conflict` (events.store.append), `TooBusy`, `DatabaseUnavailable` or `CannotConnect`: then
        nothing was written. After any other of `UNAVAILABLE`, or if the caller is cancelled, the event may be in the
        log.
        """
        entry = await self._appends.append(pending)
        self.on_append(pending.event.user_id, entry.seq)
        return entry

    async def append_again(self, pending: PendingAppend) -> RecordedEvent:
        """Append an event as `append` does, but in a statement of its own, at once."""
        async with self._pool.of(pending.event.user_id).acquire() as connection:
            return await append_one(connection, pending)

    async def load(self, user_id: str, task_id: UUID) -> StoredTask | None:
        """Read a task's row; `None` if the user has no task with this id, or if the projection isn't complete."""
        key = (user_id, task_id)
        if self._pool.sharded:
            return (await stored(self._pool.of(user_id), [key])).get(key)
        return await self._tasks.get(key)

    async def head(self, user_id: str) -> Head:
        """Read the number and hash of a user's last event."""
        if self._pool.sharded or self._requester is not None:
            return await log.head(self._pool.of(user_id), user_id)
        return await self._heads.get(user_id) or Head()

    async def heads(self, users: Sequence[str]) -> Mapping[str, Head]:
        """Read the numbers and hashes of several users' last events.

        On a sharded database, users are read one after the other, and those whose server fails are left out.
        """
        if not self._pool.sharded:
            return await log.heads(self._pool, users)
        found = {}
        for user_id in users:
            with suppress(*FAILED):
                found[user_id] = await log.head(self._pool.of(user_id), user_id)
        return found

    async def by_server(self, users: Sequence[str]) -> Mapping[Server | str | None, Sequence[str]]:
        """Group users who can be read together (`heads`): all, or those of one server, so that none waits for another.

        A user whose server isn't known is a group, and one who can't be looked up now is left out.
        """
        if not self._pool.sharded:
            return {None: users}
        groups = defaultdict[Server | str | None, list[str]](list)
        for user_id in users:
            with suppress(*FAILED):
                server = await self._pool.server_of(user_id)
                groups[user_id if server is None else server].append(user_id)
        return groups

    async def history(
        self,
        user_id: str,
        task_id: UUID,
        *,
        after: int = 0,
        version: int | None = None,
        at: datetime | None = None,
    ) -> AsyncGenerator[RecordedEvent, None]:
        """Read a task's events in order, after version `after`, up to and with `version` and the moment `at`.

        If they are more than a batch may have, a turn of `LongReads` is held from there on: close the iterator
        (`aclosing`) to give it back early. Raise `UnknownEvent` (events.serialization) or `TooBusy`.
        """
        slices, pool = self.slices(user_id), self._pool.of(user_id)
        async with AsyncExitStack() as turn:

            async def take_turn() -> None:
                await turn.enter_async_context(self.long_reads.turn(user_id))

            entries = log.history(
                pool, user_id, task_id, after=after, version=version, at=at, slices=slices, before_more=take_turn
            )
            async with aclosing(entries):
                async for entry in entries:
                    yield entry

    async def is_there(self, user_id: str, task_id: UUID) -> bool:
        """Say if the task exists by the log: it has events, and the last one is no end."""
        return await log.is_there(self._pool.of(user_id), user_id, task_id)

    async def of_seq(self, user_id: str, seq: int | None) -> tuple[UUID, int] | None:
        """Find a user's event number `seq`, or the last one; return its task's id and version, or `None`."""
        return await log.of_seq(self._pool.of(user_id), user_id, seq)

    async def find(self, user_id: str, idempotency_key: str) -> RecordedEvent | None:
        """Find the event of the request with this idempotency key. Raise `UnknownEvent` (events.serialization)."""
        return await log.find(self._pool.of(user_id), user_id, idempotency_key)

    def then_and_now(self, user_id: str, moment: datetime, *, upto: int) -> AsyncIterator[ThenAndNow]:
        """Fold a user's first `upto` events into each task, as it was at `moment` and as it is after them.

        If they are many, hold a turn of `long_reads`.
        """
        return then_and_now(self._pool.of(user_id), user_id, moment, upto=upto, slices=self.slices(user_id))

    async def find_appended(self, event: Event) -> RecordedEvent | None:
        """Find this event in the log by its id; return `None` if it isn't there."""
        return await log.find_appended(self._pool.of(event.user_id), event)

    async def erase_content_of_task(self, user_id: str, task_id: UUID) -> int:
        """Erase the content of a task's events, as `events.store.content` does."""
        return await content.erase_content_of_task(self._pool.of(user_id), user_id, task_id)

    async def erase_content_of_user(self, user_id: str, *, before: int) -> int:
        """Erase the content of a user's events before number `before`, as `events.store.content` does."""
        return await content.erase_content_of_user(self._pool.of(user_id), user_id, before=before)

    def read(self, user_id: str, *, after: int, upto: int) -> AsyncIterator[RecordedEvent]:
        """Read a user's events in order, after number `after`, up to and with `upto`."""
        return log.read(self._pool.of(user_id), user_id, after=after, upto=upto)

    @asynccontextmanager
    async def locked(self, user_id: str) -> AsyncIterator["LockedStream"]:
        """Lock a user's stream, in a transaction that is committed at the end of the block.

        Of one user's callers in this process, one at a time has a connection, on which it waits for the lock. If there
        is a deadline, the transaction ends before it, so that a doubt can be resolved. If the error of the commit
        `is_ambiguous`, an event that was appended may be in the log. Raise `LongChangeUnderWay` if the lock doesn't
        come in time.
        """
        waits = False
        at = deadline.current()
        try:
            with deadline.until(None if at is None else deadline.before(at, RESOLVE_SECONDS)):
                async with self._alone(user_id), self._pool.of(user_id).transaction() as connection:
                    waits = True
                    before = await log.lock_stream(connection, user_id)
                    waits = False
                    yield (stream := LockedStream(connection, before))
        except TimeoutError as error:
            if waits:
                raise LongChangeUnderWay("the stream was locked all the time") from error
            raise
        if (after := await stream.head(user_id)) != before:
            self.on_append(user_id, after.seq)

    @asynccontextmanager
    async def _alone(self, user_id: str) -> AsyncIterator[None]:
        """Wait for the user's other callers in this process. Raise `LongChangeUnderWay` if that takes too long."""
        try:
            async with asyncio.timeout_at(deadline.current()):
                await self._locks.acquire(user_id)
        except TimeoutError as error:
            raise LongChangeUnderWay("the stream was locked all the time") from error
        try:
            yield
        finally:
            self._locks.release(user_id)

    @asynccontextmanager
    async def long_change(self, user_id: str) -> AsyncIterator[Head]:
        """Hold a turn of `long_reads` if the user's stream is long, and yield its head from before the turn.

        Raise `LongChangeUnderWay` if the turn doesn't come in time.
        """
        head = await self.head(user_id)
        async with AsyncExitStack() as turn:
            if head.seq > log.READ_BATCH:
                try:
                    await turn.enter_async_context(self.long_reads.turn(user_id))
                except TooBusy as error:
                    raise LongChangeUnderWay(str(error)) from error
            yield head


class LockedStream:
    """A user's stream under its lock: nobody else appends to it until the block of `EventStore.locked` ends."""

    def __init__(self, connection: Connection, head: Head) -> None:
        self._connection, self._head = connection, head

    async def append(self, pending: PendingAppend) -> RecordedEvent:
        """Append an event as `EventStore.append` does, in this transaction.

        Raise `StreamMoved` too: a user without events has no stream to lock, and another writer was first.
        """
        after = self._head.seq if pending.after is None else pending.after
        entry = await append_one(self._connection, pending._replace(after=after))
        self._head = Head(entry.seq, entry.hash)
        return entry

    async def append_all(self, pending: Sequence[PendingAppend]) -> list[RecordedEvent]:
        """Append several events. If one of them can't be written, raise as `append` does, and give up all."""
        last = self._head.seq
        numbered = [each._replace(after=last + number) for number, each in enumerate(pending)]
        entries = await append_all(self._connection, numbered)
        self._head = Head(entries[-1].seq, entries[-1].hash)
        return entries

    def then_and_now(self, user_id: str, moment: datetime, *, upto: int) -> AsyncIterator[ThenAndNow]:
        """Fold the first `upto` events into each task, as it was at `moment` and as it is after them."""
        slices = TimeSlices(user_id, locked=True)
        return then_and_now(self._connection, user_id, moment, upto=upto, slices=slices)

    async def load_all(self, user_id: str, ids: Sequence[UUID]) -> Mapping[UUID, StoredTask]:
        """Read the rows of several tasks, as `EventStore.load` does for one."""
        return await stored_of_user(self._connection, user_id, ids)

    async def known(self, user_id: str, ids: Sequence[UUID]) -> Set[UUID]:
        """Return those of the tasks that have events, also if they are deleted."""
        return await log.known(self._connection, user_id, ids)

    async def tasks_not_erased(self, user_id: str, *, after: UUID, limit: int) -> Sequence[LastEvent]:
        """Find tasks that aren't recorded as erased, in order of their ids behind `after`."""
        return await content.tasks_not_erased(self._connection, user_id, after=after, limit=limit)

    async def tasks_not_erased_since(self, user_id: str, seq: int) -> Sequence[LastEvent]:
        """Find tasks with events after number `seq` that aren't recorded as erased."""
        return await content.tasks_not_erased_since(self._connection, user_id, seq)

    async def last_of_user(self, user_id: str) -> LastEvent | None:
        """Find the last event that is about the user as a whole."""
        return await content.last_of_user(self._connection, user_id)

    async def find(self, user_id: str, idempotency_key: str) -> RecordedEvent | None:
        """Find the event of the request with this idempotency key, as `EventStore.find` does."""
        return await log.find(self._connection, user_id, idempotency_key)

    async def find_appended(self, event: Event) -> RecordedEvent | None:
        """Find this event in the log by its id; return `None` if it isn't there."""
        return await log.find_appended(self._connection, event)

    async def load(self, user_id: str, task_id: UUID) -> StoredTask | None:
        """Read a task's row, as `EventStore.load` does."""
        return (await stored(self._connection, [(user_id, task_id)])).get((user_id, task_id))

    async def head(self, _user_id: str) -> Head:
        """Return the number and hash of the user's last event."""
        return self._head

    async def heads_since_change(self, user_id: str, seqs: Sequence[int]) -> Sequence[Head]:
        """Read the number and hash of those of the events that only `TaskErased` follow in the user's stream."""
        return await log.heads_since_change(self._connection, user_id, seqs)

    def history(self, user_id: str, task_id: UUID, *, after: int = 0) -> AsyncGenerator[RecordedEvent, None]:
        """Read a task's events in order, after version `after`."""
        slices = TimeSlices(user_id, locked=True)
        return log.history(self._connection, user_id, task_id, after=after, slices=slices)
