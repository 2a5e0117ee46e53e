"""Verify that each user's log is as it was written, and that their tasks are those that it folds to."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import asyncpg

from db.pool import Connection
from events import hash_chain
from events.integrity import reads
from events.integrity.chain_verifier import ChainVerifier
from events.integrity.mismatch import Mismatch, Mismatches, Value
from events.integrity.replay import Fold, compare, mismatches
from events.integrity.work_units import BATCH, StreamSize, split
from events.serialization import Json, header_of, meta_of, parsed
from events.store.log import heads


@dataclass(frozen=True, slots=True)
class Verified:
    """The counts of users, events and tasks that were checked, and the mismatches."""

    users: int = 0
    events: int = 0
    tasks: int = 0
    mismatches: list[Mismatch] = field(default_factory=list)


async def verify(connection: Connection, streams: Sequence[StreamSize], *, log_only: bool = False) -> Verified:
    """Check these users' hash chains, their streams against their logs, and their tasks against the fold.

    Each batch is read in a snapshot of its own (REPEATABLE READ, read-only), in constant memory. No row is changed, and
    no writer is held up. Raise the connection's errors.
    """
    parts = []
    for batch in split(streams, BATCH):
        users = [stream.user_id for stream in batch]
        try:
            async with reads.snapshot(connection):
                parts.append(await _batch(connection, users, log_only=log_only))
        except reads.UNREADABLE as error:
            if len(users) > 1:
                parts += [await verify(connection, [stream], log_only=log_only) for stream in batch]
            else:
                parts.append(Verified(users=1, mismatches=[reads.unreadable_row(users[0], error)]))
    return _sum(parts)


def _sum(parts: Sequence[Verified]) -> Verified:
    return Verified(
        users=sum(part.users for part in parts),
        events=sum(part.events for part in parts),
        tasks=sum(part.tasks for part in parts),
        mismatches=[each for part in parts for each in part.mismatches],
    )


async def _batch(connection: Connection, users: list[str], *, log_only: bool) -> Verified:
    streams = await heads(connection, users)
    rows = await reads.events(connection, users)
    if len(rows) == reads.MAX_EVENTS:
        return _sum([await _one(connection, user, streams.get(user), log_only=log_only) for user in users])
    logs = {user: _Log(user) for user in users}
    fold = Fold()
    for row in rows:
        user, seq, _, _, task, version, type_, at, _, data, *_ = row
        data = data and parsed(data)
        logs[user].take(row, data)
        if not log_only:
            fold.take(user, seq, task, version, type_, at, data)
    for user, log in logs.items():
        log.end(streams.get(user))
    found = {user: log.mismatches for user, log in logs.items()}
    task_rows = [] if log_only else await reads.tasks(connection, users)
    damaged = {user for user in users if found[user].listed()}
    for each in _held_against(fold, task_rows):
        found[each.user_id].add([_in_doubt(each) if each.user_id in damaged else each])
    return Verified(len(users), len(rows), len(task_rows), [each for user in users for each in found[user].listed()])


async def _one(connection: Connection, user_id: str, stream: hash_chain.Head | None, *, log_only: bool) -> Verified:
    """Verify a user with a log of any length, in constant memory: first the log in its order, then the tasks by id."""
    log, tasks = _Log(user_id), 0
    async for rows in reads.events_of_one(connection, user_id):
        for row in rows:
            log.take(row, row["data"] and parsed(row["data"]))
    log.end(stream)
    found = log.mismatches
    damaged = bool(found.listed())
    if not log_only:
        async for part in reads.folded(connection, user_id, upto=log.verifier.seq):
            task_rows = await reads.tasks(connection, [user_id], part.first, part.last)
            tasks += len(task_rows)
            differing = _held_against(part.fold, task_rows)
            found.add(map(_in_doubt, differing) if damaged else differing)
    return Verified(1, log.verifier.events, tasks, found.listed())


class _Log:
    """A user's log as its rows are read, in order of `seq`: its verifier, and the mismatches found so far."""

    def __init__(self, user_id: str) -> None:
        self.verifier = ChainVerifier(user_id)
        self.mismatches = Mismatches(user_id)

    def take(self, row: Iterable[Any], data: Json | None) -> None:
        """Check the next event: its row (`events.store.log.COLUMNS`), and its data as stored; `None` if erased."""
        user, seq, hash_, id_, task, version, type_, at, actor, _, *content, salt, personal = row
        try:
            header = header_of(user, id_, task, version, type_, at, actor)
            if data is not None:
                personal = hash_chain.inner_digest(data, meta_of(*content), salt)
            digest = hash_chain.digest_of(header, personal)
        except (TypeError, ValueError, AttributeError):  # never written by Daybook, such as times before our era
            digest = None
        if mismatch := self.verifier.check(seq, digest, hash_):
            self.mismatches.add([mismatch])
        self.verifier.advance(seq, hash_)

    def end(self, stream: hash_chain.Head | None) -> None:
        """Compare the stream with the last event, once all events were taken."""
        last, hash_ = self.verifier.seq, self.verifier.hash
        if stream is None:
            if last:
                self._tell("seq", None, last, f"there is no stream, and events up to {last}")
        elif missing := self.verifier.end(stream):
            self.mismatches.add([missing])
        elif stream.seq < last:
            self._tell(
                "seq", stream.seq, last, f"the stream is at event {stream.seq}, and the log goes on to event {last}"
            )
        elif stream.hash != hash_:
            told = f"the stream has another hash than its last event, {last}"
            self._tell("hash", stream.hash.hex(), hash_.hex(), told)

    def _tell(self, field: str, found: Value, expected: Value, message: str) -> None:
        user_id = self.verifier.user_id
        mismatch = Mismatch(
            table="streams", user_id=user_id, field=field, found=found, expected=expected, message=message
        )
        self.mismatches.add([mismatch])


def _in_doubt(mismatch: Mismatch) -> Mismatch:
    """Add to a mismatch in `tasks` that the log is damaged, so that the row may be the one that is right."""
    if mismatch.table != "tasks":
        return mismatch
    return replace(mismatch, message=f"{mismatch.message}; but the log is damaged, and the row may be right")


def _held_against(fold: Fold, rows: Iterable[asyncpg.Record]) -> Iterable[Mismatch]:
    return chain(fold.broken.values(), mismatches(compare(fold.tasks, rows, broken=fold.broken)))
