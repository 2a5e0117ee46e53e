"""The benchmark's peer has the same tasks as the service, and responds to the same requests."""

import re
from pathlib import Path

import asyncpg
import orjson

from bench.connection import connect
from bench.kinds import KINDS, MIXED, request
from bench.load_generator import peer
from bench.people import LARGE, Creator, Person, populate
from db.dsn import connect_arguments
from tests.conftest import on_plain_postgres

_SECRET = "a secret of the peer's that is long enough"


@on_plain_postgres
async def test_the_peer_has_the_same_tasks_and_answers_the_same_requests(empty_database: str, folder: Path) -> None:
    with peer(empty_database, folder, _SECRET, workers=1) as service:
        loader = await asyncpg.connect(**connect_arguments(empty_database))
        person = await populate(loader, Creator("large-00"), LARGE, _SECRET)
        await loader.close()
        connection = await connect(service.port)
        for kind in (kind for kind in KINDS if kind.peer and not kind.deletes):
            response = await connection.send(next(kind.requests([person])))
            items = len(re.findall(rb'"created_at"', response.body))
            assert (response.status, items) == (kind.status, kind.items), kind.name
        task = request(person, "GET", f"tasks/{person.tasks[1]}")
        before = orjson.loads((await connection.send(task)).body)
        toggled = await connection.send(request(person, "PATCH", f"tasks/{person.tasks[1]}/complete"))
        assert orjson.loads(toggled.body)["completed"] is not before["completed"]
        gone = await connection.send(request(person, "DELETE", f"tasks/{person.tasks[1]}"))
        assert (gone.status, (await connection.send(task)).status) == (204, 404)
        connection.close()


def test_eight_in_ten_mixed_requests_read() -> None:
    person = Person("ann", b"", ["one"], 1)
    methods = [request.split(b" ", 1)[0] for request in MIXED.requests([person])]
    assert methods.count(b"GET") == 0.8 * len(methods)
