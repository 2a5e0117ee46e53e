"""Batches: several commands of one user, each decided on the state that those before it leave."""

from collections.abc import Mapping, Sequence, Set
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TypeAlias
from uuid import UUID

from commands.commands import Command, CreateTask, RestoreTask
from commands.decider import ErasedForGood, Refusal, TaskState, decide
from commands.handler import advance, event_of, state_of
from commands.precondition import Precondition
from commands.several import SeveralWrites
from db.time_slices import TimeSlices
from events.store.append import PendingAppend, VersionTaken
from events.store.event_store import EventStore, LockedStream
from events.store.stored_tasks import StoredTask
from events.task import ErasedContent, Event, ImpossibleEvent, Metadata, Task, TaskErased


class BatchRefused(Refusal):
    """One command of an atomic batch was refused, so that none is carried out: number `index`, for this `reason`."""

    def __init__(self, index: int, reason: Refusal) -> None:
        super().__init__(str(reason))
        self.index, self.reason = index, reason


@dataclass(frozen=True, slots=True)
class CarriedOut:
    """The task as a command left it (`None`: deleted), and the number of its event; `None` if it changed nothing."""

    task: Task | None
    seq: int | None


CommandResult: TypeAlias = CarriedOut | Refusal


_GONE = "The content of a task of this batch was erased since: what came of it then can't be told any more."


class Batch(SeveralWrites[CommandResult]):
    """Several commands of one user, carried out in order.

    An atomic batch is carried out as a whole or not at all: `handle` raises `BatchRefused`. Else refusals are among the
    results, and the other commands are carried out.
    """

    def __init__(
        self,
        store: EventStore,
        user_id: str,
        commands: Sequence[Command],
        *,
        atomic: bool,
        precondition: Precondition,
        actor: str,
        metadata: Metadata,
    ) -> None:
        super().__init__(store, user_id, precondition=precondition, metadata=metadata)
        self._commands, self._atomic, self._actor = commands, atomic, actor
        self._histories = _Histories(user_id, commands)

    async def prepare(self) -> None:
        """Read the histories, so that only new events are read under the lock."""
        for id_ in self._histories.ids:
            await self._histories.read(self.store, id_)

    async def write(self, stream: LockedStream, first: int) -> None:
        """Decide the commands, and append their events."""
        tasks = _Tasks(stream, self._histories)
        if on_rows := {command.task_id for command in self._commands} - self._histories.ids:
            await tasks.load(stream, self.user_id, on_rows)
        pending: list[PendingAppend] = []
        metadata = self.metadata
        slices = TimeSlices(self.user_id, locked=True)
        for index, command in enumerate(self._commands):
            state = await tasks.state(command)
            try:
                payload = decide(command, state)
            except Refusal as refusal:
                if self._atomic:
                    raise BatchRefused(index, refusal) from refusal
                self.changes.append(refusal.with_traceback(None))  # which holds these changes
                continue
            if payload is None:
                self.changes.append(CarriedOut(state.task, None))
                continue
            event = event_of(command, state, payload, self._actor, metadata)
            metadata = replace(metadata, idempotency_key=None, fingerprint=None)
            task = tasks.take_in(state, event).task
            self.changes.append(CarriedOut(task, first + len(pending)))
            pending.append(PendingAppend(event, task, on_row=False))
            await slices.pause()
        if pending:
            try:
                await self.append(stream, pending)
            except VersionTaken:  # a row is older than the log
                changed = {each.task_id for each in self._commands if not isinstance(each, CreateTask)}
                self._histories.ids |= changed
                raise

    async def changes_before(self, first: int) -> list[CommandResult]:
        """Return the results that the batch had, whose first event has this number."""
        following = self.store.read(self.user_id, after=first - 1, upto=first + len(self._commands) - 1)
        recorded = [entry async for entry in following]
        tasks = _Tasks(self.store, _Histories(self.user_id, self._commands), before=first)
        results: list[CommandResult] = []
        for command in self._commands:
            state = await tasks.state(command)
            try:
                payload = decide(command, state)
            except Refusal as refusal:
                results.append(refusal.with_traceback(None))
                continue
            if payload is None:
                results.append(CarriedOut(state.task, None))
                continue
            entry = recorded[self.events_in(results)]  # of a creation, it has the id that was made then
            if isinstance(entry.event.payload, ErasedContent):
                raise ErasedForGood(_GONE)
            if type(entry.event.payload) is not type(payload):
                raise ImpossibleEvent(f"event {entry.seq} of {self.user_id} isn't one of this batch")
            results.append(CarriedOut(tasks.take_in(state, entry.event).task, entry.seq))
        return results

    def events_in(self, changes: Sequence[CommandResult]) -> int:
        """Count the commands that have an event."""
        return sum(isinstance(each, CarriedOut) and each.seq is not None for each in changes)


