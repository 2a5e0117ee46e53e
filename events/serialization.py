"""Serialization of events: to canonical bytes, JSON and rows, and back."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol, assert_never, cast
from uuid import UUID

import orjson

from events.task import (
    ErasedContent,
    Event,
    Fields,
    Metadata,
    TaskCreated,
    TaskDeleted,
    TaskErased,
    TaskEvent,
    TaskRestored,
    TaskToggled,
    TaskUpdated,
    UserErased,
    fields,
)

DATA_VERSION = 3
"""Version of `data`'s form that is written today, stored in every event as `v`. Older forms are read for ever."""

Json = dict[str, Any]


class Row(Protocol):
    """A row of `events`, indexed by column name, with `data` as JSON in UTF-8."""

    def __getitem__(self, column: str, /) -> Any: ...


class UnknownEvent(Exception):
    """The log holds an event that this release can't read: a newer release wrote it, or it is damaged."""


_CANONICAL = orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z


def canonical(value: Json) -> bytes:
    """Write JSON with sorted keys, no spaces, in UTF-8: RFC 8785 for Daybook's values (text, integers, bool, null)."""
    return orjson.dumps(value, option=_CANONICAL)


def rfc3339(moment: datetime) -> str:
    """Format a time in UTC, with six decimals and `Z`, so that times sort as text (docs/http-api.md, "Tasks")."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    text = orjson.dumps(moment, option=orjson.OPT_UTC_Z)[1:-1].decode()  # in a third of isoformat's time
    return text if moment.microsecond else f"{text[:-1]}.000000Z"


def writable(moment: datetime) -> datetime | str:
    """Return a time in a form that orjson, with `OPT_UTC_Z`, writes as `rfc3339` does.

    It writes a UTC time so by itself, unless its fraction is zero: several times as fast, and a check of the log writes
    many.
    """
    return moment if moment.microsecond and moment.tzinfo is UTC else rfc3339(moment)


def encode(payload: TaskEvent) -> Json:
    """Make an event's `data`: each field's value before and after; null on a side with no task."""
    match payload:
        case TaskCreated():
            return _data({}, fields(payload))
        case TaskUpdated():
            return _data(payload.before, payload.after)
        case TaskToggled():
            return _data({"completed": not payload.completed}, {"completed": payload.completed})
        case TaskDeleted():
            return _data(fields(payload), {})
        case TaskRestored():
            restored = {"version": payload.version, "created_at": rfc3339(payload.created_at)}
            return {**_data(payload.before, payload.after), "restored": restored}
        case TaskErased() | UserErased():
            return {**_data({}, {}), **({} if payload.reason is None else {"reason": payload.reason})}
        case ErasedContent():
            raise TypeError("content that was erased can't be written")
    assert_never(payload)


_ALWAYS = frozenset(("title", "description", "completed"))
"""Fields that are written also if there is nothing in them before and after."""

_NOTHING: tuple[None, list[str]] = (None, [])
"""Values of a field that reading sets if it isn't written. Empty text is another value than none."""


def _data(before: Fields, after: Fields) -> Json:
    return {
        "v": DATA_VERSION,
        "changes": {
            name: {"from": before.get(name), "to": after.get(name)}
            for name in after or before
            if name in _ALWAYS or before.get(name) not in _NOTHING or after.get(name) not in _NOTHING
        },
    }


def parsed(data: bytes) -> Json:
    """Parse stored data. Return `{}`, which no event has, if they have too large numbers or too deep nesting."""
    try:
        found: Json = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return found


def payload_of(type_: str, data: bytes | None) -> TaskEvent:
    """Make a task event from its data as they are read; `None` are erased ones. Raise as `decode` does."""
    return ErasedContent(type_) if data is None else decode(type_, parsed(data))


def decode(type_: str, data: Json) -> TaskEvent:
    """Make a task event from its `data`, in any form that was ever written. Raise `UnknownEvent`."""
    try:
        current = type(data["v"]) is int and data["v"] == DATA_VERSION and type_ in _DECODERS
        now = data if current else upcast(type_, data)
        return _DECODERS[type_](now)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnknownEvent(f"the data of this {type_} are damaged: {error!r}") from error


def upcast(type_: str, data: Json) -> Json:
    """Convert data from their form, step by step, to the form that is written today. Raise `UnknownEvent`.

    The log keeps data as they were written and hashed: only readers see the new form.
    """
    form = data.get("v") if isinstance(data, dict) else None  # type: ignore[redundant-expr] # damaged: any type
    if type(form) is not int or type_ not in _DECODERS or (form != DATA_VERSION and form not in _UPCASTS):
        name = type_ if type_.isidentifier() else repr(type_)
        raise UnknownEvent(f"{name} in form {form!r} is not known to this release")
    while data["v"] != DATA_VERSION:
        data = _UPCASTS[data["v"]](type_, data)
    return data


