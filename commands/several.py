"""Writes of several events: decided and appended together under the stream's lock, in one transaction."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from commands.decider import Refusal, check_list
from commands.handler import check_fingerprint
from commands.precondition import EntityTag, Precondition
from db.errors import UNAVAILABLE, TooBusy, is_transient, retry
from events.hash_chain import Head
from events.store.append import Conflict, PendingAppend, RecordedEvent
from events.store.event_store import EventStore, LockedStream
from events.store.in_doubt import InDoubt
from events.task import Metadata
from telemetry import metrics

_Change = TypeVar("_Change")


@dataclass(frozen=True, slots=True)
class SeveralChanges(Generic[_Change]):
    """The changes that were made, in order, and the tag of the list after them.

    `seq` is the number of the last event; `None` if there is none. `replayed` says that all of it was done before, and
    wasn't done again.
    """

    changes: list[_Change]
    list_tag: EntityTag
    seq: int | None
    replayed: bool = False


class SeveralWrites(ABC, Generic[_Change]):
    """A request for several writes of one user, which may take several tries.

    Invariants: everything is decided under the stream's lock, and the transaction ends right after the last event was
    sent. So a try that is in doubt is over, one way or the other, when the next one has the lock: its first event is in
    the log by then, or never will be. A user without events has no stream to lock, so that the earlier try may be
    committed at any moment of the next one. Therefore the next one decides nothing, and sends the same events again:
    their numbers admit one of the two.

    The idempotency key is on the first event, and only there. A replay decides everything again, on the states before
    that event: deciding is pure, so each decision is as it was, and its event is the next one in the log.
    """

    def __init__(self, store: EventStore, user_id: str, *, precondition: Precondition, metadata: Metadata) -> None:
        """Make one; the precondition is on the list."""
        self.store, self.user_id, self.metadata = store, user_id, metadata
        self._precondition = precondition
        self.changes: list[_Change] = []
        self._sent: Sequence[PendingAppend] = ()
        self._count = 0
        self._in_doubt = False

    async def prepare(self) -> None:
        """Read ahead for a try, before it has the lock and a connection."""

    @abstractmethod
    async def write(self, stream: LockedStream, first: int) -> None:
        """Decide everything, add it to `changes`, and append its events by `append`; the first has number `first`.

        It may be called again, for another try.
        """

    @abstractmethod
    async def changes_before(self, first: int) -> list[_Change]:
        """Decide the changes again that an earlier request made, whose first event has this number."""

    async def handle(self) -> SeveralChanges[_Change]:
        """Do it once. Raise a `Refusal`, or as `commands.handler.handle` does."""
        what = "failed"
        try:
            done = await retry(self._try, on=lambda error: is_transient(error) or isinstance(error, Conflict))
            what = "replayed" if done.replayed else "unchanged" if done.seq is None else "done"
        except Conflict as error:
            if self._in_doubt:  # since an earlier try
                raise InDoubt(repr(error)) from error
            raise TooBusy(f"others write tasks of {self.user_id} all the time") from error
        except UNAVAILABLE as error:
            if self._in_doubt:
                raise InDoubt(repr(error)) from error
            raise
        except Refusal:
            what = "refused"
            raise
        finally:
            metrics.COMMANDS.labels(type(self).__name__, what).inc()
        return done

    async def append(self, stream: LockedStream, pending: Sequence[PendingAppend]) -> None:
        """Append some of the events."""
        self._sent = self._sent or pending
        self._count += len(pending)
        self._in_doubt = True
        await stream.append_all(pending)

    async def _try(self) -> SeveralChanges[_Change]:
        key = self.metadata.idempotency_key
        sent, before = None, None
        await self.prepare()
        async with self.store.locked(self.user_id) as stream:
            head = end = await stream.head(self.user_id)
            if self._sent:
                sent = await stream.find_appended(self._sent[0].event)
            if sent is None and key is not None:
                before = await stream.find(self.user_id, key)
            if sent is None and before is None:
                await self._decide_and_append(stream, head)
                end = await stream.head(self.user_id)
        if sent is not None:
            return await self._changed(sent, self.changes, count=self._count)
        if before is not None:
            check_fingerprint(before, self.metadata)
            changes = await self.changes_before(before.seq)
            return await self._changed(before, changes, count=self.events_in(changes), replayed=True)
        self._in_doubt = False
        seq = end.seq if self._count else None
        return SeveralChanges(self.changes, EntityTag(end.seq, end.hash), seq)

    async def _decide_and_append(self, stream: LockedStream, head: Head) -> None:
        """Do this try's work; or if an earlier one may still be committed, send its events again."""
        doubted = self._in_doubt and not head.seq
        again = self._sent if doubted else ()
        self._sent, self._count, self._in_doubt = (), 0, doubted
        try:
            if again:
                await self.append(stream, again)
            else:
                check_list(self._precondition, head)
                self.changes = []
                await self.write(stream, head.seq + 1)
        except Conflict:
            self._in_doubt = doubted
            metrics.CONFLICTS.inc()
            raise

    def events_in(self, changes: Sequence[_Change]) -> int:
        """Count the changes that have an event: all, unless a subclass knows better."""
        return len(changes)

    async def _changed(
        self, first: RecordedEvent, changes: list[_Change], *, count: int, replayed: bool = False
    ) -> SeveralChanges[_Change]:
        """Return the changes of an earlier try or request, with the number and hash of its last event."""
        upto = first.seq + count - 1
        [last] = [entry async for entry in self.store.read(self.user_id, after=upto - 1, upto=upto)]
        return SeveralChanges(changes, EntityTag(last.seq, last.hash), last.seq, replayed)
