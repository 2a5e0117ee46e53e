"""Exports that are damaged in each way, and what the verifier says of each: for verifiers in other languages."""

import json
import sys
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from hashlib import sha256
from io import BytesIO
from typing import Any, NamedTuple

from events.export.verification import NothingToSay, verify_export
from events.hash_chain import Head
from events.serialization import DATA_VERSION, UnknownEvent, canonical
from tests.exports import (
    FIFTH,
    LOG,
    MARK,
    OTHER,
    Record,
    changed,
    forged,
    head_of,
    leaf,
    leaves,
    lines,
    logged,
    numbered,
    put,
    records,
    rehashed,
)

WHOLE, LAST = lines(LOG), head_of(LOG[-1])
FORM_1 = {"v": 1, "task": {"title": "Buy milk", "description": None, "completed": False}}
UNREADABLE: tuple[Record, ...] = (
    {"v": 99},
    {"v": DATA_VERSION},
    {"v": DATA_VERSION, "changes": {"completed": True}},
    {"v": 1, "task": None},
    {},
)
_FORM = b'"v":%d' % DATA_VERSION
SPELLINGS = (
    (b'"version":1,', b'"version":1.0,'),
    (b'"version":1,', b'"version":1,"version":1,'),
    (_FORM, _FORM + b".0"),
    (_FORM, _FORM + b"," + _FORM),
    (b'"seq":1,', b'"seq": 1 ,'),
    (b'"seq":1,', b'"seq":1e0,'),
    (b'"version":2,', b'"version":99999999999999999999,'),
    (b"Buy milk", b"Buy \\u006dilk"),
    (b"Buy milk", b"Buy \\ud800"),
    (b"Buy milk", b"Buy \xff"),
    (b"curl/8", b'curl/8","agent":"curl/9'),
)


class Case(NamedTuple):
    log: bytes
    head: Head | None = None
    after: Head | None = None

    def expected(self) -> Any:
        """Return the report, or the name of the error."""
        try:
            report = asdict(verify_export(BytesIO(self.log), self.head, after=self.after))
        except (NothingToSay, UnknownEvent) as error:
            return type(error).__name__
        if report["mismatch"]:
            report["mismatch"] = {
                name: report["mismatch"][name] for name in ("kind", "seq", "line", "field", "message")
            }
        return report


def cases() -> Iterator[Case]:
    """Make all cases."""
    yield from _intact()
    yield from _changed()
    for place in range(len(LOG)):
        yield from _touched(place)
    yield from _rewritten()
    yield from _no_exports()
    yield from _erasures()


def erased(record: Record) -> Record:
    """Return the event without its content."""
    client = record["client"]
    facts = {
        "request_id": record["request_id"],
        "client_address": client["address"],
        "client_agent": client["agent"],
        "idempotency_key": record["idempotency_key"],
        "fingerprint": record["fingerprint"],
    }
    meta = {name: value for name, value in facts.items() if value is not None}
    personal = sha256(bytes.fromhex(record["salt"]) + canonical({"data": record["data"], "meta": meta})).hexdigest()
    gone = dict.fromkeys(("request_id", "idempotency_key", "fingerprint", "salt", "data"))
    nobody = {"address": None, "agent": None}
    shown = {**record, **gone, "client": nobody, "changes": {}, "erased": True, "personal": personal}
    after_hash = ("erased", "user_id", "idempotency_key", "fingerprint", "salt", "data", "personal")
    return {name: shown[name] for name in (*(each for each in shown if each not in after_hash), *after_hash)}


def _intact() -> Iterator[Case]:
    heads = (None, Head(), LAST, head_of(FIFTH), head_of(OTHER[4]), LAST._replace(at="2020-01-01T00:00:00.000000Z"))
    for log in (WHOLE, MARK + WHOLE, lines(LOG[::-1]), WHOLE.rstrip(), WHOLE.replace(b"\n", b"\r\n\n"), b"", b"\n"):
        for head in heads:
            yield Case(log, head)
    old = records(logged(), {1: FORM_1})
    yield Case(lines(old), head_of(old[-1]))
    yield Case(lines([put(old[0], ("data", "task", "title"), "Buy silk"), *old[1:]]))


