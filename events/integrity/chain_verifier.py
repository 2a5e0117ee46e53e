"""Chain verifier: a log must have no gap, and each event's hash must follow from the one before."""

from collections.abc import Sequence

from events.hash_chain import Head, link
from events.integrity.mismatch import Kind, Mismatch, Value


class ChainVerifier:
    """A check of one user's log, event by event, against its own numbers and hashes, in constant memory.

    Invariant: `seq` and `hash` are those of the event that the next one must follow. `advance` sets them to an event's
    as they are stored, whether it was right or not, so that one changed event doesn't put all later ones in doubt.
    """

    def __init__(self, user_id: str = "", *, start: Head | None = None, numbers: Sequence[int] = ()) -> None:
        """Begin after the head `start`, or at the first event.

        `numbers` are those of all events to come, if they may come in another order than that of their numbers.
        """
        self.user_id = user_id
        self.events = 0
        self.seq, self.hash, _ = start or Head()
        self._numbers = numbers

    def check(self, seq: int, digest: bytes | None, hash_: bytes) -> Mismatch | None:
        """Check that an event follows on the last one. `digest` is `None` if it can't be computed."""
        due = self.seq + 1
        expected = None if digest is None else link(self.hash, digest)
        if expected == hash_:
            if seq == due:
                return None
            return self._mismatch("changed", due, "seq", seq, due, f"event {due} was changed: it is numbered {seq}")
        if seq == due:
            told = f"event {seq} was changed: its hash doesn't follow from its content and the hash before"
            return self._mismatch("changed", seq, "hash", hash_.hex(), expected.hex() if expected else None, told)
        return self._not_due(seq, due)

    def advance(self, seq: int, hash_: bytes) -> None:
        """Go on from this event."""
        self.events += 1
        if seq > self.seq:
            self.seq, self.hash = seq, hash_

    def end(self, head: Head) -> Mismatch | None:
        """Check that the events reach up to this head."""
        return self._missing(head.seq, f"the head is event {head.seq}") if head.seq > self.seq else None

    def _not_due(self, seq: int, due: int) -> Mismatch:
        if seq < due:
            return self._mismatch(
                "added", seq, "seq", seq, None, f"event {seq} was added: it comes after event {due - 1}"
            )
        if due not in self._numbers:
            following = min((each for each in self._numbers if each > due), default=seq)
            return self._missing(following - 1, f"event {seq} comes next")
        if self._numbers.count(seq) > 1:
            return self._mismatch("added", seq, "seq", seq, due, f"event {seq} was added: there are two of it")
        return self._mismatch(
            "reordered", seq, "seq", seq, due, f"event {seq} is out of order: event {due} comes later"
        )

    def _missing(self, last: int, why: str) -> Mismatch:
        first = self.seq + 1
        which = f"event {first} is" if first == last else f"events {first} to {last} are"
        return self._mismatch("removed", first, "seq", None, first, f"{which} missing: {why}")

    def _mismatch(self, kind: Kind, seq: int, field: str, found: Value, expected: Value, message: str) -> Mismatch:
        return Mismatch(
            kind=kind, user_id=self.user_id, seq=seq, field=field, found=found, expected=expected, message=message
        )
