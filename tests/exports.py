"""An export of one log, ways to touch it, and what its verifier says."""

import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import datetime
from io import BytesIO
from types import MappingProxyType
from typing import Any

from events import hash_chain
from events.export.verification import CutOff, NotAnExport, Report, verify_export
from events.hash_chain import Head
from events.integrity.mismatch import Mismatch
from events.records import full_record
from events.serialization import header, meta
from events.task import Event, Metadata, TaskCreated, TaskDeleted, TaskEvent, TaskRestored, TaskToggled, TaskUpdated
from tests import independent
from tests.spec import DAWN, event
from tests.unit.test_serialization_and_hash_chain import as_row

Record = dict[str, Any]
Path = tuple[str, ...]
NOTHING: Mapping[int, Record] = MappingProxyType({})

FACTS: Sequence[TaskEvent] = (
    TaskCreated("Buy milk", None, False),
    TaskUpdated({"title": "Buy milk", "description": None}, {"title": "Buy bülk", "description": "\u2028 two"}),
    TaskToggled(True),
    TaskDeleted("Buy bülk", "\u2028 two", True),
    TaskRestored(2, DAWN, {}, {"title": "Buy bülk", "description": None, "completed": False}),
    TaskToggled(True),
    TaskUpdated({"completed": True}, {"completed": False}),
    TaskRestored(3, DAWN, {"title": "Buy bülk"}, {"title": "Buy milk"}),
    TaskToggled(True),
    TaskToggled(False),
)


def logged(facts: Sequence[TaskEvent] = FACTS) -> list[Event]:
    return [
        replace(
            event(payload, number),
            metadata=Metadata(
                request_id=f"request-{number}",
                client_address="192.0.2.1",
                client_agent="curl/8",
                idempotency_key=f"key-{number}",
                fingerprint=bytes([170 + number]) * 32,
            ),
            salt=bytes([200 + number]) * 16,
        )
        for number, payload in enumerate(facts, 1)
    ]


def records(
    log: Sequence[Event], stored: Mapping[int, Record] = NOTHING, *, start: Record | None = None
) -> list[Record]:
    """Export the log, oldest first. `stored` has the data of events that aren't stored as they would be today."""
    previous, before = (bytes.fromhex(start["hash"]), start["seq"]) if start else (hash_chain.GENESIS, 0)
    result = []
    for seq, each in enumerate(log, before + 1):
        row = as_row(each)
        if seq in stored:
            row["data"] = json.dumps(stored[seq])
        digest = hash_chain.digest(header(each), json.loads(row["data"]), meta(each.metadata), each.salt)
        previous = hash_chain.link(previous, digest)
        result.append(full_record({**row, "seq": seq, "hash": previous}))
    return result


def numbered(export: Sequence[Record]) -> list[Record]:
    """Return these lines with numbers that look right."""
    return [{**record, "seq": seq} for seq, record in enumerate(export, 1)]


def rehashed(export: Sequence[Record]) -> list[Record]:
    """Return these events with the hashes that an outsider computes."""

    def row(record: Record) -> Record:
        return {
            **record,
            "at": datetime.fromisoformat(record["at"]),
            "client_address": record["client"]["address"],
            "client_agent": record["client"]["agent"],
            "fingerprint": record["fingerprint"] and bytes.fromhex(record["fingerprint"]),
            "salt": bytes.fromhex(record["salt"]),
            "data": json.dumps(record["data"]),
        }

    hashes = independent.chain(map(row, export))
    return [{**record, "hash": hash_.hex()} for record, hash_ in zip(export, hashes, strict=True)]


def lines(export: Sequence[Record]) -> bytes:
    return b"".join(json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n" for record in export)


def checked(export: Sequence[Record] | bytes, head: Head | None = None, *, after: Head | None = None) -> Report:
    return verify_export(BytesIO(export if isinstance(export, bytes) else lines(export)), head, after=after)


def found(export: Sequence[Record] | bytes, head: Head | None = None, *, after: Head | None = None) -> Mismatch:
    mismatch = checked(export, head, after=after).mismatch
    assert mismatch
    return mismatch


def noticed(export: Sequence[Record] | bytes) -> bool:
    """Say if the verifier complains: of a mismatch, of a text that is no export, or of one that is cut off."""
    try:
        return checked(export).mismatch is not None
    except (NotAnExport, CutOff):
        return True


def named(
    export: Sequence[Record] | bytes, head: Head | None = None, *, after: Head | None = None
) -> tuple[str | None, int | None, int | None]:
    mismatch = found(export, head, after=after)
    return mismatch.kind, mismatch.seq, mismatch.line


def head_of(record: Record) -> Head:
    return Head(seq=record["seq"], hash=bytes.fromhex(record["hash"]), at=record["at"])


def leaves(value: Any, path: Path = ()) -> Iterator[Path]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, (*path, name))
    else:
        yield path


def leaf(record: Record, path: Path) -> Any:
    return record if not path else leaf(record[path[0]], path[1:])


def put(record: Record, path: Path, value: Any) -> Record:
    """Return a copy of the record with this value there."""
    record = deepcopy(record)
    leaf(record, path[:-1])[path[-1]] = value
    return record


LOG = records(logged())
FIFTH = LOG[4]
OTHER = records([replace(each, salt=bytes(16)) for each in logged()])
"""The same log with other salts: each of its events is one that could be, and none is of LOG."""


def changed(value: Any) -> Any:
    """Return another value of the same kind."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case None:
            return "x"
    return value[:-2] + ("1" if value[-2] == "0" else "0") + value[-1]


def forged(previous: Record, **values: Any) -> Record:
    """Forge an event with a hash that follows on the previous one, which anybody who knows that hash can compute."""
    after = {"seq": previous["seq"], "hash": previous["hash"]}
    return {**records([replace(event(TaskToggled(True), 77), actor="mallory")], start=after)[0], **values}


MARK = b"\xef\xbb\xbf"
