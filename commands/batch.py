"""Batches: several commands of one user, decided and appended together."""

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from uuid import UUID

from commands.commands import Command, RestoreTask
from commands.decider import Refusal, TaskState, check_list, decide
from commands.handler import Outcome, advance, check_fingerprint, event_of, state_of
from commands.precondition import EntityTag, Precondition
from db.errors import UNAVAILABLE, TooManyRequests, is_transient, retry
from db.time_slices import TimeSlices
from events.store.append import Conflict, PendingAppend, RecordedEvent
from events.store.event_store import EventStore, LockedStream
from events.store.in_doubt import InDoubt
from events.store.stored_tasks import StoredTask
from events.task import Event, ImpossibleEvent, Metadata
from telemetry import metrics


class BatchRefused(Refusal):
    """One command of an atomic batch was refused, so that none is carried out: number `index`, for this `reason`."""

    def __init__(self, index: int, reason: Refusal) -> None:
        super().__init__(str(reason))
        self.index, self.reason = index, reason


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """What came of each command, in order, and the tag of the list after the batch.

    `seq` is the number of the batch's last event; `None` if it changed nothing.
    """

    results: Sequence[Outcome | Refusal]
    list_tag: EntityTag
    seq: int | None
    replayed: bool = False


async def handle_batch(
    store: EventStore,
    user_id: str,
    commands: Sequence[Command],
    *,
    atomic: bool,
    precondition: Precondition,
    actor: str,
    metadata: Metadata,
) -> BatchOutcome:
    """Carry the commands out in order, in one transaction; each is decided on what those before it leave.

    An atomic batch is carried out as a whole or not at all: raise `BatchRefused`. Else refusals are among the results.
    The precondition is on the list. If the idempotency key is in the log already, the first outcome is returned. Raise
    as `commands.handler.handle` does.
    """
    batch = _Batch(store, user_id, commands, atomic=atomic, precondition=precondition, actor=actor, metadata=metadata)
    what = "failed"
    try:
        outcome = await retry(batch.carry_out, on=lambda error: is_transient(error) or isinstance(error, Conflict))
        what = "replayed" if outcome.replayed else "done" if outcome.seq else "unchanged"
    except Conflict as error:  # every try was refused, and wrote nothing
        raise TooManyRequests(f"others write tasks of {user_id} all the time") from error
    except UNAVAILABLE as error:
        if batch.in_doubt:
            raise InDoubt(str(error)) from error
        raise
    except Refusal:
        what = "refused"
        raise
    finally:
        metrics.COMMANDS.labels("Batch", what).inc()
    return outcome


