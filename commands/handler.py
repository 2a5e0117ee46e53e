"""Command handler of single writes: load, decide, append. One transaction appends and detects conflicts."""

import secrets
from contextlib import aclosing, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, TypeAlias
from uuid import UUID

from uuid_utils.compat import uuid7

from commands.commands import Command, CreateTask, EraseTask, RestoreTask, UndoEvent
from commands.decider import Refusal, TaskExists, TaskState, check_list, decide, moment
from commands.precondition import UNCONDITIONAL
from db.errors import NOT_SENT, UNAVAILABLE, TooBusy, is_ambiguous, is_transient, retry
from events.store import in_doubt
from events.store.append import IdempotencyKeyTaken, PendingAppend, RecordedEvent, VersionConflict, VersionTaken
from events.store.event_store import EventStore, LockedStream
from events.store.past import task_at
from events.store.stored_tasks import StoredTask
from events.task import ErasedContent, Event, Metadata, Task, TaskDeleted, TaskErased, TaskEvent, UserErased, evolve
from telemetry import metrics

What: TypeAlias = Literal["done", "unchanged", "replayed"]


class IdempotencyKeyReused(Refusal):
    """The user has already used this idempotency key for another request."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The task as the command left it (`None`: deleted), and the hash of the event that left it so.

    `seq` is the number of the command's event; `None` if it changed nothing. `replayed` says that the command was
    carried out before, and wasn't carried out again.
    """

    task: Task | None
    hash: bytes
    seq: int | None
    what: What = "done"

    @property
    def replayed(self) -> bool:
        return self.what == "replayed"


async def handle(store: EventStore, command: Command, *, actor: str, metadata: Metadata) -> Outcome:
    """Carry the command out, once.

    When this returns, the event and the projection are committed. When it raises, neither is written, but after
    `InDoubt` (events.store.in_doubt) both may be. If a connection is dropped, the command is retried on another for a
    moment; nothing is done twice. If the idempotency key is in the log already, the command's first outcome is
    returned. Raise a `Refusal`, or one of `db.errors.UNAVAILABLE`.
    """

    async def once() -> Outcome:
        return await _replay_or_carry_out(store, command, actor, metadata)

    what = "failed"
    try:
        outcome = await retry(once, on=lambda error: is_transient(error) or isinstance(error, VersionConflict))
        what = outcome.what
    except VersionConflict as error:  # every try was refused, and wrote nothing
        raise TooBusy(f"others write to task {command.task_id} all the time") from error
    except Refusal:
        what = "refused"
        raise
    finally:
        metrics.COMMANDS.labels(type(command).__name__, what).inc()
    return outcome


async def _replay_or_carry_out(store: EventStore, command: Command, actor: str, metadata: Metadata) -> Outcome:
    """Carry the command out; if it wrote nothing, look for the event that the request left when it came before.

    So the key costs no look-up if the command is carried out: the append itself refuses a second event with the key.
    """
    key = metadata.idempotency_key
    try:
        outcome = await _carry_out(store, command, actor, metadata)
        if key is None or outcome.what == "done":
            return outcome
    except (IdempotencyKeyTaken, Refusal):
        if key is None or (before := await store.find(command.user_id, key)) is None:
            raise
    else:
        if (before := await store.find(command.user_id, key)) is None:
            return outcome
    return await _replay(store, before, metadata)


async def _carry_out(store: EventStore, command: Command, actor: str, metadata: Metadata) -> Outcome:
    """Decide the command and append its event: one round trip for each, and only the latter for a creation.

    It is decided on the task's row. If another writer is first, the next try holds the stream's lock, so that it
    can't lose again. If the projection has no row of the task, or one that differs from the log, the log decides; it
    also does for a restoration, an undo and an erasure. Raise a `Refusal`, `IdempotencyKeyTaken`, `VersionConflict`,
    `InDoubt` or one of `UNAVAILABLE`.
    """
    of_past = isinstance(command, RestoreTask | UndoEvent | EraseTask)
    past = await _rehydrate(store, command, TaskState()) if of_past else None
    for locked in (False, True, True):  # the third: on the log, if the row was wrong
        state, pending, entry = None, None, None
        try:
            async with store.locked(command.user_id) if locked else nullcontext(store) as stream:
                state = await _load(stream, command) if past is None else await _rehydrate(stream, command, past)
                if state is not None:
                    after = await _check_list(stream, command)
                    payload = decide(command, state)
                    if payload is None:
                        return Outcome(state.task, state.hash, None, "unchanged")
                    event = event_of(command, state, payload, actor, metadata)
                    pending = PendingAppend(event, evolve(state.task, event), on_row=past is None, after=after)
                    entry = await stream.append(pending)
            if pending is not None and entry is not None:
                return Outcome(pending.task, entry.hash, entry.seq)
        except VersionConflict as conflict:
            if isinstance(command, CreateTask) and isinstance(conflict, VersionTaken):
                raise TaskExists(f"There is, or was, a task {command.task_id} already.") from conflict
            metrics.CONFLICTS.inc()
        except UNAVAILABLE as error:
            if pending is None or not is_ambiguous(error) or isinstance(error, NOT_SENT):
                raise
            entry = await in_doubt.resolve(store, pending)
            return Outcome(pending.task, entry.hash, entry.seq)
        if past is None and (state is None or locked):
            past = await _state_by_log(store, command)
            decide(command, past)  # a refusal needs no lock
    raise VersionConflict(f"task {command.task_id} has changed all the time")


