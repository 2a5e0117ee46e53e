"""The audit trail as pages and as an export, its head, and a task's history (docs/http-api.md, "History")."""

import asyncio
import csv
import io
import json
import re
import socket
from collections.abc import AsyncIterator, Iterable
from typing import Any
from uuid import UUID

import httpx2
import pytest
from structlog.testing import capture_logs
from uuid_utils.compat import uuid7

from api.routers import audit
from commands.commands import CreateTask, ToggleTask, UpdateTask
from commands.handler import handle
from db.pool import Pool
from events.records import CSV_COLUMNS
from events.store import log
from events.task import Metadata
from tests import independent
from tests.arrange import store_of, until
from tests.service import Service, bearer, listening, sql, value

AUDIT, TASKS = "/api/ann/audit", "/api/ann/tasks"
NDJSON = {"Accept": "application/x-ndjson"}
METADATA = Metadata(request_id="r", client_agent="tests")

pytestmark = pytest.mark.once


@pytest.fixture
async def task(service: Service) -> dict[str, Any]:
    """Make a task with an event of each type, and a second task with one event; return the first."""
    client = service.client
    made = await client.post(
        TASKS, json={"title": "Buy milk", "description": "2 litres"}, headers={"X-Request-ID": "r-1"}
    )
    path = made.headers["location"]
    await client.patch(path, json={"title": "Buy oat milk", "description": None})
    await client.post(TASKS, json={"title": "Another"})
    await client.patch(f"{path}/complete")
    await client.delete(path, headers={"Idempotency-Key": "k", "User-Agent": "curl/8.14.1"})
    body: dict[str, Any] = (await client.post(f"{path}/restore", json={"version": 1})).json()
    return body


async def get(service: Service, path: str = AUDIT, **parameters: Any) -> Any:
    answer = await service.client.get(path, params=parameters or None)
    assert answer.status_code == 200, answer.text
    return answer.json()


def seqs(events: Iterable[dict[str, Any]]) -> list[int]:
    return [event["seq"] for event in events]


def lines(answer: httpx2.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


async def test_each_event_says_what_happened_who_when_and_from_where(service: Service, task: dict[str, Any]) -> None:
    events = await get(service, order="asc")
    first = events[0]
    assert list(first) == [
        *("seq", "id", "type", "task_id", "version", "at", "actor", "request_id", "client", "changes", "hash")
    ]
    assert first == {
        "seq": 1,
        "id": str(UUID(first["id"])),
        "type": "TaskCreated",
        "task_id": task["id"],
        "version": 1,
        "at": task["created_at"],
        "actor": "ann",
        "request_id": "r-1",
        "client": {"address": "192.0.2.7", "agent": first["client"]["agent"]},
        "changes": {
            "title": {"from": None, "to": "Buy milk"},
            "description": {"from": None, "to": "2 litres"},
            "completed": {"from": None, "to": False},
        },
        "hash": first["hash"],
    }
    assert first["client"]["agent"].startswith("python-httpx2/")
    assert [event["type"].removeprefix("Task") for event in events] == [
        *("Created", "Updated", "Created", "Toggled", "Deleted", "Restored")
    ]
    assert events[4]["client"] == {"address": "192.0.2.7", "agent": "curl/8.14.1"}
    assert [event["changes"] for event in (events[1], *events[3:])] == [
        {"title": {"from": "Buy milk", "to": "Buy oat milk"}, "description": {"from": "2 litres", "to": None}},
        {"completed": {"from": False, "to": True}},
        {
            "title": {"from": "Buy oat milk", "to": None},
            "description": {"from": None, "to": None},
            "completed": {"from": True, "to": None},
        },
        {
            "title": {"from": None, "to": "Buy milk"},
            "description": {"from": None, "to": "2 litres"},
            "completed": {"from": None, "to": False},
        },
    ]


@pytest.mark.usefixtures("task")
async def test_an_event_is_the_one_in_the_log(service: Service, pool: Pool) -> None:
    rows = await pool.fetch("SELECT *, data::text AS data FROM events ORDER BY seq")
    events = await get(service, order="asc")
    assert [event["hash"] for event in events] == [hash_.hex() for hash_ in independent.chain(rows)]


async def test_the_filters(service: Service, task: dict[str, Any]) -> None:
    everything = await get(service)
    assert seqs(everything) == [6, 5, 4, 3, 2, 1]
    third = everything[3]["at"]
    cases: list[tuple[dict[str, Any], list[int]]] = [
        ({"order": "asc"}, [1, 2, 3, 4, 5, 6]),
        ({"order": "ASC", "limit": 2}, [1, 2]),
        ({"task_id": task["id"]}, [6, 5, 4, 2, 1]),
        ({"task_id": task["id"].upper(), "order": "asc", "after": 2}, [4, 5, 6]),
        ({"task_id": task["id"], "type": "TaskCreated"}, [1]),
        ({"task_id": str(uuid7())}, []),
        ({"type": "TaskCreated"}, [3, 1]),
        ({"type": ["TaskCreated", "TaskDeleted"]}, [5, 3, 1]),
        ({"since": third}, [6, 5, 4, 3]),
        ({"until": third}, [2, 1]),
        ({"since": third, "until": everything[1]["at"]}, [4, 3]),
        ({"since": "2100-01-01T00:00:00Z"}, []),
        ({"after": 4}, [6, 5]),
        ({"before": 3}, [2, 1]),
        ({"after": 1, "before": 5, "type": "TaskUpdated"}, [2]),
        ({"after": 6}, []),
        ({"after": 5, "before": 2}, []),
        ({"after": 2**63 - 1}, []),
        ({"before": 0}, []),
        ({"unknown": "x", "limit": 1}, [6]),
    ]
    for parameters, expected in cases:
        assert seqs(await get(service, **parameters)) == expected, parameters
        whole = await service.client.get(AUDIT, params={**parameters, "format": "ndjson"})
        assert seqs(lines(whole)) == expected, parameters


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("task_id", "42"),
        ("type", "TaskPainted"),
        ("type", "taskcreated"),
        ("since", "yesterday"),
        ("until", "2026-11-20"),
        ("after", "-1"),
        ("after", "x"),
        ("before", str(2**63)),
        ("order", "up"),
        ("limit", "0"),
        ("limit", "1001"),
        ("format", "xml"),
    ],
)
async def test_a_bad_parameter_is_400_and_names_what_is_allowed(service: Service, name: str, bad: str) -> None:
    answer = await service.client.get(AUDIT, params={name: bad})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == name


