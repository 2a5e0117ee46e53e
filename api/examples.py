"""The examples in the OpenAPI document: requests and responses, errors included."""

from typing import Any

import orjson

Named = dict[str, dict[str, Any]]
"""Examples in OpenAPI's form: `{name: {"summary": …, "value": …}}`."""

TASK_ID = "019a9e3c-5f3a-7c21-9d52-3d0c5f0e8a11"
ACCESS_ID = "019ac4c1-9a40-7d0e-b1f2-6a7c3e5d9f08"
REQUEST_ID = "01a1faaeb46b7282813f2d77eb9b3c64"

_FIELDS = {
    "title": "Buy milk",
    "description": "2 litres",
    "completed": False,
    "priority": "high",
    "due_date": "2026-12-01",
    "tags": ["home", "shop"],
}
_NEW = {
    "id": TASK_ID,
    "user_id": "demo",
    **_FIELDS,
    "created_at": "2026-11-20T19:24:49.076369Z",
    "updated_at": "2026-11-20T19:24:49.076369Z",
    "completed_at": None,
    "version": 1,
}
_LATER = {"updated_at": "2026-11-20T19:31:02.518204Z", "version": 2}
_CHANGED = {**_NEW, "title": "Buy oat milk", **_LATER}
_COMPLETED = {**_NEW, "completed": True, **_LATER, "completed_at": _LATER["updated_at"]}
_UNDONE = {**_NEW, "updated_at": "2026-11-20T19:31:09.220418Z", "version": 3}
_RESTORED = {**_NEW, "updated_at": "2026-11-20T20:02:11.940025Z", "version": 4}


def _one(summary: str, value: Any) -> Named:
    return {"example": {"summary": summary, "value": value}}


NEW_TASKS: Named = {
    "short": {"summary": "Only a title", "value": {"title": "Buy milk"}},
    "whole": {"summary": "Everything", "value": {**_FIELDS, "title": "Buy milk"}},
    "id": {"summary": "With an id of the client's own", "value": {"id": TASK_ID, "title": "Buy milk"}},
}
ALL_FIELDS = _one("All fields", {**_FIELDS, "title": "Buy oat milk"})
SOME_FIELDS: Named = {
    "title": {"summary": "Only the title", "value": {"title": "Buy oat milk"}},
    "clear": {"summary": "Clear the description", "value": {"description": None}},
}
COMPLETIONS: Named = {
    "set": {"summary": "Complete it; safe to repeat", "value": {"completed": True}},
    "toggle": {"summary": "Turn it over, as no body does", "value": {}},
}
RESTORATIONS: Named = {
    "version": {"summary": "As it was at version 1", "value": {"version": 1}},
    "last": {"summary": "As it last was, as without a body", "value": {}},
}

RESTORATIONS_OF_ALL: Named = {
    "tell": {"summary": "Tell what would change", "value": {"as_of": "2026-11-20T19:30:00Z", "dry_run": True}},
    "do": {"summary": "Do it", "value": {"as_of": "2026-11-20T19:30:00Z"}},
}
RESTORED_TASKS = _one(
    "One task was put back",
    {
        "dry_run": False,
        "changes": [{"task_id": TASK_ID, "title": "Buy milk", "type": "TaskRestored", "fields": ["title"], "seq": 3}],
    },
)
ERASURES: Named = {
    "why": {"summary": "With a reason", "value": {"reason": "request 4711"}},
    "plain": {"summary": "Without one", "value": {}},
}
ERASURES_OF_ALL = _one("Confirmed", {"confirm": "demo", "reason": "request 4711"})
UNDOS: Named = {
    "seq": {"summary": "The first event", "value": {"seq": 1}},
    "last": {"summary": "The last event, as without a body", "value": {}},
}

TASK_LIST: Named = {
    "some": {"summary": "Newest first", "value": [_COMPLETED]},
    "none": {"summary": "Nothing found", "value": []},
}
SYNC: Named = {
    "changed": {
        "summary": "A task has changed, and another one was deleted",
        "value": {
            "tasks": [_COMPLETED],
            "deleted": [{"id": "019a9e3f-0a51-7b02-8f11-5d1e9c2b7a30", "version": 2, "seq": 4}],
            "next": "AAAAAAAAAAQPO7LZSo58VQ",
            "more": False,
        },
    },
    "same": {
        "summary": "Nothing has changed",
        "value": {"tasks": [], "deleted": [], "next": "AAAAAAAAAAQPO7LZSo58VQ", "more": False},
    },
}
TASK_COUNTS = _one(
    "Two tasks",
    {
        "total": 2,
        "pending": 1,
        "completed": 1,
        "overdue": 0,
        "by_priority": {"low": 0, "medium": 0, "high": 1, "none": 1},
        "by_tag": {"home": 1, "shop": 1},
    },
)
NEW_TASK = _one("The new task", _NEW)
TASK = _one("The task", _NEW)
CHANGED_TASK = _one("The task as it is now", _CHANGED)
COMPLETED_TASK = _one("The task as it is now", _COMPLETED)
RESTORED_TASK = _one("The task as it is now", _RESTORED)
UNDONE_TASK = _one("The task as it is now", _UNDONE)

