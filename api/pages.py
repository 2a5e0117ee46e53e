"""Cursors and links from one page of a list to the next (RFC 8288)."""

import base64
from datetime import datetime
from typing import NamedTuple
from urllib.parse import quote, urlencode
from uuid import UUID

import orjson
from fastapi import Request

from api.errors import BadRequest
from api.models import ListParameters
from events.codec import rfc3339
from queries.tasks import Key, Order, Sort


class Selection(NamedTuple):
    """Which tasks, in which order: what a cursor is bound to."""

    completed: bool | None
    words: tuple[str, ...]
    sort: Sort
    order: Order
    as_of: datetime | None


def selection(parameters: ListParameters) -> Selection:
    """What the parameters ask for. Raises `BadRequest` where they contradict each other."""
    by_status = {"all": None, "pending": False, "completed": True}[parameters.status]
    completed = parameters.completed
    if by_status is not None and completed is not None and by_status != completed:
        raise BadRequest("status and completed contradict each other; give one of the two.")
    text = parameters.q if parameters.q is not None else parameters.search
    sort: Sort = parameters.sort.removeprefix("-")  # type: ignore[assignment] # a Literal less its sign
    descending = parameters.sort.startswith("-") or sort != "title"
    order: Order = parameters.order or ("desc" if descending else "asc")
    words = tuple((text or "").split())
    return Selection(by_status if completed is None else completed, words, sort, order, parameters.as_of)


def cursor(chosen: Selection, end: Key) -> str:
    """Where a page ended, opaque to the client and bound to its selection."""
    value, task_id = end
    key = rfc3339(value) if isinstance(value, datetime) else value
    return base64.urlsafe_b64encode(orjson.dumps([_question(chosen), key, task_id.hex])).rstrip(b"=").decode()


def start(chosen: Selection, text: str) -> Key:
    """The inverse of `cursor`. Raises `BadRequest` for one that isn't ours, or is of another selection."""
    unreadable = BadRequest("cursor can't be read; take it from the Link header as it is.")
    try:
        bound_to, key, task_id = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        end = UUID(task_id)
    except (ValueError, TypeError, AttributeError):
        raise unreadable from None
    if bound_to != _question(chosen):
        raise BadRequest("cursor belongs to another filter or order; begin again without it.")
    if not isinstance(key, str) or "\0" in key:
        raise unreadable
    if chosen.sort == "title":
        return key, end
    try:
        moment = datetime.fromisoformat(key)
        ours = rfc3339(moment) == key  # and so none that Postgres can't take, or would read in a zone of its own
    except (ValueError, OverflowError):
        raise unreadable from None
    if not ours:
        raise unreadable
    return moment, end


def _question(chosen: Selection) -> list[object]:
    """A selection as it stands in a cursor."""
    question: list[object] = [chosen.completed, list(chosen.words), chosen.sort, chosen.order]
    return question if chosen.as_of is None else [*question, rfc3339(chosen.as_of)]


def here(request: Request) -> str:
    """This request's path as a reference for headers: from the root, with what isn't ASCII or safe as %XX."""
    return quote(request.scope["path"], safe="/:@!$&'()*+,;=~")


def next_link(request: Request, name: str, place: str | int, *, instead_of: str = "") -> str:
    """The `Link` header to the next page: this request's own path and parameters, with where it goes on."""
    kept = [each for each in request.query_params.multi_items() if each[0] not in (name, instead_of)]
    return f'<{here(request)}?{urlencode([*kept, (name, place)])}>; rel="next"'