async def test_a_page_has_a_hundred_events_unless_asked_otherwise_and_links_to_the_next(
    service: Service, pool: Pool
) -> None:
    await many(pool, 101)
    answer = await service.client.get(AUDIT)
    assert seqs(answer.json()) == list(range(101, 1, -1))
    assert answer.headers["link"] == f'<{AUDIT}?before=2>; rel="next"'
    rest = await service.client.get(answer.links["next"]["url"])
    assert seqs(rest.json()) == [1]
    assert "link" not in rest.headers
    full = await service.client.get(AUDIT, params={"limit": 101})
    assert (len(full.json()), "link" in full.headers) == (101, False)
    both = await service.client.get(AUDIT, params={"type": ["TaskCreated", "TaskToggled"], "limit": 1, "before": 50})
    assert both.headers["link"] == f'<{AUDIT}?type=TaskCreated&type=TaskToggled&limit=1&before=49>; rel="next"'


async def many(pool: Pool, number: int, user: str = "ann") -> None:
    """Write so many events of a user, over ten tasks, from ten writers at once."""

    async def write(count: int) -> None:
        create = CreateTask(user_id=user, task_id=uuid7(), fields={"title": "x"})
        await handle(store_of(pool), create, actor=user, metadata=METADATA)
        for _ in range(count - 1):
            await handle(
                store_of(pool), ToggleTask(user_id=user, task_id=create.task_id), actor=user, metadata=METADATA
            )

    await asyncio.gather(*(write(len(range(each, number, 10))) for each in range(10)))


@pytest.mark.parametrize("order", ["desc", "asc"])
async def test_a_walk_from_link_to_link_misses_nothing_and_sees_nothing_twice_while_others_write(
    service: Service, pool: Pool, order: str
) -> None:
    await many(pool, 1000)
    writing = asyncio.gather(*(many(pool, 100) for _ in range(4)), many(pool, 100, "bob"))
    url: str | None = f"{AUDIT}?order={order}&limit=37"
    found: list[int] = []
    pages = 0
    while url:
        answer = await service.client.get(url)
        found += seqs(answer.json())
        pages += 1
        url = answer.links.get("next", {}).get("url")
    still_writing = not writing.done()
    await writing
    assert pages >= 1000 // 37
    if order == "desc":
        assert found == list(range(found[0], 0, -1))
        assert found[0] >= 1000
        assert still_writing or found[0] < 1400
    else:
        assert found == list(range(1, len(found) + 1))
        assert len(found) > 1000


