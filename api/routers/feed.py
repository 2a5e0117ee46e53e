"""The feed of a user's events, as server-sent events (docs/http-api.md, "Feed")."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime
from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Request, Response
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from starlette.types import Receive, Scope, Send

from api import examples
from api.audit_schemas import FeedEvent
from api.dependencies import Caller, CurrentCaller
from api.openapi import Reference, headers, problems, resumable
from api.parameters import FeedParameters
from api.problems import BadRequest, LogReplaced, TooManyStreams
from api.responses import JSON
from api.routing import Route
from api.server.disconnects import while_connected
from db.errors import UNAVAILABLE
from db.time_slices import TimeSlices
from events.projection import task_document
from events.records import record
from events.serialization import Row
from events.task import Task
from queries.audit import LAST_SEQ
from queries.feed import Feed, FeedPage, TooManyFeeds
from telemetry import metrics

_LONGEST = 30 * 60
"""Seconds after which a feed ends, so that feeds are spread over workers anew now and then."""
_SILENCE = 15
"""Seconds of silence after which a comment is sent, so that proxies don't take the connection for dead."""
_AGAIN = 1
"""Seconds after which the log is read again if the database couldn't be reached."""
_PIECE = 16 * 1024
"""Bytes that are sent at once, at least, if there are so many."""
_DIGITS = len(str(LAST_SEQ))
"""Digits of the longest number of an event."""
_FIRST = b"retry: 2000\nid: %d\n\n"
"""Has clients connect again after 2 s, and go on where they began if they are cut off before the first event."""
_HEADERS = {"X-Accel-Buffering": "no"}
"""Has nginx hand events on at once."""

router = APIRouter(prefix="/api/{user_id}", tags=["audit"], route_class=Route)


@router.get(
    "/audit/stream",
    operation_id="streamEvents",
    summary="What happens, as it happens",
    response_class=EventSourceResponse,
    responses={
        200: {
            "description": "The events, without an end",
            "content": {
                "text/event-stream": {
                    "schema": {"type": "string", "contentMediaType": JSON, "contentSchema": Reference(FeedEvent)},
                    "examples": examples.FEED_MESSAGES,
                }
            },
            **headers(),
        },
        **problems("notForAuditors", "badParameter", "logShorter", "tooManyStreams"),
    },
    openapi_extra=resumable(),
)
async def stream_events(caller: CurrentCaller, parameters: Annotated[FeedParameters, Query()]) -> Response:
    """The user's events after number `after` (or `Last-Event-ID`), else from now on, each with the task after it.

    The stream ends when the token expires, after 30 minutes at the most: connect again, as browsers do by themselves.
    """
    request = caller.request
    opened = AsyncExitStack()
    try:
        feed = await opened.enter_async_context(request.state.feeds.opened(caller.user))
    except TooManyFeeds as error:
        raise TooManyStreams(hint=str(error), headers={"Retry-After": "5"}) from None
    try:
        head = (await caller.store.head(caller.user)).seq
        after = _last_event_id(request)
        after = parameters.after if after is None else after
        if after is not None and after > head:
            raise LogReplaced(hint=f"There is no event {after}: the log has {head}. Sync anew.")
        token = request.headers["authorization"].partition(" ")[2].strip()
        seconds = min(_LONGEST, request.state.verifier.until(token) - time.time())
        return _Stream(caller, feed, opened, after=head if after is None else after, head=head, seconds=seconds)
    except BaseException:
        await opened.aclose()
        raise


def _last_event_id(request: Request) -> int | None:
    """Read `Last-Event-ID`, which goes before `after`: a browser that connects again sends both. Raise `BadRequest`."""
    text = request.headers.get("last-event-id", "")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= _DIGITS and int(text) <= LAST_SEQ):
        raise BadRequest(hint="Last-Event-ID must be the id of an event, a number.")
    return int(text)


class _Stream(EventSourceResponse):
    """A feed that is being sent. It ends by itself; the service's shutdown and the client's leaving end it at once."""

    def __init__(
        self, caller: Caller, feed: Feed, opened: AsyncExitStack, *, after: int, head: int, seconds: float
    ) -> None:
        self._pieces = self._events()
        super().__init__(self._pieces, headers=_HEADERS)
        self._caller, self._feed, self._opened = caller, feed, opened
        self._seq, self._head = after, head
        self._end = asyncio.get_running_loop().time() + seconds
        self._stopping = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - as ASGI has it
        """Send events until the end."""
        scope["state"]["on_shutdown"] = self._stop
        self._stopping = scope["state"].get("stopping", False)
        metrics.FEEDS_OPEN.inc()
        try:
            async with self._opened, aclosing(self._pieces):
                await while_connected(self._caller.request, self.stream_response(send))
        finally:
            metrics.FEEDS_OPEN.dec()

    def _stop(self) -> None:
        self._stopping = True
        self._feed.wake()

    async def _events(self) -> AsyncGenerator[bytes, None]:
        yield _FIRST % self._seq
        while True:
            reading = asyncio.create_task(self._next())
            try:
                while not (await asyncio.wait([reading], timeout=_SILENCE))[0]:
                    yield KEEPALIVE_COMMENT
                page = deque(reading.result())
            finally:
                reading.cancel()
            del reading  # and the page with it, which is sent piece by piece
            if not page:
                return
            slices = TimeSlices(self._caller.user)
            while page:
                yield self._piece(page)
                await slices.pause()

    async def _next(self) -> FeedPage:
        """Read the next page as soon as there are events; return an empty one at the end.

        The log isn't read while the user's head doesn't move: there may be many idle feeds.
        """
        clock = asyncio.get_running_loop().time
        while not self._stopping and (left := self._end - clock()) > 0:
            try:
                if page := await self._feed.read(self._caller.pool, after=self._seq):
                    return page
            except UNAVAILABLE:  # a browser would give up on a 503; here it just waits
                left = min(_AGAIN, left)
            await self._feed.wait(left)
        return ()

    def _piece(self, page: "deque[tuple[Row, Task | None]]") -> bytes:
        """Take the page's first messages, as many as are sent at once."""
        piece = bytearray()
        while page and len(piece) < _PIECE:
            row, task = page.popleft()
            piece += _message(row, task)
            self._seq = row["seq"]
            metrics.FEED_EVENTS.inc()
            if self._seq > self._head:
                metrics.FEED_LAG.observe((datetime.now(UTC) - row["at"]).total_seconds())
        return bytes(piece)


def _message(row: Row, task: Task | None) -> bytes:
    data = {**record(row), "task": None if task is None else orjson.Fragment(task_document(task))}
    return format_sse_event(id=str(row["seq"]), event=row["type"], data_str=orjson.dumps(data).decode())
