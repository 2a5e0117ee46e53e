"""Logs, and what they fold into and verify as, and tokens with their users: for what the page does by itself."""

import json
import sys
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, cast
from uuid import UUID

from api.auth.claims import BadToken, bearer
from commands.commands import (
    Command,
    CreateTask,
    DeleteTask,
    EraseTask,
    RestoreTask,
    ToggleTask,
    UndoEvent,
    UpdateTask,
)
from commands.decider import Refusal, TaskState, decide
from events.projection import task_document
from events.records import changes
from events.serialization import encode, rfc3339
from events.task import Fields, FoldedEvent, ImpossibleEvent, Task, TaskEvent, evolve
from tests.export_cases import ERASED_LOG, faulty
from tests.exports import LOG, changed, head_of, lines, put
from tests.unit.test_old_event_forms import ROWS, ROWS_2

USER, BEGINNING = "ann", datetime(2026, 11, 20, 6, tzinfo=UTC)
VALUES: dict[str, list[Any]] = {
    "title": ["Buy milk", "Buy oat milk", "شراء الحليب", "🥛"],
    "description": [None, "2 litres", "2 litres\nof the good one"],
    "completed": [False, True],
    "priority": [None, "low", "high"],
    "due_date": [None, "2026-12-01", "2026-12-01T09:30:00.000000Z"],
    "tags": [[], ["home"], ["home", "urgent"]],
}

CLAIMS = ("sub", "user.id", "user.0", "https://example.com/user_id", "constructor.name", "__proto__.id", "")
CLAIM_SETS = (
    "{}",
    "null",
    '{"user": {"sub": "ann"}}',
    '{"https://example.com/user_id": "ann"}',
    '{"https://example": {"com/user_id": "ann"}}',
    '{"user.id": "ann", "user": {"id": "bob"}}',
    '{"user.id": null, "user": {"id": "bob"}}',
    '{"user.id": "", "user": {"id": "bob"}}',
    '{"user.id": false, "user": {"id": "bob"}}',
    '{"user": ["ann"]}',
    '{"user": "ann"}',
    '{"user": null}',
    '{"": "ann"}',
    '{"sub": "ann", "sub": "bob"}',
    *(
        f'{{"sub": {value}, "user": {{"id": {value}}}}}'
        for value in (
            '"ann"',
            '"änn/"',
            r'"\u00e4nn \"42\" 7"',
            '"änn?"',
            '"."',
            '".."',
            '"..."',
            r'"a\nb"',
            r'"a\u0000b"',
            r'"\ud800"',
            r'"\ud83e\udd5b"',
            f'"{"🥛" * 255}"',
            f'"{"a" * 256}"',
            '""',
            '"42"',
            "42",
            "0",
            "-0",
            "-7",
            "12345678901234567890",
            "42.0",
            "1e3",
            "true",
            "null",
            "[42]",
            '{"id": 42}',
        )
    ),
)
"""What the payload of a token may say of its user, and the claims that `JWT_USER_CLAIM` may name."""


