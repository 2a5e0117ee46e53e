"""Events as canonical bytes, as JSON and as rows, and back."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol, assert_never, cast
from uuid import UUID

import orjson

from events.task import (
    Event,
    Fields,
    Metadata,
    TaskCreated,
    TaskDeleted,
    TaskEvent,
    TaskRestored,
    TaskToggled,
    TaskUpdated,
)

DATA_VERSION = 2
"""The form of `data` that is written today. It stands in every event as `v`. Older ones are read for ever."""

Json = dict[str, Any]


class Row(Protocol):
    """A row of `events` by column name, with `data` as JSON in UTF-8."""

    def __getitem__(self, column: str, /) -> Any: ...


class UnknownEvent(Exception):
    """The log holds an event that this release can't read: a newer release wrote it, or it is damaged."""


_CANONICAL = orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z


def canonical(value: Json) -> bytes:
    """JSON with sorted keys, no spaces, UTF-8: RFC 8785 for what Daybook writes (text, whole numbers, bool, null)."""
    return orjson.dumps(value, option=_CANONICAL)


def rfc3339(moment: datetime) -> str:
    """UTC, always six decimals and `Z`, so that moments sort as text (docs/http-api.md, "Tasks")."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    text = orjson.dumps(moment, option=orjson.OPT_UTC_Z)[1:-1].decode()  # a third of what isoformat takes
    return text if moment.microsecond else f"{text[:-1]}.000000Z"


def encode(payload: TaskEvent) -> Json:
    """A fact as the `data` of its event: the value before and after, null where there was no task, of each field."""
    match payload:
        case TaskCreated():
            return _data({}, _fields(payload))
        case TaskUpdated():
            return _data(payload.before, payload.after)
        case TaskToggled():
            return _data({"completed": not payload.completed}, {"completed": payload.completed})
        case TaskDeleted():
            return _data(_fields(payload), {})
        case TaskRestored():
            restored = {"version": payload.version, "created_at": rfc3339(payload.created_at)}
            return {**_data(payload.before, payload.after), "restored": restored}
    assert_never(payload)


def _fields(payload: TaskCreated | TaskDeleted) -> Fields:
    return Fields(title=payload.title, description=payload.description, completed=payload.completed)


def _data(before: Fields, after: Fields) -> Json:
    names = after or before
    return {
        "v": DATA_VERSION,
        "changes": {name: {"from": before.get(name), "to": after.get(name)} for name in names},
    }


def parsed(data: bytes) -> Json:
    """Stored data; nothing at all, which no event has, where they can't be read: numbers or nesting without measure."""
    try:
        found: Json = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return found


def decode(type_: str, data: Json) -> TaskEvent:
    """The inverse of `encode`, for every form that was ever written. Raises `UnknownEvent`."""
    try:
        current = type(data["v"]) is int and data["v"] == DATA_VERSION and type_ in _FACTS
        now = data if current else upcast(type_, data)
        return _FACTS[type_](now)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnknownEvent(f"the data of this {type_} are damaged: {error!r}") from error


def upcast(type_: str, data: Json) -> Json:
    """Data as they would be written today, step by step from the form that they have. Raises `UnknownEvent`.

    The log keeps what it was given, and that is what was hashed: only readers see the new form.
    """
    form = data.get("v") if isinstance(data, dict) else None  # type: ignore[redundant-expr] # damaged, it may be all
    if type(form) is not int or type_ not in _FACTS or (form != DATA_VERSION and form not in _UPCASTS):
        name = type_ if type_.isidentifier() else repr(type_)
        raise UnknownEvent(f"{name} in form {form!r} is not known to this release")
    while data["v"] != DATA_VERSION:
        data = _UPCASTS[data["v"]](type_, data)
    return data


def _from_1(type_: str, data: Json) -> Json:
    """Form 1 kept a created or deleted task as `task`, without saying from what or to what."""
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


_UPCASTS: Mapping[int, Callable[[str, Json], Json]] = {1: _from_1}


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
    return TaskRestored(
        version=restored["version"],
        created_at=datetime.fromisoformat(restored["created_at"]),
        before={} if brought_back else before,
        after=after,
    )


_FACTS: Mapping[str, Callable[[Json], TaskEvent]] = {
    "TaskCreated": lambda data: TaskCreated(**_side(data, "to")),
    "TaskUpdated": _updated,
    "TaskToggled": lambda data: TaskToggled(data["changes"]["completed"]["to"]),
    "TaskDeleted": lambda data: TaskDeleted(**_side(data, "from")),
    "TaskRestored": _restored,
}


def header(event: Event) -> Json:
    """What stays readable of an event for ever, also where its personal data has been erased."""
    type_ = type(event.payload).__name__
    return header_of(event.user_id, event.id, event.task_id, event.version, type_, event.at, event.actor)


def header_of(user_id: str, id_: UUID, task_id: UUID, version: int, type_: str, at: datetime, actor: str) -> Json:
    """The same by columns: also of an event whose data can't be read."""
    return {
        "user_id": user_id,
        "id": str(id_),
        "task_id": str(task_id),
        "version": version,
        "type": type_,
        # As `canonical` writes a moment, unless its fraction is zero: several times as fast, and there are many to do.
        "at": at if at.microsecond and at.tzinfo is UTC else rfc3339(at),
        "actor": actor,
    }


def meta(metadata: Metadata) -> Json:
    """All that is known of the request. What isn't known is left out, so that a field added later changes no digest."""
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
    """The same by columns."""
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
    """An event from its row in the log. Raises `UnknownEvent` as `decode` does."""
    return Event(
        id=row["id"],
        user_id=row["user_id"],
        task_id=row["task_id"],
        version=row["version"],
        at=row["at"],
        actor=row["actor"],
        payload=decode(row["type"], orjson.loads(row["data"])),
        metadata=Metadata(
            request_id=row["request_id"],
            client_address=row["client_address"],
            client_agent=row["client_agent"],
            idempotency_key=row["idempotency_key"],
            fingerprint=row["fingerprint"],
        ),
        salt=row["salt"],
    )
