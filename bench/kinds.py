"""Kinds of requests, as bytes to send, and the responses that are expected."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import orjson

from bench.people import LARGE, Person


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of request, and the response that is expected."""

    name: str
    requests: Callable[[Sequence[Person]], Iterator[bytes]]
    status: int = 200
    items: int = 0
    """Number of tasks or events that the response must have."""
    large: bool = False
    """True if the users with a thousand tasks send it."""
    peer: bool = True
    """True if the peer has the endpoint too."""
    deletes: bool = False
    """True if the requests delete tasks: each can be sent only once."""
    renewed: bool = False
    """True if the requests are made anew for each round: sent a second time, they would change nothing."""


def request(person: Person, method: str, path: str, body: object = None, more: bytes = b"") -> bytes:
    """Return the bytes of a request to a path under `/api/{user_id}/`; `more` holds further headers."""
    content = b"" if body is None else orjson.dumps(body)
    kind = b"" if body is None else b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(content)
    head = f"{method} /api/{person.user}/{path} HTTP/1.1\r\n".encode()
    return b"%b%b%b%b\r\n%b" % (head, person.headers, kind, more, content)


def _each(people: Sequence[Person], of: Callable[[Person, str], bytes]) -> Iterator[bytes]:
    """Yield requests for some tasks of each user, by turns: neighbouring requests are of different users."""
    for ids in itertools.islice(zip(*(person.tasks for person in people), strict=False), 2_000 // len(people)):
        yield from (of(person, id_) for person, id_ in zip(people, ids, strict=True))


_BODY = {"title": "Buy oat milk before Friday", "description": "The shop across the street is open until eight."}


def _updates(people: Sequence[Person]) -> Iterator[bytes]:
    for _ in range(3):
        title = f"In week {next(_WEEK):06}"  # of one length, as the length of responses is checked
        yield from _each(people, lambda person, id_: request(person, "PATCH", f"tasks/{id_}", {"title": title}))  # noqa: B023 - used at once


_WEEK = itertools.count()


def _creations(people: Sequence[Person]) -> Iterator[bytes]:
    return (request(person, "POST", "tasks", _BODY) for person in people)


CREATE = Kind("create", _creations, 201, 1)
KINDS = (
    CREATE,
    Kind("get", lambda people: _each(people, lambda who, id_: request(who, "GET", f"tasks/{id_}")), 200, 1),
    Kind(
        "list of 1,000",
        lambda people: (request(who, "GET", "tasks?limit=1000") for who in people),
        items=LARGE,
        large=True,
    ),
    Kind("list, page of 50", lambda people: (request(who, "GET", "tasks?limit=50") for who in people), items=50),
    Kind(
        "toggle",
        lambda people: _each(people, lambda who, id_: request(who, "PATCH", f"tasks/{id_}/complete")),
        items=1,
    ),
    Kind("update", _updates, items=1, renewed=True),
    Kind("delete", lambda _: iter(()), 204, deletes=True),
    Kind(
        "audit, page of 100",
        lambda people: (request(who, "GET", "audit?limit=100") for who in people),
        items=100,
        peer=False,
    ),
    Kind(
        "list of 1,000, unchanged",
        lambda people: (
            request(who, "GET", "tasks?limit=1000", more=b'If-None-Match: "%d"\r\n' % who.seq) for who in people
        ),
        304,
        large=True,
        peer=False,
    ),
)


def _mixed(people: Sequence[Person]) -> Iterator[bytes]:
    """Yield eight reads, then two writes."""
    turns = zip(
        *(itertools.cycle(list(kind.requests(people))) for kind in (KINDS[3], KINDS[1], CREATE, KINDS[4], KINDS[5])),
        strict=True,
    )
    for number, (page, get, create, toggle, update) in enumerate(itertools.islice(turns, 4_000)):
        yield from (page, get, page, get, page, get, page, get)
        yield from ((create, toggle), (update, create), (toggle, update))[number % 3]


MIXED = Kind("80 % reads", _mixed)
