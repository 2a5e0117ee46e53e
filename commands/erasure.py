"""Erasure of content: a deleted task's, or all of a user's."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from commands.commands import EraseTask
from commands.decider import TaskState, check_list
from commands.handler import Outcome, check_fingerprint, event_of, handle, without_client
from commands.precondition import UNCONDITIONAL, EntityTag, Precondition
from db.errors import UNAVAILABLE, TooBusy, is_transient, retry
from events.hash_chain import Head
from events.store.append import Conflict, PendingAppend
from events.store.content import LastEvent
from events.store.event_store import EventStore, LockedStream
from events.store.in_doubt import InDoubt
from events.task import NO_TASK, Event, Metadata, TaskErased, UserErased
from telemetry import metrics

_AT_ONCE = 100
"""Number of tasks that are recorded as erased by one statement; without a precondition, in one transaction."""


async def erase_task(store: EventStore, command: EraseTask, *, actor: str, metadata: Metadata) -> Outcome:
    """Carry the command out as `commands.handler.handle` does, and erase the content of the task's events.

    If it was recorded before, go on with the rest. Raise `InDoubt` if only a part may have been done.
    """
    outcome = await handle(store, command, actor=actor, metadata=metadata)
    try:
        await retry(lambda: store.erase_content_of_task(command.user_id, command.task_id))
    except UNAVAILABLE as error:
        raise InDoubt(repr(error)) from error
    return outcome


class UserErasure:
    """A request to erase the content of all of a user's events so far.

    Each task gets an event that records its erasure, some in a transaction; then comes the one that records the user's.
    With a precondition, these are all in one transaction.
    Only then is content erased, some at a time. Invariant: when `UserErased` is committed, all tasks with events before
    it are recorded as erased. So after a crash, the same request goes on where this one was.
    """

    def __init__(
        self,
        store: EventStore,
        user_id: str,
        *,
        reason: str | None,
        precondition: Precondition,
        actor: str,
        metadata: Metadata,
    ) -> None:
        self._store, self._user, self._reason = store, user_id, reason
        self._precondition, self._actor, self._metadata = precondition, actor, without_client(metadata)
        self._begun = False

    async def handle(self) -> Outcome:
        """Erase it. Return the event that records it; none if there was nothing left to erase.

        Raise a `Refusal`, `LongChangeUnderWay`, one of `UNAVAILABLE`, or `InDoubt` if something was done already.
        """
        what = "failed"
        try:
            outcome = await retry(self._once, on=lambda error: is_transient(error) or isinstance(error, Conflict))
            what = outcome.what
        except Conflict as error:
            raise TooBusy(f"others write tasks of {self._user} all the time") from error
        except UNAVAILABLE as error:
            if self._begun:
                raise InDoubt(repr(error)) from error
            raise
        finally:
            metrics.COMMANDS.labels("EraseUser", what).inc()
        return outcome

    async def _once(self) -> Outcome:
        async with self._store.long_change(self._user) as head:
            outcome = await self._recorded(head)
            if outcome is None and not head.seq:
                check_list(self._precondition, head)
                outcome = Outcome(None, head.hash, None, "unchanged")
            elif outcome is None:
                end = await self._record(since=head.seq)
                outcome = Outcome(None, end.hash, end.seq, "done")
            await self._store.erase_content_of_user(self._user, before=outcome.seq or head.seq)
        return outcome

    async def _recorded(self, head: Head) -> Outcome | None:
        """Return the outcome if an event records this erasure already: one with the request's key, or the last one."""
        key = self._metadata.idempotency_key
        if key is not None and (entry := await self._store.find(self._user, key)):
            check_fingerprint(entry, self._metadata)
            return Outcome(None, entry.hash, entry.seq, "replayed")
        last = await self._store.of_seq(self._user, head.seq)
        return Outcome(None, head.hash, None, "unchanged") if last and last[0] == NO_TASK else None

    async def _record(self, *, since: int) -> Head:
        """Record that each task is erased, and then that all of the user's content is. Return the head after it.

        With a precondition, all of it is one transaction: else what others write between two would be erased unseen.
        """
        last: UUID | None = NO_TASK
        while True:
            async with self._store.locked(self._user) as stream:
                if last == NO_TASK:
                    await self._check(stream)
                while last is not None:
                    last = await self._record_some(stream, after=last, since=since)
                    if self._precondition == UNCONDITIONAL:
                        break
                if last is None:
                    return await stream.head(self._user)

    async def _record_some(self, stream: LockedStream, *, after: UUID, since: int) -> UUID | None:
        """Record that tasks are erased, in order of their ids behind `after`. Return the last id; `None` at the end."""
        tasks = await stream.tasks_not_erased(self._user, after=after, limit=_AT_ONCE)
        if len(tasks) == _AT_ONCE:
            await self._append(stream, [self._task_erased(each) for each in tasks])
            return tasks[-1].task_id
        late = await stream.tasks_not_erased_since(self._user, since)
        every = {each.task_id: self._task_erased(each) for each in (*tasks, *late)}
        await self._append(stream, [*every.values(), await self._user_erased(stream)])
        return None

    async def _check(self, stream: LockedStream) -> None:
        """Check the precondition under the lock, or changes from just before the erasure would be erased unseen.

        Records of erasures don't count as changes of the list (docs/http-api.md, "Erasure"). Raise `VersionMismatch`.
        """
        head = await stream.head(self._user)
        condition = self._precondition
        if condition.match is not None and condition.match != "*":
            seqs = [tag.number for tag in condition.match if tag.number <= head.seq]
            heads = await stream.heads_since_change(self._user, seqs)
            if any(tag.names(EntityTag(each.seq, each.hash)) for each in heads for tag in condition.match):
                condition = replace(condition, match=None)
        check_list(condition, head)

    async def _append(self, stream: LockedStream, events: Sequence[Event]) -> None:
        for start in range(0, len(events), _AT_ONCE):
            self._begun = True
            pending = [PendingAppend(each, None, on_row=False) for each in events[start : start + _AT_ONCE]]
            await stream.append_all(pending)

    def _task_erased(self, last: LastEvent) -> Event:
        return self._event(last.task_id, last, TaskErased(), Metadata(request_id=self._metadata.request_id))

    async def _user_erased(self, stream: LockedStream) -> Event:
        return self._event(NO_TASK, await stream.last_of_user(self._user), UserErased(self._reason), self._metadata)

    def _event(
        self, task_id: UUID, last: LastEvent | None, payload: TaskErased | UserErased, metadata: Metadata
    ) -> Event:
        state = TaskState(version=last.version, at=last.at) if last else TaskState()
        return event_of(EraseTask(user_id=self._user, task_id=task_id), state, payload, self._actor, metadata)
