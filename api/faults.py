"""Examples of the problems that operations answer, for the OpenAPI document."""

from dataclasses import dataclass
from typing import Any

from api import problems
from api.examples import REQUEST_ID, TASK_ID
from api.field_errors import summary as summarized
from api.problems import Problem


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
        return self.problem(self.detail, hint=self.hint, errors=self.errors).body(request_id=REQUEST_ID)


def _invalid(summary: str, *faults: tuple[str, str, str], hint: str | None = None) -> Fault:
    listed = tuple({"field": field, "message": message, "type": type_} for field, message, type_ in faults)
    return Fault(problems.Invalid, summary, hint, summarized(listed), listed)


def _of_parameters(summary: str, field: str, message: str, type_: str) -> Fault:
    listed = ({"field": field, "message": message, "type": type_},)
    return Fault(problems.BadRequest, summary, message, errors=listed)


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
    "noSuchUser": Fault(
        problems.BadRequest,
        "An auditor's path names nobody",
        "The path must name the user in 1 to 255 characters.",
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
    "notForAuditors": Fault(
        problems.Forbidden,
        "An auditor's token reaches no further",
        str(problems.not_for_auditors()),
        problems.not_for_auditors().detail,
    ),
    "readOnly": Fault(
        problems.ReadOnlyToken,
        "The token's scope lets only read",
        "The token's scope only lets it read; to write, it must have tasks:write too.",
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
    "notDeleted": Fault(
        problems.NotDeletedYet,
        "The task is still there",
        f"Task {TASK_ID} is there: delete it before it is erased.",
    ),
    "erased": Fault(
        problems.Gone,
        "Its content was erased",
        f"The content of task {TASK_ID} was erased: nothing of it can be brought back.",
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
    "invalid": _invalid(
        "Two fields break a rule",
        ("title", "Title must not be empty.", "string_too_short"),
        ("completed", "Completed must be true or false.", "bool_type"),
    ),
    "notBoolean": _invalid("It is no boolean", ("completed", "Completed must be true or false.", "bool_type")),
    "noKnownField": _invalid(
        "The body names no field that is known",
        ("body", "The app sent nothing that can be changed here.", "no_known_field"),
        hint="The body names no field that is known here. There are: title, description, completed, priority, "
        "due_date, tags.",
    ),
    "aQuery": Fault(problems.BadRequest, "A query, where there is none", "This takes no query: send it in the body."),
    "otherQuery": Fault(
        problems.BadRequest,
        "The query says something else",
        "The query names no parameter that is known here. There is: completed.",
    ),
    "noVersion": _invalid(
        "There was no such version",
        ("version", "Version 3 doesn't exist: the task has versions 1 to 2.", "not_restorable"),
    ),
    "badOperation": _invalid(
        "Two operations break a rule",
        ("operations.0.title", "Operation 0: Title must not be empty.", "string_too_short"),
        ("operations.1.id", "Operation 1: Id is required.", "missing"),
    ),
    "noAsOf": _invalid("The moment is missing", ("as_of", "As of is required.", "missing")),
    "badReason": _invalid(
        "The reason is too long",
        ("reason", "Reason must have at most 500 characters.", "string_too_long"),
    ),
    "notConfirmed": _invalid(
        "It is confirmed for another user",
        ("confirm", "Confirm must be the user's id, as the path has it.", "not_confirmed"),
    ),
    "rateLimited": Fault(
        problems.RateLimitExceeded, "It is one too many", "At most 300 requests in 60 s for each user: send fewer."
    ),
    "tooManyStreams": Fault(
        problems.TooManyStreams, "Eight are open", "Close a stream first: 8 of the user, 8 of all."
    ),
    "noSeq": _invalid("It is no number", ("seq", "Seq must be a whole number.", "int_type")),
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