def _changed() -> Iterator[Case]:
    for path in leaves(LOG[1]):
        for place in (1,) if path[0] in ("changes", "data") else (0, 1, len(LOG) - 1):
            record = put(LOG[place], path, changed(leaf(LOG[place], path)))
            yield Case(lines([*LOG[:place], record, *LOG[place + 1 :]]), LAST)
    for old, new in SPELLINGS:
        assert old in WHOLE
        yield Case(WHOLE.replace(old, new, 1))


def _touched(place: int) -> Iterator[Case]:
    """Remove, repeat, add, exchange, move and break the event at this place."""
    before, event, rest = LOG[:place], LOG[place], LOG[place + 1 :]
    yield Case(lines([*before, *rest]), LAST)
    yield Case(lines([*before, *rest]))
    yield Case(lines([*before, event, event, *rest]), LAST)
    yield Case(lines([*before, event, forged(event), *rest]))
    yield Case(lines([*before, OTHER[place], *rest]))
    yield Case(lines([*rest, *before, event]))
    yield Case(lines([*before, *rest[::-1], event]))
    yield Case(lines(before) + b"{}\n" + lines(LOG[place:]))
    yield Case(lines(before) + b"[]\n{not JSON}\n" + lines(rest))
    yield Case(lines([*before, _without(event, "salt"), *rest]))
    yield Case(lines([*before, {**event, "extra": None}, *rest]))
    yield Case(lines(LOG[place:]), LAST, head_of(LOG[place - 1]) if place else None)
    yield Case(lines(LOG[place:]), None, head_of(LOG[3]))


def _rewritten() -> Iterator[Case]:
    for data in UNREADABLE:
        yield Case(lines(rehashed([*LOG[:2], {**LOG[2], "data": data}, *LOG[3:]])))
    yield Case(lines(rehashed(numbered([*LOG[:3], *LOG[4:]]))), LAST)
    yield Case(lines(rehashed([*LOG[:1], put(LOG[1], ("changes", "title", "to"), "Buy silk"), *LOG[2:]])))
    yield Case(b"", LAST, LAST)
    yield Case(WHOLE, head_of(LOG[2]), LAST)
    yield Case(b"", LAST, LAST._replace(hash=bytes(32)))


def _no_exports() -> Iterator[Case]:
    yield Case(WHOLE[:-40])
    yield Case(WHOLE[:1000])
    shown = [_without(each, "user_id", "idempotency_key", "fingerprint", "salt", "data") for each in LOG]
    yield Case(lines(shown))
    yield Case(json.dumps(LOG, indent=1).encode())
    yield Case(b'{"detail": "Sign in again."}')


def _erasure(before: Record, type_: str, reason: str | None, **values: Any) -> Record:
    """Make an erasure that follows on an event, without its hash."""
    seq, said = before["seq"] + 1, {"reason": reason} if reason else {}
    about = {**before, "seq": seq, "id": f"{before['id'][:-4]}{seq:04}", "type": type_, "version": seq, "changes": {}}
    place = list(about).index("hash")
    items = list(about.items())
    data = {"v": DATA_VERSION, "changes": {}, **said}
    return dict([*items[:place], ("reason", reason), *items[place:]]) | values | {"data": data}


_FIRST = _erasure(LOG[-1], "TaskErased", "Ann asked for it")
_SECOND = _erasure(_FIRST, "UserErased", None, task_id="00000000-0000-0000-0000-000000000000", version=1)
NOT_ERASED = rehashed([*LOG, _FIRST, _SECOND])
"""A log with the records of an erasure, and all content."""
ERASED_LOG = [*map(erased, NOT_ERASED[:-2]), *NOT_ERASED[-2:]]
"""The same log after the erasure."""


