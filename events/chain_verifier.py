"""Is a user's log as it was written: without a gap, each event chained to the one before, the stream at its end?"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from events import hash_chain
from events.mismatch import Mismatch, Mismatches, Table, Value
from events.serialization import Json, header_of, meta_of

_WINDOW = 10_000
"""Events among which is looked for the one that a misplaced event follows …"""
_SEARCHES = 50
"""… and how often: where more is wrong, where each belongs is no help."""


class Journal(NamedTuple):
    """Where the stream says that a user's log ends."""

    seq: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class _Misfit:
    """An event whose hash doesn't follow from what stands before it and from its own content (`None`: no content)."""

    seq: int
    hash: bytes
    expected: bytes
    digest: bytes | None


class ChainVerifier:
    """One user's log, held event by event against its own numbers and hashes, in constant memory.

    `seq` and `hash` are of the last event that was taken. Each event is held against the one that is stored before it,
    so that one changed event doesn't put all that follow in doubt.
    """

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.events = 0
        self.seq = 0
        self.hash = hash_chain.GENESIS
        self._differences = Mismatches(user_id)
        self._misfits: list[_Misfit] = []
        self._recent = deque([(0, hash_chain.GENESIS)], maxlen=_WINDOW)
        self._searches = 0

    def take(self, row: Iterable[Any], data: Json) -> None:
        """The next event in order of `seq`: its row (`events.log.COLUMNS`), and its data as they are stored."""
        user, seq, hash_, id_, task, version, type_, at, actor, _, request, address, agent, key, fingerprint, salt = row
        try:
            header = header_of(user, id_, task, version, type_, at, actor)
            digest = hash_chain.digest(header, data, meta_of(request, address, agent, key, fingerprint), salt)
        except (TypeError, ValueError, AttributeError):  # nothing that Daybook writes, such as times before our era
            digest = None
        if seq != self.seq + 1:  # and what this one followed on can't be known
            self._missing(self.seq + 1, seq - 1, f"event {seq} comes next")
        elif digest is None or (expected := hash_chain.link(self.hash, digest)) != hash_:
            self._misfits.append(_Misfit(seq, hash_, b"" if digest is None else expected, digest))
        self._recent.append((seq, hash_))
        self.events += 1
        self.seq, self.hash = seq, hash_
        if self._misfits and self._misfits[0].seq < seq - _WINDOW // 2:
            self._explain()

    def end(self, stream: Journal | None) -> Mismatches:
        """All that isn't right, once all events were taken."""
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
        return self._differences

    def _missing(self, first: int, last: int, why: str) -> None:
        which = f"event {first} is" if first == last else f"events {first} to {last} are"
        self._tell("events", first, "seq", None, first, f"{which} missing: {why}")

    def _explain(self) -> None:
        """Does a misfit follow on another event than the one before it? Then it was moved, or that one put between."""
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
        self._differences.add(
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
