"""Chain verifier: a log must have no gap, each event must follow on the one before, the stream must be at the end."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from events import hash_chain
from events.integrity.mismatch import Mismatch, Mismatches, Table, Value
from events.serialization import Json, header_of, meta_of

_WINDOW = 10_000
"""Number of recent events that are searched for the one that a misplaced event follows."""
_SEARCHES = 50
"""Largest number of such searches per user: if more events are wrong, the place of each is no help."""


@dataclass(frozen=True, slots=True)
class _Misfit:
    """An event with a hash that doesn't follow from the one before it and its own `digest` (`None`: not computable)."""

    seq: int
    hash: bytes
    expected: bytes
    digest: bytes | None


class ChainVerifier:
    """A check of one user's log, event by event, against its own numbers and hashes, in constant memory.

    Invariants: `seq` and `hash` are those of the last event taken. Each event is checked against the event stored
    before it, so that one changed event doesn't put all later ones in doubt.
    """

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.events = 0
        self.seq = 0
        self.hash = hash_chain.GENESIS
        self._mismatches = Mismatches(user_id)
        self._misfits: list[_Misfit] = []
        self._recent = deque([(0, hash_chain.GENESIS)], maxlen=_WINDOW)
        self._searches = 0

    def take(self, row: Iterable[Any], data: Json) -> None:
        """Check the next event in order of `seq`: its row (`events.store.log.COLUMNS`), and its data as stored."""
        user, seq, hash_, id_, task, version, type_, at, actor, _, request, address, agent, key, fingerprint, salt = row
        try:
            header = header_of(user, id_, task, version, type_, at, actor)
            digest = hash_chain.digest(header, data, meta_of(request, address, agent, key, fingerprint), salt)
        except (TypeError, ValueError, AttributeError):  # never written by Daybook, such as times before our era
            digest = None
        if seq != self.seq + 1:  # the hash before this event is missing too, so its own can't be checked
            self._missing(self.seq + 1, seq - 1, f"event {seq} comes next")
        elif digest is None or (expected := hash_chain.link(self.hash, digest)) != hash_:
            self._misfits.append(_Misfit(seq, hash_, b"" if digest is None else expected, digest))
        self._recent.append((seq, hash_))
        self.events += 1
        self.seq, self.hash = seq, hash_
        if self._misfits and self._misfits[0].seq < seq - _WINDOW // 2:
            self._explain()

    def end(self, stream: hash_chain.Head | None) -> Mismatches:
        """Compare the stream with the last event, once all events were taken, and return all mismatches."""
        self._explain()
        if stream is None:
            if self.seq:
                self._tell("streams", None, "seq", None, self.seq, f"there is no stream, and events up to {self.seq}")
        elif stream.seq > self.seq:
            self._missing(self.seq + 1, stream.seq, f"the stream is at event {stream.seq}")
        elif stream.seq < self.seq:
            told = f"the stream is at event {stream.seq}, and the log goes on to event {self.seq}"
            self._tell("streams", None, "seq", stream.seq, self.seq, told)
        elif stream.hash != self.hash:
            told = f"the stream has another hash than its last event, {self.seq}"
            self._tell("streams", None, "hash", stream.hash.hex(), self.hash.hex(), told)
        return self._mismatches

    def _missing(self, first: int, last: int, why: str) -> None:
        which = f"event {first} is" if first == last else f"events {first} to {last} are"
        self._tell("events", first, "seq", None, first, f"{which} missing: {why}")

    def _explain(self) -> None:
        """Report the misfits. One that follows on another event than the one before was moved, or that one inserted."""
        for misfit in self._misfits:
            follows = self._follows(misfit)
            why = "its content or its hash was changed"
            if follows is not None:
                why = f"by its hash it {f'follows on event {follows}' if follows else 'begins the log'}"
            told = f"event {misfit.seq} isn't as it was logged: {why}"
            self._tell("events", misfit.seq, "hash", misfit.hash.hex(), misfit.expected.hex(), told)
        self._misfits.clear()

    def _follows(self, misfit: _Misfit) -> int | None:
        digest = misfit.digest
        if digest is None or self._searches == _SEARCHES:
            return None
        self._searches += 1
        return next((seq for seq, hash_ in self._recent if hash_chain.link(hash_, digest) == misfit.hash), None)

    def _tell(self, table: Table, seq: int | None, field: str, found: Value, expected: Value, message: str) -> None:
        self._mismatches.add(
            [
                Mismatch(
                    table=table,
                    user_id=self.user_id,
                    seq=seq,
                    field=field,
                    found=found,
                    expected=expected,
                    message=message,
                )
            ]
        )