_WHO = {"actor": "demo", "request_id": REQUEST_ID, "client": {"address": "192.0.2.7", "agent": "curl/8.14.1"}}
_CREATED: dict[str, Any] = {
    "seq": 1,
    "id": "019a9e3c-5f3a-7c21-9d52-3d1b7a0c4f02",
    "type": "TaskCreated",
    "task_id": TASK_ID,
    "version": 1,
    "at": _NEW["created_at"],
    **_WHO,
    "changes": {
        "title": {"from": None, "to": "Buy milk"},
        "description": {"from": None, "to": "2 litres"},
        "completed": {"from": None, "to": False},
        "priority": {"from": None, "to": "high"},
        "due_date": {"from": None, "to": "2026-12-01"},
        "tags": {"from": None, "to": ["home", "shop"]},
    },
    "hash": "7d5a6e5b1f0c64de0c5e8e3d1a6f0b7c1b6c1c0f2b0b3f6d9b1f7f1d2a4c9e10",
}
_UPDATED: dict[str, Any] = {
    "seq": 2,
    "id": "019a9e42-1177-7a30-8c4e-90c5d8e7f611",
    "type": "TaskUpdated",
    "task_id": TASK_ID,
    "version": 2,
    "at": _LATER["updated_at"],
    **_WHO,
    "changes": {"title": {"from": "Buy milk", "to": "Buy oat milk"}},
    "hash": "0f3bb2d94a8e7c5516d2f0a9b8c7e6d5f4a3b2c1d0e9f8a7b6c5d4e3f2a1b0c9",
}
_PROOF: dict[str, Any] = {
    "user_id": "demo",
    "idempotency_key": None,
    "fingerprint": None,
    "salt": "33e6a16608214f68a6a510f6f079e4bf",
    "data": {"v": 3, "changes": _UPDATED["changes"]},
}
NDJSON_LINES = _one("One line of many", orjson.dumps({**_UPDATED, **_PROOF}).decode() + "\n")
CSV_FILE = _one(
    "The names of the columns, and one line of many",
    '"seq","id","type","task_id","version","at","actor","request_id","client_address","client_agent","title_from",'
    '"title_to","description_from","description_to","completed_from","completed_to","priority_from",'
    '"priority_to","due_date_from","due_date_to","tags_from","tags_to","hash","user_id","idempotency_key",'
    '"fingerprint","salt","data","reason","erased","personal"\r\n'
    f'"2","{_UPDATED["id"]}","TaskUpdated","{TASK_ID}","2","{_UPDATED["at"]}","demo","{REQUEST_ID}","192.0.2.7",'
    '"curl/8.14.1","Buy milk","Buy oat milk","","","","","","","","","","",'
    f'"{_UPDATED["hash"]}","demo","","","{_PROOF["salt"]}",'
    '"{""v"":3,""changes"":{""title"":{""from"":""Buy milk"",""to"":""Buy oat milk""}}}","","",""\r\n',
)

FEED_MESSAGES = _one(
    "The first line, and an event",
    "retry: 2000\nid: 1\n\n"
    f"event: TaskUpdated\ndata: {orjson.dumps({**_UPDATED, 'task': _CHANGED}).decode()}\nid: 2\n\n",
)
NEWEST_FIRST = _one("Newest first", [_UPDATED, _CREATED])
OLDEST_FIRST = _one("Oldest first", [_CREATED, _UPDATED])
AUDITOR_READS = _one(
    "An auditor looked at a task's history",
    [
        {
            "id": ACCESS_ID,
            "at": "2026-11-27T09:00:00.000000Z",
            "auditor": "eve",
            "actor": "eve",
            "path": f"/api/demo/tasks/{TASK_ID}/history",
            "request_id": "audit-2026-11",
        }
    ],
)
AUDIT_HEAD: Named = {
    "some": {"summary": "After two events", "value": {"seq": 2, "hash": _UPDATED["hash"], "at": _UPDATED["at"]}},
    "none": {"summary": "Nothing has happened", "value": {"seq": 0, "hash": "", "at": None}},
}
KEYS = _one(
    "The service's key",
    {
        "keys": [
            {
                "alg": "EdDSA",
                "crv": "Ed25519",
                "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
                "kty": "OKP",
                "use": "sig",
                "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
            }
        ]
    },
)
HEALTHY = _one("All is well", {"status": "healthy", "database": "reachable", "version": "0.1.0"})
UNHEALTHY = _one("No database", {"status": "unhealthy", "database": "unreachable", "version": "0.1.0"})
ALIVE = _one("The process runs", {"status": "alive"})
