"""A user of the service who knows what each response must be, and checks it."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import orjson

from bench.connection import Connection, Response
from events.task import Task

Action: TypeAlias = Literal["list", "get", "revalidate", "audit", "create or delete", "toggle", "update"]
ACTIONS: Mapping[Action, int] = {
    "list": 30, "get": 20, "revalidate": 20, "audit": 10,
    "create or delete": 10, "toggle": 5, "update": 5,
}  # fmt: skip
"""Actions, with their weights: eight in ten read, two write."""
READS: Sequence[Action] = ("list", "get", "revalidate", "audit")
WRITES: Sequence[Action] = ("create or delete", "toggle", "update")
PAGE = 50
"""Number of tasks or events in a page."""


class WrongResponse(Exception):
    """The response has another status, entity tag or body than the user's earlier writes allow."""


@dataclass(frozen=True, slots=True)
class ExpectedTask:
    """A task as its visitor knows it."""

    version: int
    completed: bool


@dataclass(slots=True)
class Visitor:
    """A user with one request at a time, and no other client: so the tasks and the log's end are always known."""

    user: str
    headers: bytes
    """Headers of every request, each ended by CR LF."""
    seq: int
    """Number of the user's last event: the loaded ones, and each write acknowledged since."""
    tasks: dict[str, ExpectedTask]
    usual: int = field(init=False)
    """Number of tasks that the user keeps, so that lists don't become longer, and slower, during a run."""

    def __post_init__(self) -> None:
        self.usual = len(self.tasks)

    async def act(self, action: Action, connection: Connection, chance: random.Random) -> None:
        """Send one request, and check its response. Raises `WrongResponse` or `NoResponse`."""
        match action:
            case "list":
                await self._list(connection)
            case "get":
                await self._get(connection, self._some(chance))
            case "revalidate":
                response = await connection.send(
                    self._get_request(f"tasks?limit={PAGE}", b'If-None-Match: "%d"' % self.seq)
                )
                self._expect(response, 304, tag=self.seq)
            case "audit":
                response = await connection.send(self._get_request(f"audit?limit={PAGE}"))
                self._expect(response, 200, beginning=b'[{"seq":%d,' % self.seq, end=b"}]")
            case "create or delete" if len(self.tasks) > self.usual:
                await self._delete(connection, self._some(chance))
            case "create or delete":
                await self._create(connection, f"task {chance.random()}")
            case "toggle":
                await self._toggle(connection, self._some(chance))
            case "update":
                await self._update(connection, self._some(chance), f"title {chance.random()}")

    def _some(self, chance: random.Random) -> str:
        return chance.choice(list(self.tasks))

    async def _list(self, connection: Connection) -> None:
        response = await connection.send(self._get_request(f"tasks?limit={PAGE}"))
        self._expect(response, 200, tag=self.seq, beginning=b"[", end=b"]")
        found = response.body.count(b'{"id":"')  # as Postgres writes it; in a text, the quotes would be escaped
        if found != min(PAGE, len(self.tasks)):
            raise WrongResponse(f"{self.user}: {found} tasks listed of {len(self.tasks)}")

    async def _get(self, connection: Connection, id_: str) -> None:
        response = await connection.send(self._get_request(f"tasks/{id_}"))
        self._expect(response, 200, tag=self.tasks[id_].version, beginning=b'{"id":"%b"' % id_.encode(), end=b"}")

    async def _create(self, connection: Connection, title: str) -> None:
        response = await connection.send(self._write_request("POST", "tasks", {"title": title, "description": title}))
        self._took(response, None, ExpectedTask(1, completed=False), title)

    async def _toggle(self, connection: Connection, id_: str) -> None:
        before = self.tasks[id_]
        response = await connection.send(self._write_request("PATCH", f"tasks/{id_}/complete"))
        self._took(response, id_, ExpectedTask(before.version + 1, completed=not before.completed))

    async def _update(self, connection: Connection, id_: str, title: str) -> None:
        before = self.tasks[id_]
        response = await connection.send(self._write_request("PATCH", f"tasks/{id_}", {"title": title}))
        self._took(response, id_, ExpectedTask(before.version + 1, completed=before.completed), title)

    async def _delete(self, connection: Connection, id_: str) -> None:
        self._expect(await connection.send(self._write_request("DELETE", f"tasks/{id_}")), 204)
        del self.tasks[id_]
        self.seq += 1

    def _took(self, response: Response, id_: str | None, after: ExpectedTask, title: str | None = None) -> None:
        """Check the response to a write, and keep its task. `id_` is None for a creation: the service makes the id."""
        self._expect(response, 200 if id_ else 201, tag=after.version, beginning=b"{", end=b"}")
        task = orjson.loads(response.body)
        found = task["user_id"], ExpectedTask(task["version"], completed=task["completed"])
        if found != (self.user, after) or id_ not in (None, task["id"]) or title not in (None, task["title"]):
            raise WrongResponse(f"{self.user}: {task} instead of {id_}, {after}, {title}")
        self.tasks[task["id"]] = after
        self.seq += 1

    def _expect(
        self, response: Response, status: int, *, tag: int | None = None, beginning: bytes = b"", end: bytes = b""
    ) -> None:
        tags = b"" if tag is None else b'"%d' % tag
        if (response.status, response.tag.partition(b"-")[0]) != (status, tags) or not (
            response.body.startswith(beginning) and response.body.endswith(end)
        ):
            raise WrongResponse(f"{self.user}: {response} instead of {status}, {tags!r}, {beginning!r} … {end!r}")

    def _get_request(self, path: str, condition: bytes = b"") -> bytes:
        return b"GET /api/%b/%b HTTP/1.1\r\n%b%b\r\n" % (
            *(self.user.encode(), path.encode(), self.headers),
            condition and condition + b"\r\n",
        )

    def _write_request(self, method: str, path: str, values: Mapping[str, str] | None = None) -> bytes:
        body = orjson.dumps(values) if values else b""
        kind = b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body) if values else b""
        return b"%b /api/%b/%b HTTP/1.1\r\n%b%b\r\n%b" % (
            *(method.encode(), self.user.encode(), path.encode(), self.headers, kind, body),
        )


def visitor(user: str, token: str, seq: int, tasks: Iterable[Task]) -> Visitor:
    """Make the visitor for a user whose log ends at `seq`."""
    headers = f"Host: 127.0.0.1\r\nUser-Agent: soak\r\nAuthorization: Bearer {token}\r\n".encode()
    return Visitor(
        user, headers, seq, {str(task.id): ExpectedTask(task.version, completed=task.completed) for task in tasks}
    )