def _from_1(type_: str, data: Json) -> Json:
    """Convert data of form 1, which kept a created or deleted task as `task`, without values before and after."""
    if "changes" in data:
        return {**data, "v": 2}
    deleted = type_ == "TaskDeleted"
    return {
        "v": 2,
        "changes": {
            name: {"from": value, "to": None} if deleted else {"from": None, "to": value}
            for name, value in dict(data.get("task") or {}).items()
        },
    }


def _from_2(_type: str, data: Json) -> Json:
    """Convert data of form 2, which had neither priority nor due date nor tags."""
    return {**data, "v": 3}


_UPCASTS: Mapping[int, Callable[[str, Json], Json]] = {1: _from_1, 2: _from_2}


def _side(data: Json, side: str) -> Fields:
    return cast("Fields", {name: change[side] for name, change in data["changes"].items()})


def _updated(data: Json) -> TaskUpdated:
    before: Any = {}  # Fields
    after: Any = {}
    for name, change in data["changes"].items():
        before[name] = change["from"]
        after[name] = change["to"]
    return TaskUpdated(before, after)


def _restored(data: Json) -> TaskRestored:
    restored, before, after = data["restored"], _side(data, "from"), _side(data, "to")
    brought_back = "title" in before and before["title"] is None  # null is no title, so there was no task
    if brought_back:
        after = fields(TaskCreated(**after))  # with the defaults of the fields that it is too old to have
    return TaskRestored(
        version=restored["version"],
        created_at=datetime.fromisoformat(restored["created_at"]),
        before={} if brought_back else before,
        after=after,
    )


_DECODERS: Mapping[str, Callable[[Json], TaskEvent]] = {
    "TaskCreated": lambda data: TaskCreated(**_side(data, "to")),
    "TaskUpdated": _updated,
    "TaskToggled": lambda data: TaskToggled(data["changes"]["completed"]["to"]),
    "TaskDeleted": lambda data: TaskDeleted(**_side(data, "from")),
    "TaskRestored": _restored,
    "TaskErased": lambda data: TaskErased(reason_of(data)),
    "UserErased": lambda data: UserErased(reason_of(data)),
}


def reason_of(data: Json) -> str | None:
    """Return the reason of an erasure."""
    reason = data.get("reason")
    if not (reason is None or isinstance(reason, str)):
        raise TypeError("a reason is text")
    return reason


def header(event: Event) -> Json:
    """Return the part of an event that stays readable for ever, even if its personal data has been erased."""
    type_ = type(event.payload).__name__
    return header_of(event.user_id, event.id, event.task_id, event.version, type_, event.at, event.actor)


def header_of(user_id: str, id_: UUID, task_id: UUID, version: int, type_: str, at: datetime, actor: str) -> Json:
    """Make an event's header from its columns, even if its data can't be read."""
    return {
        "user_id": user_id,
        "id": str(id_),
        "task_id": str(task_id),
        "version": version,
        "type": type_,
        "at": writable(at),
        "actor": actor,
    }


def meta(metadata: Metadata) -> Json:
    """Make an event's metadata for its digest. Unknown fields are left out: a field added later changes no digest."""
    return meta_of(
        metadata.request_id,
        metadata.client_address,
        metadata.client_agent,
        metadata.idempotency_key,
        metadata.fingerprint,
    )


def meta_of(
    request_id: str | None, address: str | None, agent: str | None, key: str | None, fingerprint: bytes | None
) -> Json:
    """Make an event's metadata for its digest from its columns."""
    known: Json = {}
    if request_id is not None:
        known["request_id"] = request_id
    if address is not None:
        known["client_address"] = address
    if agent is not None:
        known["client_agent"] = agent
    if key is not None:
        known["idempotency_key"] = key
    if fingerprint is not None:
        known["fingerprint"] = fingerprint.hex()
    return known


def from_row(row: Row) -> Event:
    """Make an event from its row in the log. Raise `UnknownEvent` as `decode` does."""
    return Event(
        id=row["id"],
        user_id=row["user_id"],
        task_id=row["task_id"],
        version=row["version"],
        at=row["at"],
        actor=row["actor"],
        payload=payload_of(row["type"], row["data"]),
        metadata=Metadata(
            request_id=row["request_id"],
            client_address=row["client_address"],
            client_agent=row["client_agent"],
            idempotency_key=row["idempotency_key"],
            fingerprint=row["fingerprint"],
        ),
        salt=row["salt"] or b"",
    )
