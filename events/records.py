"""Events as clients see them: records for JSON, cells for CSV (docs/http-api.md, "History")."""

import re
from collections.abc import Sequence
from typing import Any

import orjson

from events.serialization import Json, Row, rfc3339, upcast

FIELDS = ("title", "description", "completed")


def changes(type_: str, data: Json) -> Json:
    """Each field that an event changed, before and after. Raises `UnknownEvent` (events.serialization)."""
    found = upcast(type_, data)["changes"]
    return {name: {"from": found[name]["from"], "to": found[name]["to"]} for name in FIELDS if name in found}


def record(row: Row) -> Json:
    """What an audit page shows of a row of `events`. Raises `UnknownEvent` (events.serialization)."""
    return {
        "seq": row["seq"],
        "id": str(row["id"]),
        "type": row["type"],
        "task_id": str(row["task_id"]),
        "version": row["version"],
        "at": rfc3339(row["at"]),
        "actor": row["actor"],
        "request_id": row["request_id"],
        "client": {"address": row["client_address"], "agent": row["client_agent"]},
        "changes": changes(row["type"], orjson.loads(row["data"])),
        "hash": row["hash"].hex(),
    }


def full_record(row: Row) -> Json:
    """The same, with all that it takes to compute the hash again: `data` is what was hashed, as it is stored."""
    return {
        **record(row),
        "user_id": row["user_id"],
        "idempotency_key": row["idempotency_key"],
        "fingerprint": row["fingerprint"] and row["fingerprint"].hex(),
        "salt": row["salt"].hex(),
        "data": orjson.loads(row["data"]),
    }


CSV_COLUMNS = (
    *("seq", "id", "type", "task_id", "version", "at", "actor", "request_id", "client_address", "client_agent"),
    *(f"{field}_{side}" for field in FIELDS for side in ("from", "to")),
    *("hash", "user_id", "idempotency_key", "fingerprint", "salt", "data"),
)


def csv_cells(row: Row) -> Sequence[str]:
    """A full record as one cell per `CSV_COLUMNS`: null is empty, `data` is JSON, and no cell is a formula."""
    full = full_record(row)
    client, changed = full.pop("client"), full.pop("changes")
    full |= {f"client_{name}": value for name, value in client.items()}
    full |= {f"{field}_{side}": value for field, change in changed.items() for side, value in change.items()}
    full["data"] = orjson.dumps(full["data"]).decode()
    return [_cell(full.get(column)) for column in CSV_COLUMNS]


_RUN = re.compile(r"['\t\r\n]|[\s\0-\x1f\x7f]*[=+\-@\uff1d\uff0b\uff0d\uff20]")
"""What must not begin a cell: how formulas begin, in full width too, which some spreadsheets take for the same; also
behind control characters, which LibreOffice drops where it saves."""


def _cell(value: Any) -> str:
    """Text that a spreadsheet takes for text. An apostrophe goes before what it might run, and before an apostrophe,
    so that taking one away from the start gives the value back, always."""
    if value is None:
        return ""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"'{text}" if _RUN.match(text) else text
