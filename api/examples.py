"""The examples in the OpenAPI document: requests and responses, errors included."""

from dataclasses import dataclass
from typing import Any

import orjson

from api import problems
from api.field_errors import summary as summarized
from api.problems import Problem

Named = dict[str, dict[str, Any]]
"""Examples in OpenAPI's form: `{name: {"summary": …, "value": …}}`."""

TASK_ID = "019a9e3c-5f3a-7c21-9d52-3d0c5f0e8a11"
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
    '"fingerprint","salt","data"\r\n'
    f'"2","{_UPDATED["id"]}","TaskUpdated","{TASK_ID}","2","{_UPDATED["at"]}","demo","{REQUEST_ID}","192.0.2.7",'
    '"curl/8.14.1","Buy milk","Buy oat milk","","","","","","","","","","",'
    f'"{_UPDATED["hash"]}","demo","","","{_PROOF["salt"]}",'
    '"{""v"":3,""changes"":{""title"":{""from"":""Buy milk"",""to"":""Buy oat milk""}}}"\r\n',
)

FEED_MESSAGES = _one(
    "The first line, and an event",
    "retry: 2000\nid: 1\n\n"
    f"event: TaskUpdated\ndata: {orjson.dumps({**_UPDATED, 'task': _CHANGED}).decode()}\nid: 2\n\n",
)
NEWEST_FIRST = _one("Newest first", [_UPDATED, _CREATED])
OLDEST_FIRST = _one("Oldest first", [_CREATED, _UPDATED])
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


@dataclass(frozen=True, slots=True)
class Fault:
    """A way for an operation to fail."""

    problem: type[Problem]
    summary: str
    hint: str | None = None
    detail: str | None = None
    errors: tuple[dict[str, str], ...] = ()

    def value(self) -> dict[str, Any]:
        """Return the response's body."""
        problem = self.problem
        detail = self.detail or problem.sentence
        return problems.problem_body(
            *(problem.status, problem.type, problem.title, detail, self.hint), request_id=REQUEST_ID, errors=self.errors
        )


def _of_fields(problem: type[Problem], summary: str, *faults: tuple[str, str, str]) -> Fault:
    listed = tuple({"field": field, "message": message, "type": type_} for field, message, type_ in faults)
    return Fault(problem, summary, detail=summarized(listed), errors=listed)


def _of_parameters(summary: str, field: str, message: str, type_: str) -> Fault:
    listed = ({"field": field, "message": message, "type": type_},)
    return Fault(problems.BadRequest, summary, message, errors=listed)


def _nothing(sentence: str) -> tuple[str, tuple[dict[str, str], ...]]:
    return sentence, ({"field": "body", "message": sentence, "type": "no_known_field"},)


