"""The service that the benchmark runs without its database answers creations, and writes none."""

import http.client
import json
from pathlib import Path

import jwt

from bench.service import serving
from db.pool import Pool

_SECRET = "a secret of the service's that is long enough"


async def test_a_creation_is_answered_and_not_written(pool: Pool, database: str, folder: Path) -> None:
    token = jwt.encode({"sub": "ann", "exp": 4102444800}, _SECRET, algorithm="HS256")
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    with serving(database, folder, secret=_SECRET, module="bench.ceiling") as service:
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
        connection.request("POST", "/api/ann/tasks", json.dumps({"title": "one"}), headers)
        with connection.getresponse() as response:
            assert (response.status, json.loads(response.read())["title"]) == (201, "one")
        connection.close()
    assert await pool.fetchval("SELECT count(*) FROM events") == 0
