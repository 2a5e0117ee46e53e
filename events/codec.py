"""Events as canonical bytes, as JSON and as rows, and back."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol, assert_never, cast

import orjson

from events.task import Event, Fact, Fields, Origin, TaskCreated, TaskDeleted, TaskToggled, TaskUpdated

DATA_VERSION = 1
"""The form of `data` that is written today. It stands in every event as `v`."""

Json = dict[str, Any]


class Row(Protocol):
    """A row of `events` by column name, with `data` as JSON text."""

    def __getitem__(self, column: str, /) -> Any: ...


class UnknownEvent(Exception):
    """The log holds an event that this release can't read: a newer release wrote it, or it is damaged."""


def canonical(value: Json) -> bytes:
    """JSON with sorted keys, no spaces, UTF-8: RFC 8785 for what Daybook writes (text, whole numbers, bool, null)."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def rfc3339(moment: datetime) -> str:
    """UTC, always six decimals and `Z`, so that moments sort as text (contract, section 1)."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def encode(fact: Fact) -> Json:
    """A fact as the `data` of its event: `task` for a whole task, `changes` for the fields that changed."""
    match fact:
        case TaskCreated() | TaskDeleted():
            task = {"title": fact.title, "description": fact.description, "completed": fact.completed}
            return {"v": DATA_VERSION, "task": task}
        case TaskUpdated():
            before, after = dict(fact.before), dict(fact.after)
            return {
                "v": DATA_VERSION,
                "changes": {name: {"from": before[name], "to": after[name]} for name in after},
            }
        case TaskToggled():
            change = {"from": not fact.completed, "to": fact.completed}
            return {"v": DATA_VERSION, "changes": {"completed": change}}
    assert_never(fact)


def decode(type_: str, data: Json) -> Fact:
    """The inverse of `encode`. Raises `UnknownEvent` for a type or form of data that this release doesn't know."""
    build = _FACTS.get(type_)
    if build is None or data.get("v") != DATA_VERSION:
        raise UnknownEvent(f"{type_} in form {data.get('v')!r} is not known to this release")
    return build(data)


def _updated(data: Json) -> TaskUpdated:
    changes = data["changes"].items()
    before = cast("Fields", {name: change["from"] for name, change in changes})
    after = cast("Fields", {name: change["to"] for name, change in changes})
    return TaskUpdated(before, after)


_FACTS: Mapping[str, Callable[[Json], Fact]] = {
    "TaskCreated": lambda data: TaskCreated(**data["task"]),
    "TaskUpdated": _updated,
    "TaskToggled": lambda data: TaskToggled(data["changes"]["completed"]["to"]),
    "TaskDeleted": lambda data: TaskDeleted(**data["task"]),
}


def header(event: Event) -> Json:
    """What stays readable of an event for ever, also where its personal data has been erased."""
    return {
        "user_id": event.user_id,
        "id": str(event.id),
        "task_id": str(event.task_id),
        "version": event.version,
        "type": type(event.fact).__name__,
        "at": rfc3339(event.at),
        "actor": event.actor,
    }


def meta(origin: Origin) -> Json:
    """All that is known of the request. What isn't known is left out, so that a field added later changes no digest."""
    known: Json = {
        "request_id": origin.request_id,
        "client_address": origin.client_address,
        "client_agent": origin.client_agent,
        "idempotency_key": origin.idempotency_key,
        "fingerprint": origin.fingerprint and origin.fingerprint.hex(),
    }
    return {name: value for name, value in known.items() if value is not None}


def from_row(row: Row) -> Event:
    """An event from its row in the log. Raises `UnknownEvent` as `decode` does."""
    return Event(
        id=row["id"],
        user_id=row["user_id"],
        task_id=row["task_id"],
        version=row["version"],
        at=row["at"],
        actor=row["actor"],
        fact=decode(row["type"], orjson.loads(row["data"])),
        origin=Origin(
            request_id=row["request_id"],
            client_address=row["client_address"],
            client_agent=row["client_agent"],
            idempotency_key=row["idempotency_key"],
            fingerprint=row["fingerprint"],
        ),
        salt=row["salt"],
    )
