"""Events as clients see them: records for JSON, cells for CSV (docs/http-api.md, "History")."""

import re
from collections.abc import Sequence
from typing import Any

import orjson

from events.serialization import Json, Row, reason_of, rfc3339, upcast
from events.task import ERASURE_TYPES, FIELDS


def changes(type_: str, data: Json | None) -> Json:
    """Return each field that an event changed, before and after. Raise `UnknownEvent` (events.serialization).

    There is none if the data were erased.
    """
    if data is None:
        return {}
    found = upcast(type_, data)["changes"]
    return {name: {"from": found[name]["from"], "to": found[name]["to"]} for name in FIELDS if name in found}


def record(row: Row) -> Json:
    """Make a row of `events` into the record on an audit page. Raise `UnknownEvent` (events.serialization)."""
    type_, data = row["type"], row["data"] and orjson.loads(row["data"])
    return {
        "seq": row["seq"],
        "id": str(row["id"]),
        "type": type_,
        "task_id": str(row["task_id"]),
        "version": row["version"],
        "at": rfc3339(row["at"]),
        "actor": row["actor"],
        "request_id": row["request_id"],
        "client": {"address": row["client_address"], "agent": row["client_agent"]},
        "changes": changes(type_, data),
        **reason(type_, data),
        "hash": row["hash"].hex(),
        **({} if row["personal"] is None else {"erased": True}),
    }


def reason(type_: str, data: Json | None) -> Json:
    """Return the member of a record that says why something was erased; other events have none."""
    return {"reason": None if data is None else reason_of(data)} if type_ in ERASURE_TYPES else {}


def full_record(row: Row) -> Json:
    """Make a row of `events` into a record with all that its hash is computed from; `data` is as stored and hashed.

    Of an event whose content was erased, that is `personal`, its inner digest. Raise `UnknownEvent`
    (events.serialization).
    """
    return {
        **record(row),
        "user_id": row["user_id"],
        "idempotency_key": row["idempotency_key"],
        "fingerprint": row["fingerprint"] and row["fingerprint"].hex(),
        "salt": row["salt"] and row["salt"].hex(),
        "data": row["data"] and orjson.loads(row["data"]),
        **({} if row["personal"] is None else {"personal": row["personal"].hex()}),
    }


CSV_COLUMNS = (
    *("seq", "id", "type", "task_id", "version", "at", "actor", "request_id", "client_address", "client_agent"),
    *(f"{field}_{side}" for field in FIELDS for side in ("from", "to")),
    *("hash", "user_id", "idempotency_key", "fingerprint", "salt", "data", "reason", "erased", "personal"),
)


def csv_cells(row: Row) -> Sequence[str]:
    """Make a row of `events` into one cell per `CSV_COLUMNS`: null is empty, `data` is JSON, no cell is a formula."""
    full = full_record(row)
    client, changed = full.pop("client"), full.pop("changes")
    full |= {f"client_{name}": value for name, value in client.items()}
    full |= {f"{field}_{side}": value for field, change in changed.items() for side, value in change.items()}
    full["data"] = full["data"] and orjson.dumps(full["data"]).decode()
    return [_cell(full.get(column)) for column in CSV_COLUMNS]


_RUN = re.compile(r"['\t\r\n]|[\s\0-\x1f\x7f]*[=+\-@\uff1d\uff0b\uff0d\uff20]")
"""Beginnings that a cell must not have: those of a formula, also in full width, which some spreadsheets accept, and
also after control characters, which LibreOffice drops on saving."""


def _cell(value: Any) -> str:
    """Make a value into a cell that a spreadsheet reads as text.

    An apostrophe is put before a text that could run as a formula, and before one that begins with an apostrophe. So
    dropping an apostrophe at the start always restores the value.
    """
    if value is None:
        return ""
    if isinstance(value, list):
        return orjson.dumps(value).decode()
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"'{text}" if _RUN.match(text) else text
