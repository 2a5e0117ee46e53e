"""The audit endpoints: pages of the log, exports, the head, and a task's history (docs/http-api.md, "History")."""

import csv
import io
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal, TypeAlias

import orjson
from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api import examples
from api.audit_schemas import AuditEvent, ExportedEvent, Head
from api.dependencies import Caller
from api.openapi import OF_AUDIT, OF_TASK, Reference, answer, problems
from api.pagination import next_link
from api.parameters import AuditParameters, HistoryParameters, TaskId
from api.problems import NotFound
from api.readers import CurrentReader, Reader
from api.responses import JSON
from api.routing import Route
from api.server import unsent
from api.server.disconnects import while_connected
from api.user_turns import give_turn_back, user_overloaded
from db.time_slices import TimeSlices
from events.records import CSV_COLUMNS, csv_cells, full_record, record
from events.serialization import Row
from events.task import NO_TASK
from queries import audit as query
from queries.audit import LAST_SEQ, Selection

Form: TypeAlias = Literal["json", "ndjson", "csv"]
_MEDIA_TYPES: dict[Form, str] = {
    "json": JSON,
    "ndjson": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8; header=present",
}
_FORMS: dict[str, Form] = {
    "application/json": "json",
    "application/*": "json",
    "*/*": "json",
    "application/x-ndjson": "ndjson",
    "text/csv": "csv",
}
_VARY = {"Vary": "Accept"}
_QUALITY = re.compile(r"(?:^|;)\s*q=([01](?:\.[0-9]{0,3})?)\s*(?:;|$)", re.IGNORECASE)
_PAGE = 100
"""Events in a page, if the request gives no `limit`."""
_CHUNK = 64 * 1024
"""Bytes sent at once, about. A slow reader must take them within the bounds of `api.server.graceful_close`."""

_MOST_EXPORTS = 4
"""Largest number of exports sent to one user at a time. Each holds a batch of events."""
_MUCH = 512 * 1024
"""Bytes of a page that is made without a turn."""

router = APIRouter(prefix="/api/{user_id}", tags=["audit"], route_class=Route)

_AS_EXPORT = {
    "application/x-ndjson": {
        "schema": {"type": "string", "contentMediaType": JSON, "contentSchema": Reference(ExportedEvent)},
        "examples": examples.NDJSON_LINES,
    },
    "text/csv": {"schema": {"type": "string"}, "examples": examples.CSV_FILE},
}
"""Forms of an export, for the document."""

_exports: Counter[str] = Counter()
"""Exports that this process is sending, by requesting user."""


@router.get(
    "/audit",
    operation_id="listEvents",
    summary="What happened",
    response_model=list[AuditEvent],
    response_description="The events, or a page of them",
    responses={200: answer(examples.NEWEST_FIRST, "Link", also=_AS_EXPORT), **problems(*OF_AUDIT, "badParameter")},
)
async def list_events(reader: CurrentReader, parameters: Annotated[AuditParameters, Query()]) -> Response:
    """The user's events, newest first unless asked otherwise. `Link` leads to the next page, if there is one.

    As `ndjson` or `csv` (by `format`, or by `Accept`), the whole selection as a stream, with all that it takes to
    verify it.
    """
    selection = Selection(
        task_id=parameters.task_id,
        types=tuple(parameters.type),
        actors=tuple(parameters.actor),
        since=parameters.since,
        until=parameters.until,
        after=parameters.after,
        before=LAST_SEQ if parameters.before is None else parameters.before,
        order=parameters.order,
    )
    form = parameters.format or _preferred(",".join(reader.request.headers.getlist("accept")))
    if form == "json":
        page = await _page(await _admitted(reader), selection, parameters.limit or _PAGE)
        page.headers.update(_VARY)
        return page
    _check_exports(reader.requester)
    caller = await reader.past()
    batches = await _begun(query.export(caller.pool, caller.user, selection, limit=parameters.limit))
    if form == "csv":
        lines = _stream(
            caller.requester, batches, lambda row: _csv_line(csv_cells(row)), beginning=_csv_line(CSV_COLUMNS)
        )
    else:
        lines = _stream(caller.requester, batches, _ndjson_line)
    headers = {**_VARY, "Content-Disposition": f'attachment; filename="audit.{form}"'}
    return _Export(lines, headers=headers, media_type=_MEDIA_TYPES[form])


@router.get(
    "/audit/head",
    operation_id="getHead",
    summary="The end of the log",
    response_model=Head,
    response_description="The last event's number, hash and time",
    responses={200: answer(examples.AUDIT_HEAD), **problems(*OF_AUDIT)},
)
async def get_head(reader: CurrentReader) -> Response:
    """The last event's number, hash and time. Keep it, and nobody can rewrite what was before.

    `signed` is there if the service has a key: a JWS by which others see that this service said so.
    """
    caller = await reader.past()
    body = await query.head_json(caller.pool, caller.user)
    signer = caller.request.state.head_signer
    if signer is not None:
        head = orjson.loads(body)
        body = orjson.dumps({**head, "signed": signer.sign(caller.user, head, at=datetime.now(UTC))})
    return Response(body, media_type=JSON)


