"""In-doubt commits: the connection was lost after an event was sent, so it may or may not be in the log."""

import asyncio

from db import deadline
from db.errors import UNAVAILABLE, is_ambiguous, retry
from events.store.append import (
    RESOLVE_SECONDS,
    Conflict,
    IdempotencyKeyTaken,
    PendingAppend,
    RecordedEvent,
    StreamMoved,
    VersionTaken,
)
from events.store.event_store import EventStore


class InDoubt(Exception):
    """The connection was lost after the event was sent, and it is still unknown if the event was committed."""


class _Undecided(Exception):
    """A refusal of this try, with no other event in this one's place, so that an earlier try may still commit."""


_STILL_IN_DOUBT: tuple[type[Exception], ...] = (*UNAVAILABLE, _Undecided)


async def resolve(store: EventStore, sent: PendingAppend) -> RecordedEvent:
    """Get the event into the log once, and return it as recorded.

    The identical event is sent again. The task's version is a unique key, so only one of the two can be committed, even
    if the first one is still in flight. Raise `VersionTaken`, `IdempotencyKeyTaken` or `StreamMoved` if another event
    took its place, so that neither can be, or `InDoubt`.
    """

    async def once_more() -> RecordedEvent:
        try:
            return await store.append_again(sent)
        except Conflict as conflict:
            if entry := await store.find_appended(sent.event):
                return entry
            if isinstance(conflict, VersionTaken | IdempotencyKeyTaken | StreamMoved):
                raise
            raise _Undecided from conflict

    try:
        async with asyncio.timeout_at(deadline.at_most(RESOLVE_SECONDS)):
            return await retry(once_more, on=lambda error: is_ambiguous(error) or isinstance(error, _Undecided))
    except _STILL_IN_DOUBT as error:
        raise InDoubt(repr(error)) from error