def _erasures() -> Iterator[Case]:
    """Make logs of which content was erased, and damage an erased event and an erasure in each way."""
    before, log, last = NOT_ERASED, ERASED_LOG, head_of(ERASED_LOG[-1])
    for export in (log, log[::-1], [*before[:3], *log[3:]]):
        for head in (None, last, head_of(log[3])):
            yield Case(lines(export), head)
    yield Case(lines(log[6:]), last, head_of(log[5]))
    yield Case(lines([_without(each, "user_id") for each in log]))
    for place, values, _, _ in FAULTS:
        yield Case(lines(faulty(log, place, values)), last)
        yield Case(lines(faulty(log, place, values)[::-1]))


def faulty(log: Sequence[Record], place: int, values: Record) -> list[Record]:
    """Return the log with other values in the event at this place."""
    record = {name: value for name, value in {**log[place], **values}.items() if value is not ...}
    return [*log[:place], record, *log[place + 1 :]]


_UNLIKE = "`{}` isn't written as Daybook writes it"
_UNKNOWN = "'{}' is no column that this release knows"
_LACKS = "`{}` is missing"
_HASH = "its hash doesn't follow from its content and the hash before"
FAULTS: tuple[tuple[int, Record, str, str], ...] = (
    (2, {"salt": LOG[2]["salt"]}, "salt", _UNLIKE),
    (2, {"data": LOG[2]["data"]}, "data", _UNLIKE),
    (2, {"changes": LOG[2]["changes"]}, "changes", _UNLIKE),
    (2, {"request_id": "request-3"}, "request_id", _UNLIKE),
    (2, {"client": {"address": None, "agent": "curl/8"}}, "client", _UNLIKE),
    (2, {"idempotency_key": "key-3"}, "idempotency_key", _UNLIKE),
    (2, {"fingerprint": "ab"}, "fingerprint", _UNLIKE),
    (2, {"erased": False}, "erased", _UNLIKE),
    (2, {"erased": 1}, "erased", _UNLIKE),
    (2, {"erased": None}, "erased", _UNLIKE),
    (2, {"erased": ...}, "personal", _UNKNOWN),
    (2, {"personal": ...}, "personal", _LACKS),
    (2, {"personal": None}, "personal", _UNLIKE),
    (2, {"personal": "ab"}, "personal", _UNLIKE),
    (2, {"personal": "ab" * 32}, "hash", _HASH),
    (2, {"hash": "ab" * 32}, "hash", _HASH),
    (2, {"type": "TaskUpdated"}, "hash", _HASH),
    (2, {"actor": "mallory"}, "hash", _HASH),
    (2, {"salt": ...}, "salt", _LACKS),
    (2, {"reason": None}, "reason", _UNKNOWN),
    (2, {"at": "2026-01-01"}, "at", _UNLIKE),
    (10, {"reason": "Nobody asked for it"}, "reason", "`{}` doesn't follow from `data`"),
    (10, {"reason": None}, "reason", "`{}` doesn't follow from `data`"),
    (11, {"reason": "Somebody asked for it"}, "reason", "`{}` doesn't follow from `data`"),
    (10, {"reason": 1}, "reason", _UNLIKE),
    (10, {"reason": ...}, "reason", _LACKS),
    (10, {"changes": LOG[0]["changes"]}, "changes", "`{}` doesn't follow from `data`"),
    (10, {"data": {"v": DATA_VERSION, "changes": {}}}, "hash", _HASH),
    (11, {"task_id": LOG[0]["task_id"]}, "hash", _HASH),
    (11, {"erased": True}, "erased", _UNKNOWN),
    (11, {"personal": "ab" * 32}, "personal", _UNKNOWN),
)
"""Place of an event, its values that are changed (`...` takes one out), and the fault that is told."""


def _without(record: Record, *names: str) -> Record:
    return {name: value for name, value in record.items() if name not in names}


def _head(head: Head | None) -> Any:
    return head and {"seq": head.seq, "hash": head.hash.hex(), "at": head.at}


def text() -> str:
    """Return all cases as JSON, each with its `log` in base64 and what is `expected`."""
    return json.dumps(
        [
            {
                "log": b64encode(each.log).decode(),
                "head": _head(each.head),
                "after": _head(each.after),
                "expected": each.expected(),
            }
            for each in cases()
        ]
    )


if __name__ == "__main__":
    sys.stdout.write(text())