@router.get(
    "/tasks/{task_id}/history",
    operation_id="getHistory",
    summary="What happened to a task",
    response_model=list[AuditEvent],
    response_description="The task's events, or a page of them",
    responses={200: answer(examples.OLDEST_FIRST, "Link"), **problems(*OF_TASK, *OF_AUDIT, "badParameter")},
)
async def get_history(
    reader: CurrentReader, task_id: TaskId, parameters: Annotated[HistoryParameters, Query()]
) -> Response:
    """The task's events, oldest first, also after it was deleted. `Link` leads to the next page, if there is one."""
    caller = await _admitted(reader)
    if task_id == NO_TASK:
        raise NotFound(hint=f"There is no task {task_id}.")
    selection = Selection(task_id=task_id, after=parameters.after, order="asc")
    answer = await _page(caller, selection, parameters.limit)
    if answer.body == b"[]" and not await query.has_events(caller.pool, caller.user, task_id):
        raise NotFound(hint=f"There is no task {task_id}.")
    return answer


def _preferred(accept: str) -> Form:
    """Return the form that the client prefers (RFC 9110, section 12.5.1): JSON if it names no supported one."""
    best: Form = "json"
    highest = 0.0
    for each in accept.split(","):
        media_type, _, parameters = each.partition(";")
        form, quality = _FORMS.get(media_type.strip().lower()), _QUALITY.search(parameters)
        wanted = float(quality[1]) if quality else 1.0
        if form and wanted > highest:
            best, highest = form, wanted
    return best


async def _admitted(reader: Reader) -> Caller:
    unsent.require_room(reader.requester)
    return await reader.past()


async def _page(caller: Caller, selection: Selection, limit: int) -> Response:
    """Make a page. A long one takes a turn of `LongReads` until it is made.

    It may have 60 MB, which count only once they are sent (api.server.unsent). So it is begun anew with the turn: many
    may wait for one, and hold nothing.
    """
    page = await _array(caller, selection, limit, most=_MUCH)
    if page is None:
        give_turn_back(caller.request.scope)
        page = await while_connected(caller.request, _with_turn(caller, selection, limit))
    body, last, more = page
    answer = unsent.response(memoryview(body), {}, JSON)
    if more and last is not None:
        rest = query.behind(selection, last)
        name, place = ("after", rest.after) if rest.order == "asc" else ("before", rest.before)
        answer.headers["Link"] = next_link(caller.request, (name, place))
    return answer


_Array: TypeAlias = tuple[bytearray, Row | None, bool]
"""The JSON of a page, its last event, and whether there are more."""


async def _with_turn(caller: Caller, selection: Selection, limit: int) -> _Array:
    async with caller.store.long_reads.turn(caller.user):
        page = await _array(caller, selection, limit, most=sys.maxsize)
    assert page is not None  # noqa: S101 - only a longer one is
    return page


async def _array(caller: Caller, selection: Selection, limit: int, *, most: int) -> _Array | None:
    """Make the array, with pauses in which other requests run. Return None if it has more than `most` bytes."""
    body, last, left, slices = bytearray(), None, limit, TimeSlices(caller.requester)
    async for rows in query.fetch_events(caller.pool, caller.user, selection, most=limit + 1):
        slices.restart()
        for last in rows[:left]:
            body += b","
            body += orjson.dumps(record(last))
            await slices.pause()
        left -= len(rows)
        if len(body) > most:
            return None
    body[:1] = b"["
    body += b"]"
    return body, last, left < 0


class _Export(StreamingResponse):
    """A stream that counts towards its user's exports until it ends."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream. Raise `Overloaded`, before anything is sent, if the user has too many exports."""
        user = scope["state"]["requester"]
        _check_exports(user)
        _exports[user] += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            _exports[user] -= 1
            if not _exports[user]:
                del _exports[user]


def _check_exports(user: str) -> None:
    if _exports[user] >= _MOST_EXPORTS:
        raise user_overloaded(
            f"{_MOST_EXPORTS} exports of yours are being sent already: read one to its end, or close it, before this."
        )


async def _begun(batches: AsyncIterator[Sequence[Row]]) -> AsyncIterator[Sequence[Row]]:
    """Fetch the first batch, and return an iterator of all. If that fails, the response can still be an error."""
    begun: list[Sequence[Row]] = [await anext(batches, [])]  # in a list, so that its memory can be freed

    async def all_of_them() -> AsyncIterator[Sequence[Row]]:
        yield begun.pop()
        async for batch in batches:
            yield batch

    return all_of_them()


async def _stream(
    requester: str, batches: AsyncIterator[Sequence[Row]], line: Callable[[Row], bytes], *, beginning: bytes = b""
) -> AsyncIterator[bytes]:
    piece = bytearray(beginning)
    slices = TimeSlices(requester)
    async for rows in batches:
        for each in map(line, rows):
            await slices.pause()  # after each wait, too: an export that is read fast has time, and others don't
            piece += each
            if len(piece) >= _CHUNK:
                yield bytes(piece)
                piece.clear()
    if piece:
        yield bytes(piece)


def _ndjson_line(row: Row) -> bytes:
    return orjson.dumps(full_record(row), option=orjson.OPT_APPEND_NEWLINE)


def _csv_line(cells: Sequence[str]) -> bytes:
    """Return a line of CSV by RFC 4180, with every cell in quotes, and quotes doubled.

    LibreOffice's import dialog has comma, semicolon and tab ticked as separators: unquoted, `a;=1+1` would be two
    cells, and one of them a formula.
    """
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerow(cells)
    return text.getvalue().encode()