async def test_a_users_trail_is_their_own(service: Service, task: dict[str, Any]) -> None:
    async with service.as_user("bob") as bob:
        assert (await bob.get("/api/bob/audit")).json() == []
        await bob.post("/api/bob/tasks", json={"title": "Bob's"})
        for query in ("", "?format=ndjson", "?format=csv", f"?task_id={task['id']}"):
            answer = await bob.get(f"/api/bob/audit{query}")
            assert answer.status_code == 200
            assert "ann" not in answer.text
            assert "milk" not in answer.text
        assert (await bob.get("/api/bob/audit/head")).json()["seq"] == 1


async def test_a_new_user_has_an_empty_trail(service: Service) -> None:
    assert await get(service) == []
    assert await get(service, f"{AUDIT}/head") == {"seq": 0, "hash": "", "at": None}
    assert (await service.client.get(AUDIT, headers=NDJSON)).content == b""
    table = await service.client.get(AUDIT, params={"format": "csv"})
    assert table.text == ",".join(f'"{name}"' for name in CSV_COLUMNS) + "\r\n"


@pytest.mark.usefixtures("task")
async def test_the_head_is_the_last_event(service: Service, pool: Pool) -> None:
    last = (await get(service, limit=1))[0]
    head = await get(service, f"{AUDIT}/head")
    assert head == {"seq": 6, "hash": last["hash"], "at": last["at"]}
    assert head["hash"] == (await pool.fetchval("SELECT hash FROM streams WHERE user_id = 'ann'")).hex()


async def test_the_history_is_the_tasks_own_events_oldest_first(service: Service, task: dict[str, Any]) -> None:
    path = f"{TASKS}/{task['id']}"
    history = await get(service, f"{path}/history")
    assert history == await get(service, task_id=task["id"], order="asc")
    await service.client.delete(path)
    assert seqs(await get(service, f"{path}/history")) == [1, 2, 4, 5, 6, 7]
    answer = await service.client.get(f"{path}/history?limit=4")
    assert seqs(answer.json()) == [1, 2, 4, 5]
    assert answer.headers["link"] == f'<{path}/history?limit=4&after=5>; rel="next"'
    assert seqs(await get(service, answer.links["next"]["url"])) == [6, 7]
    assert await get(service, f"{path}/history", after=7) == []


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("application/json", "application/json"),
        ("*/*", "application/json"),
        ("text/html, */*;q=0.1", "application/json"),
        ("image/png", "application/json"),
        ("application/x-ndjson", "application/x-ndjson"),
        ("Application/X-NDJSON; q=1", "application/x-ndjson"),
        ("application/json;q=0.5, application/x-ndjson", "application/x-ndjson"),
        ("text/csv;q=0.9, application/json", "application/json"),
        ("text/csv;header=present, */*;q=0.8", "text/csv; charset=utf-8; header=present"),
        ("text/csv;q=0", "application/json"),
        ("text/csv;q=x", "text/csv; charset=utf-8; header=present"),
    ],
)
async def test_the_form_is_the_one_that_the_client_likes_best(service: Service, accept: str, expected: str) -> None:
    answer = await service.client.get(AUDIT, headers={"Accept": accept})
    assert answer.headers["content-type"] == expected
    assert "Accept" in answer.headers["vary"]
    named = await service.client.get(f"{AUDIT}?format=json", headers={"Accept": accept})
    assert named.headers["content-type"] == "application/json"


@pytest.mark.usefixtures("task")
async def test_an_export_is_the_whole_log_with_all_that_it_takes_to_verify_it(service: Service, pool: Pool) -> None:
    await many(pool, 2 * log.READ_BATCH)
    answer = await service.client.get(f"{AUDIT}?order=asc", headers=NDJSON)
    assert answer.headers["content-disposition"] == 'attachment; filename="audit.ndjson"'
    events = lines(answer)
    pages = [page async for page in walk(service, f"{AUDIT}?order=asc&limit=1000")]
    assert [{name: event[name] for name in pages[0]} for event in events] == pages
    assert set(events[0]) - set(pages[0]) == {"user_id", "idempotency_key", "fingerprint", "salt", "data"}
    rows = [
        {
            **event,
            **{f"client_{name}": value for name, value in event["client"].items()},
            **{name: bytes.fromhex(event[name]) if event[name] else None for name in ("salt", "fingerprint")},
            "at": independent.moment(event["at"]),
            "data": json.dumps(event["data"]),
        }
        for event in events
    ]
    assert [hash_.hex() for hash_ in independent.chain(rows)] == [event["hash"] for event in events]
    assert len(events) == 6 + 2 * log.READ_BATCH
    newest_first = lines(await service.client.get(AUDIT, headers=NDJSON))
    assert newest_first == events[::-1]
    assert lines(await service.client.get(f"{AUDIT}?format=ndjson&limit=250")) == newest_first[:250]


