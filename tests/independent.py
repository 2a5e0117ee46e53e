"""The digest and the chain once more, written from the design's text with the standard library only.

None of the code under test is used here: this is what an outsider with a database dump would write.
"""

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def moment(text: str) -> datetime:
    """Parse a time as an export has it."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%f%z")


def digest(row: Any) -> bytes:
    at = row["at"].astimezone(UTC)
    header = {
        "actor": row["actor"],
        "at": f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond:06}Z",
        "id": str(row["id"]),
        "task_id": str(row["task_id"]),
        "type": row["type"],
        "user_id": row["user_id"],
        "version": row["version"],
    }
    if row["data"] is None:  # it was erased
        return hashlib.sha256(_canonical(header) + row["personal"]).digest()
    meta = {name: row[name] for name in ("request_id", "client_address", "client_agent", "idempotency_key")}
    meta["fingerprint"] = row["fingerprint"].hex() if row["fingerprint"] is not None else None
    personal = {
        "data": json.loads(row["data"]),
        "meta": {name: value for name, value in meta.items() if value is not None},
    }
    inner = hashlib.sha256(row["salt"] + _canonical(personal)).digest()
    return hashlib.sha256(_canonical(header) + inner).digest()


def chain(rows: Iterable[Any]) -> list[bytes]:
    """Return the hash after each of a user's events, in order."""
    hashes = []
    last = b""
    for row in rows:
        last = hashlib.sha256(last + digest(row)).digest()
        hashes.append(last)
    return hashes


def row_of_line(line: Any) -> dict[str, Any]:
    """Return the columns that an export's line is of."""
    binary = {name: line.get(name) and bytes.fromhex(line[name]) for name in ("fingerprint", "salt", "personal")}
    client = {"client_address": line["client"]["address"], "client_agent": line["client"]["agent"]}
    data = None if line["data"] is None else json.dumps(line["data"])
    return {**line, **binary, **client, "at": moment(line["at"]), "data": data}
