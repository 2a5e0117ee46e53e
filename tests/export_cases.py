"""Exports that are damaged in each way, and what the verifier says of each: for verifiers in other languages."""

import json
import sys
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import asdict
from io import BytesIO
from typing import Any, NamedTuple

from events.export.verification import NothingToSay, verify_export
from events.hash_chain import Head
from events.serialization import UnknownEvent
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
    {"v": 3},
    {"v": 3, "changes": {"completed": True}},
    {"v": 1, "task": None},
    {},
)
SPELLINGS = (
    (b'"version":1,', b'"version":1.0,'),
    (b'"version":1,', b'"version":1,"version":1,'),
    (b'"v":3', b'"v":3.0'),
    (b'"v":3', b'"v":3,"v":3'),
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