async def walk(service: Service, url: str | None) -> AsyncIterator[dict[str, Any]]:
    while url:
        answer = await service.client.get(url)
        for event in answer.json():
            yield event
        url = answer.links.get("next", {}).get("url")


async def test_an_export_ends_where_the_log_ended_when_it_began(service: Service, pool: Pool) -> None:
    """An export that went on with new events would never end under enough writers."""
    await many(pool, 3 * log.READ_BATCH)
    found = b""

    async def send(message: Any) -> None:
        nonlocal found
        if not found and message.get("body"):
            await many(pool, log.READ_BATCH)
        found += message.get("body", b"")

    await service.asgi(request(AUDIT, "order=asc&format=ndjson"), forever, send)
    assert (await log.head(pool, "ann")).seq == 4 * log.READ_BATCH
    assert seqs(map(json.loads, found.splitlines())) == list(range(1, 3 * log.READ_BATCH + 1))


def request(path: str, query: str) -> dict[str, Any]:
    """Return a request of ann's as the app gets it from a server."""
    authorization = (b"authorization", bearer()["Authorization"].encode())
    return {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": query.encode(),
        "headers": [authorization],
        "client": None,
    }


async def forever() -> Any:
    """Wait forever, as for a client that says nothing more."""
    await asyncio.Event().wait()


NASTY = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(1)",
    '=HYPERLINK("http://x","y")',
    "=cmd|'/c calc'!A1",
    '"quoted", with, commas',
    "'apostrophe",
    ";; semicolon",
    "ünïcode 🥛",
    "\uff1d1+1",
    "tab\tin it",
]
DESCRIPTIONS = ["a\nb", "a\r\nb", "a\rb", " =1+1", "\t=1+1", "\n=1+1", '"', '""\n"', ",", "", None, "x" * 5000]


async def test_a_table_is_read_by_pythons_csv_as_it_was_written(service: Service) -> None:
    for title, description in zip(NASTY, DESCRIPTIONS, strict=True):
        create = CreateTask(user_id="ann", task_id=uuid7(), fields={"title": title, "description": description})
        await handle(store_of(service.pool), create, actor="ann", metadata=METADATA)  # also what the API refuses by now
    answer = await service.client.get(f"{AUDIT}?order=asc", headers={"Accept": "text/csv"})
    assert answer.headers["content-disposition"] == 'attachment; filename="audit.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text, newline=""), strict=True))
    for row, title, description in zip(rows, NASTY, DESCRIPTIONS, strict=True):
        assert row["title_to"].removeprefix("'") == title
        assert row["description_to"].removeprefix("'") == (description or "")
        assert json.loads(row["data"])["changes"]["description"] == {"from": None, "to": description}
        assert (row["type"], row["completed_to"], row["title_from"]) == ("TaskCreated", "false", "")
        for cell in row.values():
            assert not re.match("\\s*[-=+@\uff1d\uff0b\uff0d\uff20]", cell)


# Readers that are slow, or leave


@pytest.fixture
async def large(service: Service) -> None:
    """Write about 10 MB of export, more than the kernel keeps for a reader who doesn't read."""
    create = CreateTask(user_id="ann", task_id=uuid7(), fields={"title": "x"})
    await handle(store_of(service.pool), create, actor="ann", metadata=METADATA)
    for number in range(450):
        fields = UpdateTask(user_id="ann", task_id=create.task_id, fields={"description": "ab"[number % 2] * 5000})
        await handle(store_of(service.pool), fields, actor="ann", metadata=METADATA)


