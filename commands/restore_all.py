"""Restoration of all of a user's tasks to a moment."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import count
from uuid import UUID

from commands.commands import Command, DeleteTask, RestoreTask
from commands.decider import ErasedForGood, TaskState, check_list, decide
from commands.handler import check_fingerprint, event_of
from commands.precondition import EntityTag, Precondition
from commands.several import SeveralChanges, SeveralWrites
from events.store.append import PendingAppend
from events.store.event_store import EventStore, LockedStream
from events.store.then_and_now import ThenAndNow
from events.task import FIELDS, Erased, Metadata, TaskEvent, TaskRestored, evolve

_AT_ONCE = 100
"""Number of events that are appended by one statement: enough to make round trips cheap, in bounded memory."""


@dataclass(frozen=True, slots=True)
class TaskPutBack:
    """A task that is put back; its event's type and number, `None` if not made.

    `title` is as it is put back, or as it last was if the task is deleted. `fields` are those that change.
    """

    task_id: UUID
    title: str
    type: str
    fields: tuple[str, ...]
    seq: int | None


class RestoreAll(SeveralWrites[TaskPutBack]):
    """A request to put all tasks back to a moment: later ones are deleted, and lost ones return.

    Invariant: if the log is long, a turn of `LongReads` is held for the whole request, and was waited for without a
    connection.
    """

    def __init__(
        self,
        store: EventStore,
        user_id: str,
        as_of: datetime,
        *,
        precondition: Precondition,
        actor: str,
        metadata: Metadata,
    ) -> None:
        super().__init__(store, user_id, precondition=precondition, metadata=metadata)
        self._as_of, self._actor = as_of, actor

    async def tell(self) -> SeveralChanges[TaskPutBack]:
        """Return the changes that would be made, and make none. Raise as `handle` does."""
        key = self.metadata.idempotency_key
        async with self.store.long_change(self.user_id):
            if key is not None and (before := await self.store.find(self.user_id, key)):
                check_fingerprint(before, self.metadata)
            head = await self.store.head(self.user_id)
            check_list(self._precondition, head)
            changes = [change async for _, _, _, change in self._decided(self.store, upto=head.seq)]
        return SeveralChanges(changes, EntityTag(head.seq, head.hash), None)

    async def handle(self) -> SeveralChanges[TaskPutBack]:
        """Do it once. Raise as any `SeveralWrites` does, or `LongChangeUnderWay`."""
        async with self.store.long_change(self.user_id):
            return await super().handle()

    async def write(self, stream: LockedStream, first: int) -> None:
        """Decide on each task, and append the events, some at a time."""
        metadata = self.metadata
        pending: list[PendingAppend] = []
        async for command, state, payload, change in self._decided(stream, upto=first - 1):
            event = event_of(command, state, payload, self._actor, metadata)
            metadata = replace(metadata, idempotency_key=None, fingerprint=None)
            pending.append(PendingAppend(event, evolve(state.task, event), on_row=False))
            self.changes.append(replace(change, seq=first + len(self.changes)))
            if len(pending) == _AT_ONCE:
                await self.append(stream, pending)
                pending = []
        if pending:
            await self.append(stream, pending)

    async def changes_before(self, first: int) -> list[TaskPutBack]:
        """Return the tasks that an earlier request put back, whose first event has this number."""
        decided, numbers = self._decided(self.store, upto=first - 1, again=True), count(first)
        return [replace(change, seq=next(numbers)) async for _, _, _, change in decided]

    async def _decided(
        self, stream: EventStore | LockedStream, *, upto: int, again: bool = False
    ) -> AsyncIterator[tuple[Command, TaskState, TaskEvent, TaskPutBack]]:
        """Decide on each task, in the order of their ids, by the log up to event number `upto`.

        Tasks whose content was erased are left out. If it is `again`, raise `ErasedForGood` for one that was erased
        after those events: it may have been there the first time.
        """
        async for each in stream.then_and_now(self.user_id, self._as_of, upto=upto):
            if again and Erased.ERASED in (each.then, each.now):
                raise ErasedForGood(f"The content of task {each.task_id} was erased since: what came of it is unknown.")
            decided = self._decide(each)
            if decided is not None:
                yield decided

    def _decide(self, each: ThenAndNow) -> tuple[Command, TaskState, TaskEvent, TaskPutBack] | None:
        task_id, then, now, version, at = each
        if isinstance(then, Erased) or isinstance(now, Erased):
            return None
        command: Command
        if then is not None:
            command = RestoreTask(user_id=self.user_id, task_id=task_id, version=then.version)
        elif now is not None:
            command = DeleteTask(user_id=self.user_id, task_id=task_id)
        else:
            return None
        state = TaskState(task=now, version=version, at=at, then=then)
        payload = decide(command, state)
        task = then or now
        if payload is None or task is None:
            return None
        after = payload.after if isinstance(payload, TaskRestored) else ()
        fields = tuple(filter(after.__contains__, FIELDS))
        return command, state, payload, TaskPutBack(task_id, task.title, type(payload).__name__, fields, None)