async def _load(stream: EventStore | LockedStream, command: Command) -> TaskState | None:
    """Make the state from the task's row; `None` if there is none, or one that no event left so."""
    if isinstance(command, CreateTask):  # its id is new, or the append says that it isn't
        return TaskState()
    row = await stream.load(command.user_id, command.task_id)
    return row and state_of(row, command.user_id, command.task_id)


def state_of(row: StoredTask, user_id: str, task_id: UUID) -> TaskState | None:
    """Make the state from the task's row; `None` if no event left it so."""
    task = row.task(user_id, task_id)
    if row.hash is None or task is None:
        return None
    return TaskState(task=task, version=row.version, hash=row.hash, at=task.updated_at, last=task)


def advance(state: TaskState, event: Event, hash_: bytes, version: int | None) -> TaskState:
    """Return the state after the event. `then` becomes the task at `version`, and `before` the one before it."""
    if state.erased or isinstance(event.payload, ErasedContent | TaskErased | UserErased):
        return TaskState(version=event.version, hash=hash_, at=event.at, erased=True)
    task = evolve(state.task, event)
    then, before = (task, state.task) if event.version == version else (state.then, state.before)
    return TaskState(
        task=task, version=event.version, hash=hash_, at=event.at, last=task or state.last, then=then, before=before
    )


async def _rehydrate(stream: EventStore | LockedStream, command: Command, so_far: TaskState) -> TaskState:
    """Rehydrate the task's state from its events after `so_far`, so that under a lock only new events are read."""
    version = command.version if isinstance(command, RestoreTask | UndoEvent) else None
    found = so_far
    async with aclosing(stream.history(command.user_id, command.task_id, after=so_far.version)) as entries:
        async for entry in entries:
            found = advance(found, entry.event, entry.hash, version)
    return found


async def _state_by_log(store: EventStore, command: Command) -> TaskState:
    """Rehydrate the state of a task that exists by the log; for others, the log's last event is enough to refuse."""
    if await store.is_there(command.user_id, command.task_id):
        return await _rehydrate(store, command, TaskState())
    return TaskState()


async def _check_list(stream: EventStore | LockedStream, command: Command) -> int | None:
    """Check a creation's precondition, which is one on the list. Return the number of the event that must be its last.

    Return `None` if there is no such precondition. Raise `VersionMismatch`.
    """
    if not isinstance(command, CreateTask) or command.precondition == UNCONDITIONAL:
        return None
    head = await stream.head(command.user_id)
    check_list(command.precondition, head)
    return head.seq


def event_of(command: Command, state: TaskState, payload: TaskEvent, actor: str, metadata: Metadata) -> Event:
    """Make the event that the command was decided to cause."""
    return Event(
        id=uuid7(),
        user_id=command.user_id,
        task_id=command.task_id,
        version=state.version + 1,
        at=moment(datetime.now(UTC), state.at),
        actor=actor,
        payload=payload,
        metadata=without_client(metadata) if isinstance(payload, TaskErased) else metadata,
        salt=secrets.token_bytes(16),
    )


def without_client(metadata: Metadata) -> Metadata:
    """Return the metadata of an event that records an erasure, without personal ones: they could never be erased."""
    return replace(metadata, client_address=None, client_agent=None)


def check_fingerprint(before: RecordedEvent, metadata: Metadata) -> None:
    """Check that the event with this idempotency key is of the same request. Raise `IdempotencyKeyReused`."""
    if before.event.metadata.fingerprint != metadata.fingerprint:
        raise IdempotencyKeyReused(
            "This Idempotency-Key stands for another request; repeat that one as it was, or make a new key."
        )


async def _replay(store: EventStore, before: RecordedEvent, metadata: Metadata) -> Outcome:
    """Replay the outcome of the command that left this event. Raise `IdempotencyKeyReused` if another request did."""
    event = before.event
    check_fingerprint(before, metadata)
    if isinstance(event.payload, TaskDeleted | TaskErased):
        return Outcome(None, before.hash, before.seq, "replayed")
    row = await store.load(event.user_id, event.task_id)
    task = row and row.task(event.user_id, event.task_id)
    if row is not None and row.hash == before.hash and task is not None:
        return Outcome(task, before.hash, before.seq, "replayed")
    then = await task_at(store, event.user_id, event.task_id, version=event.version)
    return Outcome(then and then.task, before.hash, before.seq, "replayed")