def shown(event: FoldedEvent, data: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return an event as the page gets it."""
    type_ = type(event.payload).__name__
    return {
        "type": type_,
        "task_id": str(event.task_id),
        "version": event.version,
        "at": rfc3339(event.at),
        "changes": changes(type_, data or encode(event.payload)),
    }


def after(task: Task | None, event: FoldedEvent) -> Any:
    """Return what `evolve` makes of the event: a task's document, null, or "impossible"."""
    try:
        evolved = evolve(task, event)
    except ImpossibleEvent:
        return "impossible"
    return evolved and json.loads(task_document(evolved))


def chosen(lots: Random) -> Fields:
    names = lots.sample(sorted(VALUES), lots.randint(1, len(VALUES)))
    return cast("Fields", {name: lots.choice(VALUES[name]) for name in names})


def command(lots: Random, version: int, task_id: UUID) -> Command:
    ids: Any = {"user_id": USER, "task_id": task_id}
    if not version:
        return CreateTask(**ids, fields={"title": "Buy milk", **chosen(lots)})
    return lots.choice(
        (
            UpdateTask(**ids, fields=chosen(lots)),
            ToggleTask(**ids),
            DeleteTask(**ids),
            RestoreTask(**ids),
            RestoreTask(**ids, version=lots.randint(1, version)),
        )
    )


def history(lots: Random, length: int) -> list[tuple[FoldedEvent, Task | None]]:
    """Return a task's events by random commands, each with the task after it. The last one may be its erasure."""
    task_id = UUID(int=lots.getrandbits(128), version=4)
    done: list[tuple[FoldedEvent, Task | None]] = []
    while len(done) < length:
        states = [None, *(task for _, task in done)]
        task, last = states[-1], next((each for each in reversed(states) if each), None)
        ends = len(done) == length - 1 and task_id.int % 3 == 0
        wish = EraseTask(user_id=USER, task_id=task_id, forced=True) if ends else command(lots, len(done), task_id)
        version = wish.version if isinstance(wish, RestoreTask | UndoEvent) else None
        known = TaskState(task=task, version=len(done), last=last, then=states[version] if version else None)
        try:
            payload: TaskEvent | None = decide(wish, known)
        except Refusal:
            continue
        if payload:
            at = BEGINNING + timedelta(seconds=len(done), microseconds=lots.randint(0, 999_999))
            event = FoldedEvent(USER, task_id, len(done) + 1, at, payload)
            done.append((event, evolve(task, event)))
    return done


def folds() -> list[dict[str, Any]]:
    """Return histories, each with the tasks after its events; the last ones with events that can't follow."""
    found = []
    for seed in range(60):
        whole = history(Random(seed), 12)  # noqa: S311 - the same ones at each run
        found.append({"events": [shown(event) for event, _ in whole], "tasks": [after_each(t) for _, t in whole]})
        if seed < 12:
            # One event too few, in another place each time: the next one can't follow.
            event, before = whole[seed][0], whole[seed - 2][1] if seed > 1 else None
            stray = after(before, event)
            events = [*found[-1]["events"][: max(seed - 1, 0)], shown(event)]
            found.append({"events": events, "tasks": [*found[-1]["tasks"][: max(seed - 1, 0)], stray]})
    return found


def after_each(task: Task | None) -> Any:
    return task and json.loads(task_document(task))


def old_forms() -> list[dict[str, Any]]:
    """Return logs of earlier releases, as they are shown and folded today."""
    from events.serialization import from_row

    found = []
    for rows in (ROWS, ROWS_2):
        tasks: dict[UUID, Task | None] = {}
        case: dict[str, Any] = {"events": [], "tasks": []}
        for row in rows:
            event = from_row(row)
            folded = FoldedEvent(event.user_id, event.task_id, event.version, event.at, event.payload)
            case["events"].append(shown(folded, json.loads(row["data"])))
            case["tasks"].append(after(tasks.get(event.task_id), folded))
            tasks[event.task_id] = evolve(tasks.get(event.task_id), folded)
        found.append(case)
    return found


def chains() -> list[dict[str, Any]]:
    """Return an export, and others with a leaf of event 5 changed; each with the event that doesn't fit."""
    head = head_of(LOG[-1])
    kept = {"seq": head.seq, "hash": head.hash.hex(), "at": head.at}
    paths = (("title", ("changes", "title", "to")), ("salt", ("salt",)), ("at", ("at",)), ("hash", ("hash",)))
    found: list[dict[str, Any]] = [{"log": lines(LOG).decode(), "head": kept, "seq": None}]
    for _, path in paths:
        value: Any = LOG[4]
        for name in path:
            value = value[name]
        damaged = [*LOG[:4], put(LOG[4], path, changed(value)), *LOG[5:]]
        found.append({"log": lines(damaged).decode(), "head": kept, "seq": 5})
    found.append({"log": lines(LOG[:-1]).decode(), "head": kept, "seq": len(LOG)})
    end = head_of(ERASED_LOG[-1])
    kept_end = {"seq": end.seq, "hash": end.hash.hex(), "at": end.at}
    found.append({"log": lines(ERASED_LOG).decode(), "head": kept_end, "seq": None})
    found.append({"log": lines(faulty(ERASED_LOG, 2, {"personal": "ab" * 32})).decode(), "head": kept_end, "seq": 3})
    return found


def users() -> list[dict[str, Any]]:
    """Return payloads of tokens, each with the user that the service finds by a claim; null if there is none."""
    found = []
    for payload in CLAIM_SETS:
        for claim in CLAIMS:
            claims = json.loads(payload)
            try:
                user = bearer(claims or {}, user_claim=claim, actor_claim=None, auditor_claim=None).user
            except BadToken:
                user = None
            found.append({"payload": payload, "claim": claim, "user": user})
    return found


if __name__ == "__main__":
    made = {"user": USER, "folds": [*folds(), *old_forms()], "chains": chains(), "users": users()}
    json.dump(made, sys.stdout)