class _Batch:
    """A batch that is being carried out, perhaps in several tries.

    Invariants: everything is decided under the stream's lock. All events are sent in one statement, and the transaction
    ends with it. So a try that is in doubt is over, one way or the other, when the next one has the lock: its first
    event is in the log by then, or never will be. A user without events has no stream to lock, but there the number of
    the first event admits one of two tries.

    The idempotency key is on the first event, and only there. A replay decides the commands again, on the states before
    that event: `decide` is pure, so each decides as it did, and its event is the next one in the log.
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
        self._store, self._user_id, self._commands = store, user_id, commands
        self._atomic, self._precondition = atomic, precondition
        self._actor, self._metadata = actor, metadata
        self._sent: Sequence[PendingAppend] = ()
        self._results: list[Outcome | Refusal] = []
        self.in_doubt = False
        """True if events were sent and it is unknown if they were committed."""

    async def carry_out(self) -> BatchOutcome:
        """Try to carry the batch out."""
        key = self._metadata.idempotency_key
        async with self._store.locked(self._user_id) as stream:
            if self._sent and (first := await stream.find_appended(self._sent[0].event)):
                return self._outcome(await self._read(first))
            self.in_doubt = False
            before = await stream.find(self._user_id, key) if key is not None else None
            head = await stream.head(self._user_id)
            entries = [] if before else await self._append(stream, EntityTag(head.seq, head.hash))
        if before is not None:
            return await self._replay(before)
        self.in_doubt = False
        return self._outcome(entries) if entries else BatchOutcome(self._results, EntityTag(head.seq, head.hash), None)

    async def _append(self, stream: LockedStream, list_tag: EntityTag) -> Sequence[RecordedEvent]:
        check_list(self._precondition, list_tag)
        self._sent = await self._decide(stream)
        if not self._sent:
            return ()
        self.in_doubt = True
        try:
            return await stream.append_all(self._sent)
        except Conflict:
            self.in_doubt = False
            metrics.CONFLICTS.inc()
            raise

    async def _decide(self, stream: LockedStream) -> Sequence[PendingAppend]:
        """Decide the commands, and return the events to append."""
        tasks = _Tasks(stream, self._user_id)
        await tasks.load(self._commands)
        pending: list[PendingAppend] = []
        metadata, self._results = self._metadata, []
        slices = TimeSlices(self._user_id)
        for index, command in enumerate(self._commands):
            state = await tasks.state(command)
            try:
                payload = decide(command, state)
            except Refusal as refusal:
                if self._atomic:
                    raise BatchRefused(index, refusal) from refusal
                self._results.append(refusal)
                continue
            if payload is None:
                self._results.append(Outcome(state.task, state.hash, None, "unchanged"))
                continue
            event = event_of(command, state, payload, self._actor, metadata)
            metadata = replace(metadata, idempotency_key=None, fingerprint=None)
            after = tasks.take_in(state, event)
            pending.append(PendingAppend(event, after.task, on_row=False))
            self._results.append(Outcome(after.task, b"", 0))  # hash and number are known when it is recorded
            await slices.pause()
        return pending

    async def _read(self, first: RecordedEvent) -> list[RecordedEvent]:
        """Read the events of a try that was in doubt and is committed."""
        upto = first.seq + len(self._sent) - 1
        return [entry async for entry in self._store.read(self._user_id, after=first.seq - 1, upto=upto)]

    def _outcome(self, entries: Sequence[RecordedEvent]) -> BatchOutcome:
        """Make the outcome from the recorded events."""
        recorded = iter(entries)
        results: list[Outcome | Refusal] = []
        for each in self._results:
            if isinstance(each, Outcome) and each.what == "done":
                entry = next(recorded)
                results.append(replace(each, seq=entry.seq, hash=entry.hash))
            else:
                results.append(each)
        return BatchOutcome(results, EntityTag(entries[-1].seq, entries[-1].hash), entries[-1].seq)

    async def _replay(self, before: RecordedEvent) -> BatchOutcome:
        """Replay the outcome of the batch whose first event this is. Raise `IdempotencyKeyReused`."""
        check_fingerprint(before, self._metadata)
        following = self._store.read(self._user_id, after=before.seq - 1, upto=before.seq + len(self._commands) - 1)
        recorded = [entry async for entry in following]
        tasks = _Tasks(self._store, self._user_id, before=before.seq)
        results: list[Outcome | Refusal] = []
        count = 0
        for command in self._commands:
            state = await tasks.state(command)
            try:
                payload = decide(command, state)
            except Refusal as refusal:
                results.append(refusal)
                continue
            if payload is None:
                results.append(Outcome(state.task, state.hash, None, "replayed"))
                continue
            entry, count = recorded[count], count + 1
            if type(entry.event.payload) is not type(payload):
                raise ImpossibleEvent(f"event {entry.seq} of {self._user_id} isn't the batch's")
            after = tasks.take_in(state, entry.event)
            results.append(Outcome(after.task, entry.hash, entry.seq, "replayed"))
        last = recorded[count - 1]
        return BatchOutcome(results, EntityTag(last.seq, last.hash), last.seq, replayed=True)


class _Tasks:
    """The states of a batch's tasks, as the commands decided so far leave them.

    `before`: the number of the event before which they begin, for a replay.
    """

    def __init__(self, stream: EventStore | LockedStream, user_id: str, *, before: int | None = None) -> None:
        self._stream, self._user_id, self._before = stream, user_id, before
        self._states: dict[UUID, TaskState] = {}
        self._events: dict[UUID, list[Event]] = {}

    async def load(self, commands: Sequence[Command]) -> None:
        """Load the tasks' rows, which only a locked stream can do."""
        assert isinstance(self._stream, LockedStream)  # noqa: S101 - see above
        ids = list({command.task_id for command in commands})
        rows: Mapping[UUID, StoredTask] = await self._stream.load_all(self._user_id, ids)
        for id_, row in rows.items():
            if state := state_of(row, self._user_id, id_):
                self._states[id_] = state
        rest = [id_ for id_ in ids if id_ not in self._states]
        known = await self._stream.known(self._user_id, rest) if rest else ()
        self._states |= {id_: TaskState() for id_ in rest if id_ not in known}

    async def state(self, command: Command) -> TaskState:
        """Return the state that the command is decided on."""
        id_ = command.task_id
        if isinstance(command, RestoreTask) and (id_ not in self._states or self._states[id_].version):
            state = await self._fold(id_, command.version)
            for event in self._events.get(id_, ()):
                state = advance(state, event, b"", command.version)
            return state
        if id_ not in self._states:
            self._states[id_] = await self._fold(id_, None)
        return self._states[id_]

    async def _fold(self, task_id: UUID, version: int | None) -> TaskState:
        state = TaskState()
        async with aclosing(self._stream.history(self._user_id, task_id)) as entries:
            async for entry in entries:
                if self._before is not None and entry.seq >= self._before:
                    break
                state = advance(state, entry.event, entry.hash, version)
        return state

    def take_in(self, state: TaskState, event: Event) -> TaskState:
        """Return the state after the event, and decide the task's next command on it."""
        after = advance(state, event, b"", None)
        self._states[event.task_id] = after
        self._events.setdefault(event.task_id, []).append(event)
        return after