class _Histories:
    """Tasks that the log decides, by their events: each is read once, for all tries of a batch.

    They are those that the batch restores, and all of them if a row was older than the log.
    """

    def __init__(self, user_id: str, commands: Sequence[Command]) -> None:
        self._user_id = user_id
        self._asked = {(each.task_id, each.version) for each in commands if isinstance(each, RestoreTask)}
        self._states: dict[UUID, TaskState] = {}
        self.ids = {id_ for id_, _ in self._asked}
        self.versions: dict[tuple[UUID, int], Task | None] = {}
        """The tasks as they were at the versions that the batch restores."""

    async def read(self, stream: EventStore | LockedStream, task_id: UUID, *, before: int | None = None) -> TaskState:
        """Read the task's further events, and of the user's only those before number `before`. Return its state.

        Raise `ErasedForGood` if the task was erased only after these: what it was isn't known then.
        """
        state, was_erased = self._states.get(task_id, TaskState()), False
        async with aclosing(stream.history(self._user_id, task_id, after=state.version)) as entries:
            async for entry in entries:
                if before is not None and entry.seq >= before:
                    break
                state = advance(state, entry.event, entry.hash, None)
                was_erased = isinstance(entry.event.payload, TaskErased)
                if (task_id, state.version) in self._asked:
                    self.versions[task_id, state.version] = state.task
        if before is not None and state.erased and not was_erased:
            raise ErasedForGood(_GONE)
        self._states[task_id] = state
        return state


class _Tasks:
    """The states of a batch's tasks, as the commands decided so far leave them.

    `before`: the number of the event before which they begin, for a replay. The hashes of a batch's own events aren't
    known yet when it is decided, so that no entity tag can name them.
    """

    def __init__(self, stream: EventStore | LockedStream, histories: _Histories, *, before: int | None = None) -> None:
        self._stream, self._histories, self._before = stream, histories, before
        self._states: dict[UUID, TaskState] = {}
        self._made: dict[tuple[UUID, int], Task | None] = {}

    async def load(self, stream: LockedStream, user_id: str, ids: Set[UUID]) -> None:
        """Load the tasks' rows. A task that has none, or one that no event left so, is read from the log later."""
        rows: Mapping[UUID, StoredTask] = await stream.load_all(user_id, list(ids))
        for id_, row in rows.items():
            if state := state_of(row, user_id, id_):
                self._states[id_] = state
        rest = [id_ for id_ in ids if id_ not in self._states]
        known = await stream.known(user_id, rest) if rest else ()
        self._states |= {id_: TaskState() for id_ in rest if id_ not in known}

    async def state(self, command: Command) -> TaskState:
        """Return the state that the command is decided on."""
        id_ = command.task_id
        if id_ not in self._states:
            self._states[id_] = await self._histories.read(self._stream, id_, before=self._before)
        state = self._states[id_]
        if isinstance(command, RestoreTask) and command.version is not None:
            key = id_, command.version
            return replace(state, then=self._made.get(key, self._histories.versions.get(key)))
        return state

    def take_in(self, state: TaskState, event: Event) -> TaskState:
        """Return the state after the event, on which the task's next command is decided."""
        after = advance(state, event, b"", None)
        self._states[event.task_id] = after
        self._made[event.task_id, after.version] = after.task
        return after
