"""Cursors and links from one page of a list to the next (RFC 8288)."""

import base64
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID

import orjson
from fastapi import Request

from api.parameters import ListParameters, distinct_words
from api.problems import BadRequest
from events.serialization import rfc3339
from queries.audit import LAST_SEQ
from queries.tasks import NULLABLE, UTC_ZONE, ListQuery, Order, PageKey, Sort

_LONGEST_PAGE, _PAGE = 1000, 50
"""Tasks on a page unless a size is given: by default, and if pages are requested by number."""


def list_query(parameters: ListParameters) -> ListQuery:
    """Return the list that the parameters ask for.

    Raises `BadRequest` if they contradict each other, or if the cursor isn't ours or is of another list.
    """
    by_status = {"all": None, "pending": False, "completed": True}[parameters.status]
    completed = parameters.completed
    if by_status is not None and completed is not None and by_status != completed:
        raise BadRequest(hint="status and completed contradict each other; give one of the two.")
    text = _either(parameters, "q", "search")
    by = _either(parameters, "sort", "sort_by") or "created_at"
    column, _, direction = by.partition(":")
    sort: Sort = column  # type: ignore[assignment] # api.parameters made it one
    usual = "asc" if sort in ("title", "due_date") else "desc"
    order: Order = _either(parameters, "order", "sort_order") or direction or usual  # type: ignore[assignment] # ditto
    offset, limit = _span(parameters)
    asked = ListQuery(
        completed=by_status if completed is None else completed,
        priority=parameters.priority,
        tags=tuple(dict.fromkeys(parameters.tag)),
        due_before=parameters.due_before,
        due_after=parameters.due_after,
        overdue=parameters.overdue,
        zone=parameters.tz or UTC_ZONE,
        words=distinct_words(text or ""),
        sort=sort,
        order=order,
        as_of=parameters.as_of,
        limit=limit,
        offset=offset,
    )
    if parameters.cursor is None:
        return asked
    after, upto = _start(asked, parameters.cursor)
    return replace(asked, after=after, upto=upto)


def _span(parameters: ListParameters) -> tuple[int, int]:
    """Return the numbers of tasks to skip, and to return at most. Raises `BadRequest` on a conflict."""
    page, offset = parameters.page, _either(parameters, "offset", "skip")
    size = _either(parameters, "page_size", "per_page")
    if sum(each is not None for each in (page, offset, parameters.cursor)) > 1:
        raise BadRequest(hint="cursor, offset (or skip) and page exclude each other; give one of them.")
    if size is not None and parameters.limit not in (None, size):
        raise BadRequest(hint="limit and page_size contradict each other; give one of the two.")
    limit = size or parameters.limit or (_LONGEST_PAGE if page is None else _PAGE)
    if page is not None:
        offset = (page - 1) * limit
    return offset or 0, limit


def _either(parameters: ListParameters, name: str, other: str) -> Any:
    """Return the value of a parameter that has two names. Raises `BadRequest` if both are given and differ."""
    one, two = getattr(parameters, name), getattr(parameters, other)
    if one is not None and two is not None and one != two:
        raise BadRequest(hint=f"{name} and {other} contradict each other; give one of the two.")
    return two if one is None else one


def cursor(asked: ListQuery, end: PageKey, head: int) -> str:
    """Encode the end of a page as a cursor, opaque to the client and bound to the list's filter and order.

    A past list's is also bound to the log as the first page has seen it: up to `asked.upto`, or else to the `head`.
    """
    value, task_id = end
    key = rfc3339(value) if isinstance(value, datetime) else value
    place = [_question(asked), key, task_id.hex]
    if asked.as_of is not None:
        place.append(head if asked.upto is None else asked.upto)
    return base64.urlsafe_b64encode(orjson.dumps(place)).rstrip(b"=").decode()


_UNREADABLE = "cursor can't be read; take it from the Link header as it is."


def _start(asked: ListQuery, text: str) -> tuple[PageKey, int | None]:
    """Decode a cursor to the end of its page, and of a past list to the number of the last event that counts.

    Raises `BadRequest` if it isn't ours, or is of another list.
    """
    unreadable = BadRequest(hint=_UNREADABLE)
    try:
        bound_to, key, task_id, *upto = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        end = UUID(task_id)
    except (ValueError, TypeError, AttributeError):
        raise unreadable from None
    if bound_to != _question(asked):
        raise BadRequest(hint="cursor belongs to another filter or order; begin again without it.")
    if asked.as_of is None and not upto:
        return _key(asked, key, end), None
    if asked.as_of is None or len(upto) != 1 or type(upto[0]) is not int or not 0 <= upto[0] <= LAST_SEQ:
        raise unreadable
    return _key(asked, key, end), upto[0]


def _key(asked: ListQuery, key: object, end: UUID) -> PageKey:
    """Read the key of a page's end. Raises `BadRequest` if no task can have it."""
    unreadable = BadRequest(hint=_UNREADABLE)
    if key is None and asked.sort in NULLABLE:
        return None, end
    if asked.sort == "priority":
        if type(key) is not int or key not in (1, 2, 3):
            raise unreadable
        return key, end
    if not isinstance(key, str) or "\0" in key:
        raise unreadable
    if asked.sort in ("title", "due_date"):
        return key, end
    try:
        moment = datetime.fromisoformat(key)
        ours = rfc3339(moment) == key  # so Postgres can take it, and won't read it in another zone
    except (ValueError, OverflowError):
        raise unreadable from None
    if not ours:
        raise unreadable
    return moment, end


def _question(asked: ListQuery) -> list[object]:
    """Return a list's filter and order in the form that a cursor holds."""
    question: list[object] = [asked.completed, list(asked.words), asked.sort, asked.order]
    if asked.has_filters:
        due = (asked.due_before, asked.due_after, asked.overdue, asked.zone.key)
        question.append([asked.priority, list(asked.tags), *due])
    return question if asked.as_of is None else [*question, rfc3339(asked.as_of)]


def here(request: Request) -> str:
    """Return this request's path as a reference for headers: from the root, with %XX for unsafe and non-ASCII bytes."""
    return quote(request.scope["path"], safe="/:@!$&'()*+,;=~")


def next_list(request: Request, asked: ListQuery, end: PageKey, head: int) -> str:
    """Make the `Link` header to the next page of tasks, by cursor even if this page was found by offset or number.

    `head` is the number of the user's last event.
    """
    by_number = [name for name in ("page", "page_size", "per_page") if name in request.query_params]
    instead_of = ("offset", "skip", *(by_number and (*by_number, "limit")))
    size = [("limit", asked.limit)] if by_number else []
    return next_link(request, *size, ("cursor", cursor(asked, end, head)), instead_of=instead_of)


def next_link(request: Request, *places: tuple[str, str | int], instead_of: Collection[str] = ()) -> str:
    """Make the `Link` header to the next page: this request's path and parameters, with `places` set to its start.

    Parameters in `instead_of` are left out.
    """
    replaced = {name for name, _ in places}.union(instead_of)
    kept = [each for each in request.query_params.multi_items() if each[0] not in replaced]
    return f'<{here(request)}?{urlencode([*kept, *places])}>; rel="next"'