def ask(port: int, path: str) -> socket.socket:
    """Send a request without reading the answer; return the socket."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", port))
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer()['Authorization']}\r\n\r\n"
    connection.sendall(head.encode())
    return connection


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("form", ["ndjson", "csv"])
async def test_readers_that_do_not_read_hold_no_connection_and_leave_nothing_behind(
    service: Service, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_MOST_EXPORTS", 100)  # more than there are connections
    async with listening(service.asgi) as port:
        before = len(asyncio.all_tasks())
        readers = [ask(port, f"{AUDIT}?format={form}") for _ in range(int(value("daybook_pool_size")) + 5)]
        await until(lambda: len(asyncio.all_tasks()) >= before + len(readers))
        await until(lambda: value("daybook_pool_in_use") == 0)
        assert len(asyncio.all_tasks()) >= before + len(readers)  # they are all still being answered
        assert (await service.client.get(TASKS)).status_code == 200
        for reader in readers:
            reader.close()
        await until(lambda: len(asyncio.all_tasks()) <= before)
        assert value("daybook_pool_in_use") == 0


@pytest.mark.usefixtures("large")
async def test_a_user_has_a_few_exports_under_way_at_most(service: Service) -> None:
    async with listening(service.asgi) as port:
        readers = [ask(port, f"{AUDIT}?format=ndjson") for _ in range(audit._MOST_EXPORTS)]
        await until(lambda: audit._exports["ann"] == len(readers))
        refused = await service.client.get(AUDIT, params={"format": "csv"})
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/overloaded")
        assert (await service.client.get(AUDIT)).status_code == 200
        for reader in readers:
            reader.close()
        await until(lambda: not audit._exports)
    assert (await service.client.get(AUDIT, params={"format": "csv"})).status_code == 200


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("form", ["ndjson", "csv"])
async def test_an_export_is_sent_in_small_pieces(service: Service, form: str) -> None:
    """Small pieces show a slow reader's progress, and none is kept longer than needed."""
    pieces: list[int] = []

    async def send(message: Any) -> None:
        pieces.append(len(message.get("body", b"")))

    await service.asgi(request(AUDIT, f"format={form}"), forever, send)
    assert max(pieces) < 128 * 1024
    assert len(pieces) > 50


@pytest.mark.usefixtures("large")
async def test_a_slow_reader_gets_all_of_it(service: Service) -> None:
    async with listening(service.asgi) as port:
        reader = await asyncio.open_connection(sock=ask(port, f"{AUDIT}?format=ndjson&order=asc"), limit=2**20)
        await asyncio.sleep(0.2)
        found = []
        while (line := await reader[0].readline()) != b"0\r\n":
            found += re.findall(rb'"seq":(\d+)', line)
        reader[1].close()
    assert [*map(int, found)] == list(range(1, 452))


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("path", [f"{AUDIT}?format=ndjson", f"{AUDIT}?limit=1000"])
async def test_an_answer_that_its_client_cuts_off_is_logged_so(service: Service, path: str) -> None:
    with capture_logs() as logged:
        async with listening(service.asgi) as port:
            reader = await asyncio.open_connection(sock=ask(port, path))
            await reader[0].readline()
            reader[1].transport.abort()
            await until(lambda: any(line["event"] == "request" for line in logged))
        answer = await service.client.get(f"{AUDIT}?limit=1")
    requests = [(line["status"], line.get("cut_off", False)) for line in logged if line["event"] == "request"]
    assert (answer.status_code, requests) == (200, [(200, True), (200, False)])


@pytest.mark.usefixtures("large")
async def test_a_stream_that_breaks_off_does_not_look_complete(service: Service, pool: Pool) -> None:
    async with (
        listening(service.asgi) as port,
        httpx2.AsyncClient(headers=bearer()) as client,
        client.stream("GET", f"http://127.0.0.1:{port}{AUDIT}?format=ndjson") as answer,
    ):
        assert answer.status_code == 200
        await sql(pool, "ALTER TABLE events RENAME TO away")
        with pytest.raises(httpx2.RemoteProtocolError):
            await answer.aread()


async def test_a_stream_that_cannot_begin_is_an_error(service: Service, pool: Pool) -> None:
    await sql(pool, "ALTER TABLE events RENAME TO away")
    answer = await service.client.get(AUDIT, headers=NDJSON)
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")


@pytest.mark.parametrize("name", ["type", "actor"])
async def test_a_filter_has_at_most_twenty_values(service: Service, name: str) -> None:
    value = {"type": "TaskCreated", "actor": "ann"}[name]
    assert (await service.client.get("/api/ann/audit", params={name: [value] * 20})).status_code == 200
    refused = await service.client.get("/api/ann/audit", params={name: [value] * 21})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, name)