FAULTS = {
    "notReadable": Fault(
        problems.BadRequest,
        "The body is cut off",
        "The body isn't JSON: EOF while parsing a string at line 1 column 14.",
    ),
    "noUuid": _of_parameters("The id is no UUID", "task_id", "task_id must be a UUID.", "uuid_parsing"),
    "badParameter": _of_parameters(
        "A parameter isn't allowed", "limit", "limit must be at most 1000.", "less_than_equal"
    ),
    "badCursor": Fault(
        problems.BadRequest, "The cursor isn't ours", "cursor can't be read; take it from the Link header as it is."
    ),
    "badToken": Fault(
        problems.BadRequest,
        "The token isn't ours",
        "since can't be read; take it from `next` of the answer before, as it is.",
    ),
    "otherCursor": Fault(
        problems.BadRequest,
        "The cursor is another list's",
        "cursor belongs to another filter or order; begin again without it.",
    ),
    "contradiction": Fault(
        problems.BadRequest,
        "Two parameters exclude each other",
        "status and completed contradict each other; give one of the two.",
    ),
    "badKey": Fault(
        problems.BadRequest,
        "The key can't be one",
        "Idempotency-Key must be one name of 1 to 255 ASCII characters, quoted or bare; a new UUID is a good one.",
    ),
    "badIfMatch": Fault(
        problems.BadRequest, "If-Match is cut off", "If-Match can't be read; send the ETag as it came, or *."
    ),
    "twoPasts": Fault(
        problems.BadRequest,
        "Two parameters exclude each other",
        "as_of and version exclude each other; give one of the two.",
    ),
    "noMoment": _of_parameters(
        "A time has no offset",
        "as_of",
        "as_of must be a time with its offset, as in RFC 3339: 2026-11-20T19:24:49.076369Z.",
        "value_error",
    ),
    "noToken": Fault(
        problems.Unauthorized, "There is no token", "Send a token: Authorization: Bearer <JWT>.", "Please sign in."
    ),
    "expired": Fault(problems.Unauthorized, "It is too old", "The token has expired; get a new one."),
    "notYours": Fault(problems.Forbidden, "The path is another user's", "The token is another user's than the path's."),
    "readOnly": Fault(
        problems.ReadOnlyToken,
        "The token's scope lets only read",
        "The token has the scope tasks:read; to write, it must have tasks:write too.",
    ),
    "notFound": Fault(problems.NotFound, "There is no such task", f"There is no task {TASK_ID}."),
    "notThen": Fault(problems.NotFound, "It wasn't there then", f"There was no task {TASK_ID} at version 1."),
    "idTaken": Fault(problems.IdTaken, "The id is another task's", f"There is, or was, a task {TASK_ID} already."),
    "operationRefused": Fault(
        problems.OperationRefused,
        "The first operation's task isn't there",
        f"Nothing was changed: operations.0: There is no task {TASK_ID}.",
        problems.NotFound.sentence,
        errors=({"field": "operations.0", "message": problems.NotFound.sentence, "type": problems.NotFound.type},),
    ),
    "nothingToUndo": Fault(problems.EventNotFound, "There is no such event", "There is no event 3."),
    "fieldsChanged": Fault(
        problems.FieldsChanged,
        "The title was changed once more",
        "Later events have changed title.",
        errors=({"field": "title", "message": "Title has been changed since.", "type": "changed_since"},),
    ),
    "logReplaced": Fault(
        problems.LogReplaced,
        "The database was restored from a backup",
        "since is of a log that is no more: begin again without it.",
    ),
    "logShorter": Fault(
        problems.LogReplaced, "There is no such event", "There is no event 9: the log has 2. Sync anew."
    ),
    "changedSince": Fault(
        problems.PreconditionFailed,
        "Somebody else was first",
        "The task is at version 2 by now: look at it, then repeat the change.",
    ),
    "listChanged": Fault(
        problems.PreconditionFailed,
        "Another task was changed first",
        "The list is at event 2 by now: look at it, then repeat the change.",
    ),
    "otherVersion": Fault(
        problems.PreconditionFailed,
        "It isn't the version that was wanted",
        "If-Match names another version than the present one, which ETag names.",
    ),
    "tooSlow": Fault(problems.RequestTimeout, "The body stopped coming", "The body must arrive within 10 seconds."),
    "tooLarge": Fault(problems.ContentTooLarge, "The body is too large", "The body must have at most 65,536 bytes."),
    "notJson": Fault(
        problems.UnsupportedMediaType,
        "The body is something else",
        "The body must be application/json, not 'text/plain'.",
    ),
    "invalid": _of_fields(
        problems.Invalid,
        "Two fields break a rule",
        ("title", "Title must not be empty.", "string_too_short"),
        ("completed", "Completed must be true or false.", "bool_type"),
    ),
    "notBoolean": _of_fields(
        problems.Invalid, "It is no boolean", ("completed", "Completed must be true or false.", "bool_type")
    ),
    "noKnownField": Fault(
        problems.Invalid,
        "The body names no field that is known",
        "The body names no field that is known here. There are: title, description, completed, priority, due_date, "
        "tags.",
        *_nothing("The app sent nothing that can be changed here."),
    ),
    "aQuery": Fault(problems.BadRequest, "A query, where there is none", "This takes no query: send it in the body."),
    "otherQuery": Fault(
        problems.BadRequest,
        "The query says something else",
        "The query names no parameter that is known here. There is: completed.",
    ),
    "noVersion": _of_fields(
        problems.Invalid,
        "There was no such version",
        ("version", "Version 3 doesn't exist: the task has versions 1 to 2.", "not_restorable"),
    ),
    "badOperation": _of_fields(
        problems.Invalid,
        "Two operations break a rule",
        ("operations.0.title", "Operation 0: Title must not be empty.", "string_too_short"),
        ("operations.1.id", "Operation 1: Id is required.", "missing"),
    ),
    "noAsOf": _of_fields(problems.Invalid, "The moment is missing", ("as_of", "As of is required.", "missing")),
    "rateLimited": Fault(
        problems.RateLimitExceeded, "It is one too many", "At most 300 requests in 60 s for each user: send fewer."
    ),
    "tooManyStreams": Fault(
        problems.TooManyStreams, "Eight are open", "Close a stream first: 8 of the user, 8 of all."
    ),
    "noSeq": _of_fields(problems.Invalid, "It is no number", ("seq", "Seq must be a whole number.", "int_type")),
    "keyReused": Fault(
        problems.KeyReused,
        "The key is another request's",
        "This Idempotency-Key stands for another request; repeat that one as it was, or make a new key.",
    ),
    "broken": Fault(problems.Failure, "Something is broken", "The log has it under this request_id."),
    "unreachable": Fault(
        problems.Unavailable,
        "No database",
        "The database can't be reached. Nothing was changed: send the same request again.",
    ),
    "overloaded": Fault(
        problems.Overloaded,
        "Too many requests",
        "Too many requests at once. Nothing was changed: send the same request again.",
    ),
    "noKeys": Fault(
        problems.Unavailable,
        "The token can't be verified now",
        "The keys that tokens are verified with can't be fetched just now; try again.",
    ),
    "unknown": Fault(
        problems.Unavailable,
        "The database went away in between",
        "The database stopped answering: the change may have been made. Look, then repeat it.",
        problems.MAYBE_CHANGED,
    ),
}
